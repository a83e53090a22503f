"""Export recipes: what they may say, how several become one bundle, and what is refused with a reason."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import export.to_onnx
from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme
from export.recipe import (
    ExportRecipe,
    VariantRecipe,
    join_recipes,
    load_export_recipe,
    recipe_by_quantization,
)
from export.tiny import write_tiny_bundle
from quantization.recipe import list_recipes, load_recipe, precision_of

PACKAGED = sorted(
    entry.name.removesuffix(".toml") for entry in resources.files("export").joinpath("recipes").iterdir()
)
FLOAT, SMALL = VariantRecipe("ort", "fp32"), VariantRecipe("ort", "int8", "onnx-int8")


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_recipes_and_the_quantization_they_name_load(name: str) -> None:
    recipe = load_export_recipe(name)
    assert recipe.name == name and recipe.variants
    for variant in recipe.variants:
        if variant.quantization is not None:
            assert load_recipe(variant.quantization).name == variant.quantization


def test_a_recipe_file_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nsingle_step = true\n[[variants]]\nbackend = "ort"\nprecision = "fp32"\n')
    assert load_export_recipe(str(path)) == ExportRecipe("mine", (FLOAT,), single_step=True)
    path.write_text('name = "mine"\n[[variants]]\nbackend = "ort"\nprecison = "fp32"\n')
    with pytest.raises(ConfigError, match=r"variants\[0\]: unknown key 'precison'; did you mean 'precision'"):
        load_export_recipe(str(path))
    path.write_text("name = ")
    with pytest.raises(ConfigError, match=r"mine\.toml: Invalid value"):
        load_export_recipe(str(path))
    with pytest.raises(ConfigError, match="No such file"):
        load_export_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"unknown export recipe 'tflite'; known are .*onnx"):
        load_export_recipe("tflite")


def test_quantization_belongs_to_integers() -> None:
    with pytest.raises(ConfigError, match="ort-int8 needs a quantization recipe"):
        VariantRecipe("ort", "int8")
    with pytest.raises(ConfigError, match="ort-fp32 has no use for a quantization recipe"):
        VariantRecipe("ort", "fp32", "onnx-int8")


def test_several_targets_become_one_bundle() -> None:
    first, second = ExportRecipe("a", (SMALL, FLOAT)), ExportRecipe("b", (VariantRecipe("coreml", "fp16"),))
    joined = join_recipes([first, second])
    assert [variant.name for variant in joined.variants] == ["ort-int8", "ort-fp32", "coreml-fp16"]
    assert joined.name == "a+b" and not joined.single_step
    assert join_recipes([first, second], precisions=["fp32"]).variants == (FLOAT,)
    assert join_recipes([first], single_step=True).single_step
    with pytest.raises(ConfigError, match="a variant appears twice"):
        join_recipes([first, first])
    with pytest.raises(ConfigError, match="a has no variant in fp16"):
        join_recipes([first], precisions=["fp16"])
    with pytest.raises(ConfigError, match="disagree about single_step"):
        join_recipes([first, ExportRecipe("b", second.variants, single_step=True)])


def test_what_the_labels_mean() -> None:
    """The fewest bits of a quantized weight; what stays float beside it does not count."""
    whole, half = Scheme("int8", "dynamic"), Scheme("int4", "dynamic", "block", 32)
    assert precision_of([Scheme(), whole]) == "int8"
    assert precision_of([Scheme(), whole, half]) == "int4"
    assert precision_of([Scheme("palette4", "float", "group", 16)]) == "int4"
    assert precision_of([Scheme()]) is None and precision_of([]) is None
    for name, recipe in list_recipes().items():
        assert recipe.precision in name or name == "coreml-w8a8"


@pytest.mark.parametrize(
    ("backend", "label", "quantization", "made"),
    [
        ("ort", "int8", "onnx-int4", "int4"),
        ("ort", "int4", "onnx-int8", "int8"),
        ("coreml", "int8", "coreml-int4", "int4"),
    ],
)
def test_a_label_that_the_schemes_belie_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Any, label: Any, quantization: str, made: str
) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("work was begun")

    monkeypatch.setattr(export.to_onnx, "export_onnx", never)
    variant = VariantRecipe(backend, label, quantization)
    with pytest.raises(
        ConfigError, match=rf"{backend}-{label} is labelled {label}, but .*{quantization} makes {made}"
    ):
        write_tiny_bundle(tmp_path / "bundle", ExportRecipe("mislabelled", (FLOAT, variant)))
    assert list(tmp_path.iterdir()) == []


def test_four_bits_that_reach_no_layer_are_no_int4(tmp_path: Path) -> None:
    """The packaged recipe's four-bit layers start at more weights than any layer of the tiny model has."""
    recipe = ExportRecipe("unreached", (VariantRecipe("ort", "int4", "onnx-int4"),))
    with pytest.raises(
        ConfigError, match="onnx-int4 puts no weight of this model into four bits; it makes int8"
    ):
        write_tiny_bundle(tmp_path / "bundle", recipe)
    assert list(tmp_path.iterdir()) == []


OWN = """
name = "onnx-mine"
target = "onnx"
[generator]
scheme = { weights = "int8", activations = "dynamic", reduce_range = true }
min_elements = 64
"""


def test_a_quantization_recipe_of_ones_own_makes_a_variant(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    recipe = recipe_by_quantization([str(path), "coreml-int4", "onnx-int8-static"], float_beside=True)
    assert [(variant.name, variant.precision) for variant in recipe.variants] == [
        ("ort-mine", "int8"),
        ("coreml-int4", "int4"),
        ("ort-int8-static", "int8"),
        ("ort-fp32", "fp32"),
        ("coreml-fp16", "fp16"),
    ]
    made = write_tiny_bundle(tmp_path / "bundle", recipe_by_quantization([str(path)], float_beside=True))
    mine, plain = made.variants["ort-mine"], made.variants["ort-fp32"]
    assert mine.precision == "int8" and mine.size() < plain.size()
    assert mine.parity_snr_db["generator"] < 60 < plain.parity_snr_db["generator"]


def test_a_recipe_that_quantizes_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nothing.toml"
    path.write_text('name = "onnx-nothing"\ntarget = "onnx"\n')
    with pytest.raises(ConfigError, match="onnx-nothing quantizes nothing"):
        recipe_by_quantization([str(path)])
