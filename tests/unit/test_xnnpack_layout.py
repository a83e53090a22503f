"""XNNPACK's layout computes what the models compute, for every shape of model there is."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from torch import nn

from edge_tta.config import ModelConfig
from edge_tta.model.checkpoint import build_module
from edge_tta.model.presets import preset
from edge_tta.runtime.golden import signal_to_noise_db
from export.to_executorch import xnnpack_modules
from export.wrappers import ModelParts, stage_graphs
from export.xnnpack_excitation import RunningSum
from export.xnnpack_layers import Arctangent

TINY = preset("edge-tiny")


def changed(**parts: dict[str, Any]) -> ModelConfig:
    """The tiny preset with other settings."""
    return dataclasses.replace(
        TINY, **{name: dataclasses.replace(getattr(TINY, name), **values) for name, values in parts.items()}
    )


MODELS = {
    "tiny": TINY,
    "own modulation, two joint blocks": changed(
        generator={"shared_modulation": False, "joint_blocks": 2, "kernel": 5}
    ),
    "stereo": changed(audio={"channels": 2}),
    "stacked latent": changed(
        audio={"hop": 256, "latent_channels": 8}, generator={"latent_channels": 8}, codec={"stack": 2}
    ),
    "no gains in time": changed(codec={"envelope_steps": 0}),
    "short noise, another window": changed(
        codec={"n_fft": 16, "stft_hop": 8, "noise_frames": 7, "tonal_bins": 5}
    ),
    "deep text, other widths": changed(
        text_encoder={"depth": 3, "width": 12}, generator={"text_width": 12, "heads": 1}
    ),
}


def parts_of(config: ModelConfig) -> ModelParts:
    """Random weights, also where training starts from zeros."""
    modules: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for part in ("text_encoder", "generator", "codec"):
            modules[part] = build_module(part, config).eval()
            for weight in modules[part].parameters():
                if weight.detach().eq(weight.detach().flatten()[0]).all():
                    nn.init.normal_(weight, std=0.1)
        codec = modules["codec"]
        bins = codec.decoder.geometry.bins
        codec.set_bin_statistics(torch.randn(bins) - 6, torch.rand(bins) + 1)
        channels = config.codec.latent_channels
        codec.set_latent_statistics(torch.randn(channels), torch.rand(channels) + 0.5)
    return ModelParts(config, modules["text_encoder"], modules["generator"], codec.decoder)


@pytest.mark.parametrize("single_step", [False, True], ids=["any steps", "one step"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_the_original(name: str, single_step: bool) -> None:
    parts = parts_of(MODELS[name])
    stages = stage_graphs(parts, single_step=single_step)
    for stage, module in xnnpack_modules(parts, single_step).items():
        with torch.no_grad():
            expected = stages[stage].module(*stages[stage].inputs)
            made = module(*stages[stage].inputs)
        if not isinstance(expected, tuple):
            expected, made = (expected,), (made,)
        for one, other in zip(expected, made, strict=True):
            assert one.shape == other.shape
            assert signal_to_noise_db(one.numpy(), other.numpy()) > 95, stage


def test_folding_one_step_changes_no_bit() -> None:
    parts = parts_of(TINY)
    general, folded = (stage_graphs(parts, single_step=single)["generator"] for single in (False, True))
    assert [port.name for port in folded.input_ports] == ["latent", "tokens", "pooled", "seconds", "guidance"]
    with torch.no_grad():
        assert torch.equal(general.module(*general.inputs), folded.module(*folded.inputs))
    names = {name for name, _ in folded.module.named_parameters()}
    assert not any("time_in" in name or "duration_in" in name for name in names)
    assert any("time_in" in name for name, _ in parts.generator.named_parameters())


def test_the_model_stays_as_it_was() -> None:
    parts = parts_of(TINY)
    before = copy.deepcopy(parts.generator.state_dict())
    for module in xnnpack_modules(parts, False).values():
        with torch.no_grad():
            for weight in module.parameters():
                weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in parts.generator.state_dict().items())
    assert not parts.generator.explicit_attention
    stage_graphs(parts, explicit_attention=True)
    assert not parts.generator.explicit_attention


def test_every_length_up_to_the_longest() -> None:
    parts = parts_of(TINY)
    stages, modules = stage_graphs(parts), xnnpack_modules(parts, False)
    make = torch.Generator().manual_seed(0)
    for frames, tokens in ((1, 1), (2, 16), (4135, 3)):
        latent = torch.randn(1, frames, 4, generator=make)
        text = torch.randn(1, tokens, 8, generator=make), torch.randn(1, 8, generator=make)
        scalars = torch.full((1,), 0.5), torch.full((1,), 0.25)
        with torch.no_grad():
            given = (latent, *scalars, *text, *scalars)
            expected, made = stages["generator"].module(*given), modules["generator"](*given)
            assert signal_to_noise_db(expected.numpy(), made.numpy()) > 95
            waveform = modules["decoder"](latent)
        assert waveform.shape == (1, 1, frames * 128)


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e3])
def test_arctangents_of_all_directions(length: float) -> None:
    angle = torch.linspace(-math.pi, math.pi, 20001, dtype=torch.float64)[1:-1]
    y, x = (length * torch.sin(angle)).float(), (length * torch.cos(angle)).float()
    made = Arctangent()(y, x)
    torch.testing.assert_close(made.double(), torch.atan2(y.double(), x.double()), atol=6e-7, rtol=0)


def test_running_sums_stay_exact_over_minutes() -> None:
    steps = torch.full((4 * 20_000, 3), math.pi)
    made = RunningSum(4)(steps).view(-1, 3).double()
    exact = torch.cumsum(steps.double(), dim=0)
    # Rounding of the sum itself to float32, and of the three steps that are added last.
    torch.testing.assert_close(made, exact, atol=0, rtol=2.0**-22)
