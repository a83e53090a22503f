"""Quantization recipes: what they may say, and what is refused with its reason before any work."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from quantization.recipe import QuantizationRecipe, load_recipe

PACKAGED = sorted(
    entry.name.removesuffix(".toml")
    for entry in resources.files("quantization").joinpath("recipes").iterdir()
)
DYNAMIC = Scheme("int8", "dynamic", reduce_range=True)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_recipes_load_and_give_a_reason_for_every_exception(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.description
    stages = [recipe.text_encoder, recipe.generator, recipe.decoder]
    assert not all(stage.is_float for stage in stages)
    for rule in (rule for stage in stages for rule in stage.layers):
        assert len(rule.reason.split()) > 1, rule


def test_a_recipe_file_says_per_stage_what_becomes_of_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        name = "mine"
        target = "onnx"
        [generator]
        min_elements = 100
        scheme = { weights = "int4", granularity = "block", block_size = 32 }
        [[generator.layers]]
        pattern = "generator.out.*"
        reason = "last layer"
        [[generator.layers]]
        pattern = "generator.*.weight"
        reason = "everything else"
        scheme = { weights = "int8", activations = "dynamic" }
        """
    )
    recipe = load_recipe(str(path))
    assert recipe.text_encoder.is_float and recipe.decoder.is_float and not recipe.generator.is_float
    scheme_of = recipe.generator.scheme_of
    assert scheme_of("generator.out.weight", 10**6).is_float
    assert scheme_of("generator.in.weight", 1) == Scheme("int8", "dynamic")
    assert scheme_of("other", 100) == Scheme("int4", "float", "block", 32)
    assert scheme_of("other", 99).is_float
    assert not recipe.is_static
    with pytest.raises(ConfigError, match="unknown stage 'codec'"):
        recipe.stage("codec")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "int8", "granularity": "block", "block_size": 48}, "block_size 48 is none of 16, 32"),
        ({"weights": "int8", "block_size": 32}, "needs granularity 'block'"),
        ({"activations": "dynamic"}, "float weights have neither"),
        ({"weights": "int4", "granularity": "block", "block_size": 32, "reduce_range": True}, "int8 weights"),
    ],
)
def test_schemes_that_contradict_themselves(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheme(**settings)


def test_an_exception_without_a_reason_is_no_exception() -> None:
    with pytest.raises(ConfigError, match=r"rule for 'decoder\.\*' gives no reason"):
        LayerRule("decoder.*", "  ")


@pytest.mark.parametrize(
    ("target", "scheme", "reason"),
    [
        ("onnx", Scheme("uint8", "dynamic"), "unsigned.* half as fast"),
        ("onnx", Scheme("bfloat16"), "bfloat16"),
        ("executorch", Scheme("bfloat16"), "15 s"),
        ("onnx", Scheme("int8", "dynamic", "tensor"), "14 dB .* 34 dB per channel"),
        ("onnx", Scheme("int4", "dynamic"), "16 dB .* 21 dB in blocks"),
        ("onnx", Scheme("int8", "float", "block", 32), "times as long"),
        ("onnx", Scheme("int8", "static", "block", 32), "would leave fixed ones aside"),
        ("executorch", Scheme("int8", "static"), "with dynamic inputs"),
        ("executorch", Scheme("uint8", "dynamic"), "with dynamic inputs"),
        ("executorch", Scheme("int8", "dynamic", reduce_range=True), "cannot saturate"),
        ("executorch", Scheme("int8"), "drops their scale.*-66 dB"),
        ("executorch", Scheme("int4", "float", "block", 32), "-66 dB"),
    ],
)
def test_known_faults_are_refused_with_what_was_measured(target: Any, scheme: Scheme, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"decoder: .*refused on {target}.*{reason}"):
        QuantizationRecipe("r", target, decoder=StageScheme(scheme))
    rule = LayerRule("*", "to see it refused in a rule as well", scheme)
    with pytest.raises(ConfigError, match=reason):
        QuantizationRecipe("r", target, text_encoder=StageScheme(Scheme("int8", "dynamic"), layers=(rule,)))


def test_the_same_scheme_may_be_right_elsewhere() -> None:
    assert QuantizationRecipe("r", "coreml", decoder=StageScheme(Scheme("int8"))).target == "coreml"
