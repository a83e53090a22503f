"""int8 for XNNPACK: which layers a recipe reaches, how close they stay, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchao")
pytest.importorskip("executorch")
import torch
from torch import nn

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import build_module
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset
from edge_tta.runtime.golden import signal_to_noise_db
from export.recipe import VariantRecipe
from export.to_executorch import PREFIXES, xnnpack_modules
from export.wrappers import ModelParts, stage_graphs
from export.xnnpack_generator import XnnpackGenerator
from quantization.executorch import quantize_linears
from quantization.recipe import QuantizationRecipe, load_recipe

INT8 = 'scheme = { weights = "int8", activations = "dynamic" }'


def parts_of(config: ModelConfig) -> ModelParts:
    """Random weights, also where training starts from zeros."""
    modules: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in ("text_encoder", "generator", "codec"):
            modules[part] = build_module(part, config).eval()
            for weight in modules[part].parameters():
                if not weight.any():
                    nn.init.normal_(weight, std=0.05)
    return ModelParts(config, modules["text_encoder"], modules["generator"], modules["codec"].decoder)


def linears(stage: str, module: nn.Module) -> dict[str, nn.Linear]:
    """Linears by the name of their weight, as recipes know them."""
    return {
        f"{PREFIXES[stage]}.{path}.weight": layer
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    }


def generator_recipe(tmp_path: Path, table: str, target: str = "executorch") -> QuantizationRecipe:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\ntarget = "{target}"\n[generator]\n{table}\n')
    return load_recipe(str(path))


def check_reach(stage: str, layers: dict[str, nn.Linear], least: float) -> None:
    """Every rule matches something, and most weights become int8."""
    settings = load_recipe("executorch-int8").stage(stage)
    for rule in settings.layers:
        assert any(settings.rule_of(name) is rule for name in layers), rule.pattern
    elements = {name: layer.weight.numel() for name, layer in layers.items()}
    quantized = sum(n for name, n in elements.items() if not settings.scheme_of(name, n).is_float)
    assert quantized > least * sum(elements.values())


def test_the_packaged_recipe_fits_every_stage_and_the_flagship() -> None:
    for stage, module in xnnpack_modules(parts_of(preset("edge-10m")), False).items():
        check_reach(
            stage, linears(stage, module), {"text_encoder": 0.99, "generator": 0.8, "decoder": 0.7}[stage]
        )
    with torch.device("meta"):
        flagship = XnnpackGenerator(Generator(preset("edge-120m").generator), 259, 64)
    check_reach("generator", linears("generator", flagship), 0.95)


def test_int8_is_close_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    parts = parts_of(preset("edge-10m"))
    stage = stage_graphs(parts)["generator"]
    module = xnnpack_modules(parts, False)["generator"]
    before = {name: layer.weight.detach().clone() for name, layer in linears("generator", module).items()}
    chosen = quantize_linears("generator", "generator", module, load_recipe("executorch-int8"))
    assert len(chosen) > 40 and not any("_in." in name or "modulation" in name for name in chosen)
    for name, layer in linears("generator", module).items():
        if name not in chosen:
            assert torch.equal(layer.weight, before[name]), name
        else:
            stored = layer.weight.dequantize()
            # Rounding to a step of a 127th of each row's largest weight.
            step = before[name].abs().amax(dim=1, keepdim=True) / 127
            assert ((stored - before[name]).abs() <= 0.51 * step).all(), name
    with torch.no_grad():
        expected, made = stage.module(*stage.inputs), module(*stage.inputs)
    assert 25 < signal_to_noise_db(expected.numpy(), made.numpy()) < 60


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('scheme = { weights = "int8" }', "drops their scale: the output is noise"),
        ('scheme = { weights = "bfloat16" }', "XNNPACK takes no bfloat16 layer"),
        (
            'scheme = { weights = "int8", activations = "static" }',
            "int8 per channel, static inputs is refused",
        ),
        (
            'scheme = { weights = "int8", activations = "dynamic", granularity = "tensor" }',
            "kernels for int8 and int4 weights per channel or block",
        ),
        (
            'scheme = { weights = "int8", activations = "dynamic", reduce_range = true }',
            "seven bits only cost precision",
        ),
        (
            'scheme = { weights = "int4", activations = "dynamic", granularity = "block", block_size = 256 }',
            "blocks of 256 do not divide",
        ),
        (
            f'{INT8}\n[[generator.layers]]\npattern = "*convolution*"\nreason = "?"',
            "matches no layer of generator",
        ),
        (f"{INT8}\nmin_elements = 1000000", "no layer of generator would be quantized"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_reason(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        recipe = generator_recipe(
            tmp_path, table if "min_elements" in table else f"min_elements = 64\n{table}"
        )
        module = xnnpack_modules(parts_of(preset("edge-tiny")), False)["generator"]
        quantize_linears("generator", "generator", module, recipe)


def test_recipes_and_precisions_of_other_targets_are_refused() -> None:
    module = nn.ModuleDict({"layer": nn.Linear(64, 64)})
    with pytest.raises(ConfigError, match="is for onnx, not for executorch"):
        quantize_linears("generator", "generator", module, load_recipe("onnx-int8"))
    with pytest.raises(
        ConfigError, match="for executorch through xnnpack there are fp32, int8, int4, not fp16"
    ):
        VariantRecipe("executorch", "fp16")


def test_four_bits_in_blocks(tmp_path: Path) -> None:
    scheme = '{ weights = "int4", activations = "dynamic", granularity = "block", block_size = 32 }'
    recipe = generator_recipe(tmp_path, f"scheme = {scheme}\nmin_elements = 64")
    layer = nn.Linear(64, 96)
    before = layer.weight.detach().clone()
    quantize_linears("generator", "generator", nn.ModuleDict({"layer": layer}), recipe)
    error = (layer.weight.dequantize() - before).abs().reshape(96, 2, 32).amax(-1)
    step = before.abs().reshape(96, 2, 32).amax(-1) / 7
    assert (error <= 0.51 * step + 1e-3).all() and error.max() > 0
