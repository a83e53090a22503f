"""Quantization-aware training on the tiny preset: what four bits cost without it, and how much of that comes back."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from edge_tta.cli.main import app
from edge_tta.config import ModelConfig
from edge_tta.model.checkpoint import ModelCheckpoint, build_module, load_model_checkpoint, save_part
from edge_tta.model.fake_quantization import fake_quantize
from edge_tta.model.generator import Generator
from edge_tta.model.scheme import StageScheme
from edge_tta.noise import gaussian_noise
from edge_tta.text import Tokenizer
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe
from export.tiny import tiny_checkpoint
from quantization.signal_to_noise import decibels, noise_share

PROMPTS = ("a kettle coming to the boil", "gravel under a bicycle", "an oar dipping into the lake")
"""In no caption grammar, so never trained on."""
SHORT = (
    "data.windows.min_seconds=0.06",
    "data.windows.short_seconds=0.1",
    "data.windows.max_seconds=0.2",
    "generator.quantization.min_elements=64",
)
STEPS = 150
GENERATOR_SEED = 106
GATES = 20.0
"""Random modulations are small: without this the blocks would hardly take part in the output."""


def read(folder: Path) -> tuple[ModelCheckpoint, Generator]:
    loaded = load_model_checkpoint(folder)
    assert loaded.generator is not None
    return loaded, loaded.generator


@torch.no_grad()
def answers(generator: Generator, checkpoint: ModelCheckpoint) -> list[Tensor]:
    """One-step velocities for prompts, lengths, seeds and scales that training has not seen."""
    assert checkpoint.tokenizer is not None and checkpoint.text_encoder is not None
    tokenizer = Tokenizer(checkpoint.tokenizer, checkpoint.config.text_encoder.max_tokens)
    one = torch.ones(1)
    found = []
    for number, prompt in enumerate(PROMPTS * 4):
        tokens, pooled = checkpoint.text_encoder(torch.from_numpy(tokenizer.encode(prompt).ids)[None])
        noise = torch.from_numpy(gaussian_noise(10**6 + number, (20 + 5 * number, 4)))[None]
        scale = 2 + number / 4
        found.append(generator(noise, one, one, tokens, pooled, 0.1 * one, scale * one))
    return found


def closeness(generator: Generator, checkpoint: ModelCheckpoint, expected: list[Tensor]) -> float:
    pairs = zip(expected, answers(generator, checkpoint), strict=True)
    shares = [noise_share(before.numpy(), after.numpy()) for before, after in pairs]
    return decibels(sum(shares) / len(shares))


def imitation(generator: Generator, settings: StageScheme) -> Generator:
    rounded = copy.deepcopy(generator)
    fake_quantize(rounded, settings, "generator")
    return rounded


def own_generator(config: ModelConfig) -> nn.Module:
    """Weights of this test's own: random networks differ in how much of their rounding can be trained back."""
    with torch.random.fork_rng():
        torch.manual_seed(GENERATOR_SEED)
        generator = build_module("generator", config)
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                if not parameter.any():
                    nn.init.normal_(parameter, std=0.05)
                if "modulation" in name:
                    parameter.mul_(GATES)
    return generator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the float model and of what quantization-aware training made of it, on couples of its own."""
    root = tmp_path_factory.mktemp("quantization-aware")
    model, target, couples = root / "model", root / "target", root / "couples"
    tiny = tiny_checkpoint()
    parts = {"codec": tiny.codec, "text_encoder": tiny.text_encoder, "generator": own_generator(tiny.config)}
    for part, module in parts.items():
        assert module is not None
        save_part(model, tiny.config, part, module)
    assert tiny.tokenizer is not None
    (model / "tokenizer.model").write_bytes(tiny.tokenizer)
    shutil.copytree(model, target)
    settings = [
        "preset=edge-tiny",
        f"checkpoint={target}",
        f"generator.start={model}",
        f"generator.teacher={model}",
        *SHORT,
    ]
    chosen = [item for setting in settings for item in ("--set", setting)]
    arguments = ["couples", "quantization-aware", "-o", str(couples), "--count", "64", "--quiet", "--json"]
    made = CliRunner().invoke(app, [*arguments, *chosen])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["couples"] == 64
    loop = [f"loop.steps={STEPS}", "loop.learning_rate=3e-3", "generator.frames=200"]
    result = run_recipe(
        "quantization-aware",
        [*settings, *loop, f"generator.couples={couples}"],
        output=root / "run",
    )
    assert result["finished"]
    return model, target


def test_training_recovers_what_four_bits_lose(trained: tuple[Path, Path]) -> None:
    """On prompts, seeds and lengths that were not trained on."""
    checkpoint, before = read(trained[0])
    _, after = read(trained[1])
    recipe = load_recipe("quantization-aware", [SHORT[-1]]).generator
    assert recipe is not None and recipe.quantization is not None
    settings = recipe.quantization
    expected = answers(before, checkpoint)
    plain = closeness(imitation(before, settings), checkpoint, expected)
    recovered = closeness(imitation(after, settings), checkpoint, expected)
    assert plain < 25 and recovered > plain + 3.0, (plain, recovered)
    # Parameters are those of a plain generator, and the gain is there because they are rounded, not without it.
    assert before.state_dict().keys() == after.state_dict().keys()
    assert closeness(after, checkpoint, expected) < 60
