"""Core ML packages against the modules they come from: the saved program is read back and run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("coremltools")

import torch

from edge_tta.bundle import Bundle
from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from edge_tta.runtime.golden import signal_to_noise_db
from export.assemble import complete_parts
from export.coreml_package import multifunction_package, package_manifest, write_package
from export.coreml_stage import StageModel, convert_stage
from export.mil_interpreter import MilInterpreter
from export.mil_program import MilError
from export.tiny import tiny_checkpoint
from export.wrappers import StageGraph, stage_graphs
from quantization.coreml_weights import compress_weights, palette
from quantization.recipe import QuantizationRecipe, load_recipe

STAGES = ("text_encoder", "generator", "decoder")
PACKAGE = "coreml-fp16/model.mlpackage"
MIXED = "coreml-mixed/model.mlpackage"


@pytest.fixture(scope="module")
def stages() -> dict[str, StageGraph]:
    return stage_graphs(complete_parts(tiny_checkpoint())[0], explicit_attention=False)


@pytest.fixture(scope="module")
def text_encoder(stages: dict[str, StageGraph]) -> StageModel:
    return convert_stage(stages["text_encoder"], "fp16")


@pytest.fixture(scope="module")
def halves(coreml_bundle: Path) -> MilInterpreter:
    return MilInterpreter(coreml_bundle / PACKAGE)


@pytest.fixture(scope="module")
def mixed(coreml_bundle: Path) -> MilInterpreter:
    return MilInterpreter(coreml_bundle / MIXED)


def inputs_of(stage: StageGraph, length: int) -> tuple[Any, ...]:
    """Seeded inputs whose dynamic dimensions are ``length``, or the largest the stage takes."""
    make = torch.Generator().manual_seed(length)
    found = []
    for port, example in zip(stage.input_ports, stage.inputs, strict=True):
        shape = [
            min(length, stage.lengths[size][1]) if isinstance(size, str) else size for size in port.shape
        ]
        if port.dtype == "int64":
            found.append(torch.randint(0, 280, shape, generator=make))
        else:
            found.append(example if len(shape) == 1 else torch.randn(shape, generator=make))
    return tuple(found)


def parity(interpreter: MilInterpreter, name: str, stage: StageGraph, length: int) -> list[float]:
    """Signal-to-noise ratio of every output, dB."""
    inputs = inputs_of(stage, length)
    with torch.no_grad():
        expected = stage.module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    given = {
        port.name: (value.int() if port.dtype == "int64" else value).numpy()
        for port, value in zip(stage.input_ports, inputs, strict=True)
    }
    found = interpreter.run(name, given)
    return [
        signal_to_noise_db(value.numpy(), found[port.name])
        for port, value in zip(stage.output_ports, expected, strict=True)
    ]


def kinds(interpreter: MilInterpreter, function: str) -> Counter[str]:
    return Counter(operation.type for operation in interpreter.functions[function].operations)


def test_one_package_holds_the_three_stages_and_nothing_else(
    coreml_bundle: Path, halves: MilInterpreter
) -> None:
    assert set(halves.functions) == set(STAGES)
    package = coreml_bundle / PACKAGE
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())
    assert files == [
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
        "Manifest.json",
    ]
    bundle = Bundle.open(coreml_bundle)
    assert bundle.variants["coreml-fp16"].precision == "fp16"
    # The tiny decoder's random phases are its own noise; the real figures are in docs/reports/coreml.md.
    assert bundle.variants["coreml-fp16"].parity_snr_db["generator"] > 55


@pytest.mark.parametrize("name", ["text_encoder", "generator"])
@pytest.mark.parametrize("length", [1, 8, 37, 4135])
def test_parity_in_halves(
    halves: MilInterpreter, stages: dict[str, StageGraph], name: str, length: int
) -> None:
    if name == "generator":
        length = min(length, 600)
    assert min(parity(halves, name, stages[name], length)) > 60


@pytest.mark.parametrize("length", [1, 8, 37])
def test_parity_of_the_decoder_against_its_own_rounded_weights(
    halves: MilInterpreter, stages: dict[str, StageGraph], length: int
) -> None:
    """Phases are running sums, so rounding weights moves the waveform; the graph itself must not."""
    import copy

    rounded = copy.deepcopy(stages["decoder"].module).half().float()
    (latent,) = inputs_of(stages["decoder"], length)
    with torch.no_grad():
        expected = rounded(latent).numpy()
    found = halves.run("decoder", {"latent": latent.numpy()})["waveform"]
    assert signal_to_noise_db(expected, found) > 35


def test_parity_in_float32_is_that_of_float32(stages: dict[str, StageGraph], tmp_path: Path) -> None:
    model = convert_stage(stages["decoder"], "fp32").model
    write_package(tmp_path / "model.mlpackage", multifunction_package({"decoder": model}))
    interpreter = MilInterpreter(tmp_path / "model.mlpackage")
    for length in (1, 37, 258):
        assert parity(interpreter, "decoder", stages["decoder"], length)[0] > 85


def test_halves_are_used_where_they_suffice_and_nowhere_else(halves: MilInterpreter) -> None:
    declared = {
        name: {(operation.type, operation.outputs[0].dtype) for operation in function.operations}
        for name, function in halves.functions.items()
    }
    for types in declared.values():
        assert ("linear", "FLOAT16") in types and ("linear", "FLOAT32") not in types
        for kind in ("cos", "sin", "exp", "cumsum", "atan", "rsqrt"):
            assert (kind, "FLOAT16") not in types
    assert ("cos", "FLOAT32") in declared["generator"] and ("cumsum", "FLOAT32") in declared["decoder"]
    assert ("rsqrt", "FLOAT32") in declared["generator"] and ("reduce_mean", "FLOAT16") not in declared[
        "generator"
    ]


def test_halves_with_every_result_rounded_stay_close(
    coreml_bundle: Path, stages: dict[str, StageGraph]
) -> None:
    rounded = MilInterpreter(coreml_bundle / PACKAGE, "declared")
    for name in ("text_encoder", "generator"):
        assert min(parity(rounded, name, stages[name], 37)) > 50


def test_attention_and_activations_are_single_operations(halves: MilInterpreter) -> None:
    assert kinds(halves, "text_encoder")["scaled_dot_product_attention"] == 1
    assert kinds(halves, "generator")["scaled_dot_product_attention"] == 2
    modes = [
        operation.inputs["mode"]
        for function in halves.functions.values()
        for operation in function.operations
        if operation.type == "gelu"
    ]
    assert len(modes) == 4


def test_the_tanh_approximation_stays_one(halves: MilInterpreter) -> None:
    def modes(name: str) -> set[Any]:
        constants = {
            operation.outputs[0].name: operation.inputs["val"][0]
            for operation in halves.functions[name].operations
            if operation.type == "const"
        }
        return {
            constants[operation.inputs["mode"][0].name]  # type: ignore[union-attr]
            for operation in halves.functions[name].operations
            if operation.type == "gelu"
        }

    assert modes("text_encoder") == {"EXACT"}
    assert modes("decoder") == {"TANH_APPROXIMATION"}


def test_any_length_the_model_takes_and_no_other(
    halves: MilInterpreter, stages: dict[str, StageGraph]
) -> None:
    lengths = halves.functions["decoder"].lengths["latent"]
    assert lengths.ranges == ((1, 1), stages["decoder"].lengths["length"], (4, 4)) and not lengths.enumerated
    with pytest.raises(MilError, match=r"input latent has the shape \(1, 9999, 4\)"):
        halves.run("decoder", {"latent": np.zeros((1, 9999, 4), np.float32)})
    with pytest.raises(MilError, match="input latent is float64, declared is FLOAT32"):
        halves.run("decoder", {"latent": np.zeros((1, 8, 4))})
    with pytest.raises(MilError, match="input latent is missing"):
        halves.run("decoder", {})
    with pytest.raises(MilError, match="decoder has no input noise"):
        halves.run("decoder", {"latent": np.zeros((1, 8, 4), np.float32), "noise": np.zeros(1, np.float32)})
    with pytest.raises(MilError, match="no function main; there are"):
        halves.run("main", {})


def test_single_lengths(stages: dict[str, StageGraph], tmp_path: Path) -> None:
    model = convert_stage(stages["text_encoder"], "fp16", {"tokens": (9, 4, 4)}).model
    write_package(tmp_path / "model.mlpackage", multifunction_package({"text_encoder": model}))
    interpreter = MilInterpreter(tmp_path / "model.mlpackage")
    assert set(interpreter.functions["text_encoder"].lengths["ids"].enumerated) == {(1, 4), (1, 9)}
    assert min(parity(interpreter, "text_encoder", stages["text_encoder"], 4)) > 60
    with pytest.raises(MilError, match=r"shape \(1, 5\)"):
        interpreter.run("text_encoder", {"ids": np.zeros((1, 5), np.int32)})
    with pytest.raises(ConfigError, match=r"tokens of 4, 17 is out of range: 1 to 16"):
        convert_stage(stages["text_encoder"], "fp16", {"tokens": (4, 17)})


def test_the_same_weights_give_the_same_bytes_and_no_noise(
    stages: dict[str, StageGraph], text_encoder: StageModel, capfd: pytest.CaptureFixture[str]
) -> None:
    again = convert_stage(stages["text_encoder"], "fp16")
    said = capfd.readouterr()
    assert said.out == "" and said.err == ""
    first, second = (multifunction_package({"text_encoder": one.model}) for one in (text_encoder, again))
    assert first == second
    assert first["Manifest.json"] == package_manifest()
    assert b"2026" not in first["Data/com.apple.CoreML/model.mlmodel"]


def test_every_way_to_compress_in_one_variant(
    coreml_bundle: Path, mixed: MilInterpreter, stages: dict[str, StageGraph]
) -> None:
    def compressed(name: str) -> tuple[int, int]:
        found = kinds(mixed, name)
        return found["constexpr_blockwise_shift_scale"], found["constexpr_lut_to_dense"]

    text, generator, decoder = (compressed(name) for name in STAGES)
    assert text == (6, 0) and generator[0] >= 10 and generator[1] == 0 and decoder == (3, 4)
    inputs = kinds(mixed, "generator")
    # Layers with the same input share its rounding.
    assert generator[0] - 3 < inputs["quantize"] == inputs["dequantize"] <= generator[0]
    assert kinds(mixed, "decoder")["quantize"] == kinds(mixed, "text_encoder")["quantize"] == 0
    assert min(parity(mixed, "text_encoder", stages["text_encoder"], 8)) > 30
    assert parity(mixed, "generator", stages["generator"], 37)[0] > 20
    plain, small = (
        (coreml_bundle / name / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
        for name in (PACKAGE, MIXED)
    )
    assert small < plain


@pytest.mark.parametrize("name", ["coreml-int8", "coreml-int4", "coreml-w8a8"])
@pytest.mark.parametrize("stage", STAGES)
def test_rules_of_packaged_recipes_match_layers(stages: dict[str, StageGraph], name: str, stage: str) -> None:
    """The tiny weights are too small to be compressed, which is noticed only after every pattern has matched."""
    signature = {name.replace(".", "_"): name for name in dict(stages[stage].module.named_parameters())}
    assert signature
    for rule in load_recipe(name).stage(stage).layers:
        from fnmatch import fnmatchcase

        tensors = {
            **dict(stages[stage].module.named_parameters()),
            **dict(stages[stage].module.named_buffers()),
        }
        assert any(fnmatchcase(known, rule.pattern) for known in tensors), rule.pattern


def recipe_of(stage: StageScheme, target: Any = "coreml") -> QuantizationRecipe:
    return QuantizationRecipe("mine", target, text_encoder=stage)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            recipe_of(StageScheme(Scheme("int8"), 64, (LayerRule("encoder.nothing.*", "not there"),))),
            "recipe mine: 'encoder.nothing.*' matches no layer of text_encoder",
        ),
        (recipe_of(StageScheme(Scheme("int8"), 10**6)), "no layer of text_encoder would be quantized"),
        (
            recipe_of(StageScheme(Scheme("palette4", granularity="group", block_size=16), 64)),
            "groups of 16 do not divide 8 output channels",
        ),
        (
            recipe_of(StageScheme(Scheme("int4", granularity="block", block_size=32), 64)),
            "blocks of 32 do not divide 8 inputs",
        ),
        (
            recipe_of(StageScheme(Scheme("int8", "dynamic"), 64), "onnx"),
            "recipe mine is for onnx, not for coreml",
        ),
    ],
)
def test_recipes_that_do_not_fit(text_encoder: StageModel, recipe: QuantizationRecipe, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compress_weights("text_encoder", text_encoder.model, text_encoder.weights, recipe)
    assert message in str(caught.value)


def test_a_stage_left_float_is_left_alone(text_encoder: StageModel) -> None:
    found, chosen = compress_weights(
        "text_encoder", text_encoder.model, text_encoder.weights, recipe_of(StageScheme())
    )
    assert found is text_encoder.model and not chosen


def test_palettes() -> None:
    random = np.random.default_rng(3)
    weights = random.standard_normal((16, 96)).astype(np.float16)
    table, indices = palette(weights)
    assert table.shape == (16,) and table.dtype == np.float16 and indices.shape == (16 * 96,)
    chosen = table[indices].astype(np.float64)
    # The best sixteen levels for a normal distribution reach 20.2 dB (Max, "Quantizing for minimum distortion", 1960).
    assert 19.5 < signal_to_noise_db(weights.reshape(-1), chosen) < 21.5
    nearest = np.abs(weights.reshape(-1, 1).astype(np.float64) - table).argmin(axis=1)
    assert np.array_equal(
        np.abs(weights.reshape(-1) - chosen), np.abs(weights.reshape(-1) - table[nearest].astype(float))
    )
    few = np.repeat(np.array([-1, 0.5, 2], np.float16), 20).reshape(4, 15)
    table, indices = palette(few)
    assert np.array_equal(table[indices], few.reshape(-1))
    assert all(
        np.array_equal(first, second)
        for first, second in zip(palette(weights), palette(weights), strict=True)
    )


def test_without_coremltools_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from quantization.coreml import import_coremltools

    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"the Core ML target needs the 'coreml' extra") as caught:
        import_coremltools()
    assert caught.value.exit_code == 2
