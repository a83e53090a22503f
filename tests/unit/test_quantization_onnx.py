"""ONNX stages in integers: which layers, which kernels, which numbers, and what is refused before any of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_tta.bundle import Bundle
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import ConfigError
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from edge_tta.runtime.golden import signal_to_noise_db
from quantization.calibration import Arrays, open_session, run_stage
from quantization.onnx_layers import layers_of
from quantization.onnx_stage import plan, quantize_onnx
from quantization.recipe import QuantizationRecipe

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
DYNAMIC = Scheme("int8", "dynamic", reduce_range=True)
STATIC = Scheme("int8", "static", reduce_range=True)
FOUR = Scheme("int4", "dynamic", "block", 16)
FOUR_ONLY = Scheme("int4", "float", "block", 16)
EIGHT = Scheme("int8", "dynamic", "block", 16)
FIRST = LayerRule("generator.*_in.*", "first layers")
LAST = LayerRule("generator.audio_out.*", "last layer")
MODULATION = LayerRule("generator.*modulation*", "repeated in every frame")


def recipe_of(stage: str, *arguments: Any, **options: Any) -> QuantizationRecipe:
    settings = StageScheme(*arguments, **options)
    return QuantizationRecipe("test", "onnx", **{stage: settings})


@pytest.fixture(scope="module")
def generator() -> bytes:
    bundle = Bundle.open(TINY)
    return bundle.read(bundle.variants["ort-fp32"].stages["generator"])


@pytest.fixture(scope="module")
def inputs() -> Arrays:
    golden = Bundle.open(TINY).golden()
    return {"latent": golden["noise"], **golden}


def generator_recipe(scheme: Scheme, *rules: LayerRule) -> QuantizationRecipe:
    return recipe_of("generator", scheme, 64, (*rules, FIRST, MODULATION, LAST))


def operators(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def one_layer(weight: np.ndarray, operator: str = "MatMul", bias: np.ndarray | None = None) -> bytes:
    """A graph of one layer called "layer.weight": product [1, n, in] -> [1, n, out], Gemm or table."""
    constants = [numpy_helper.from_array(weight, "layer.weight")]
    shape = ["n", "out"] if operator == "Gemm" else [1, "n", "out"]
    ports = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    if operator == "Gather":
        node = helper.make_node("Gather", ["layer.weight", "x"], ["y"])
        source = helper.make_tensor_value_info("x", TensorProto.INT64, [1, "n"])
    elif operator == "Conv":
        node = helper.make_node("Conv", ["x", "layer.weight"], ["y"])
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[1], "n"])
    elif operator == "Gemm":
        assert bias is not None
        constants.append(numpy_helper.from_array(bias, "layer.bias"))
        node = helper.make_node("Gemm", ["x", "layer.weight", "layer.bias"], ["y"], transB=1)
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[1]])
    else:
        node = helper.make_node("MatMul", ["x", "layer.weight"], ["y"])
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "n", weight.shape[0]])
    graph = helper.make_graph([node], "g", [source], ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("scheme", "operator", "least_db"),
    [
        (DYNAMIC, "MatMulInteger", 38),
        (STATIC, "QuantizeLinear", 38),
        (FOUR, "MatMulNBits", 20),
        (FOUR_ONLY, "MatMulNBits", 20),
        (EIGHT, "MatMulNBits", 42),
    ],
    ids=str,
)
def test_a_stage_in_integers_is_smaller_close_and_the_same_every_time(
    generator: bytes, inputs: Arrays, scheme: Scheme, operator: str, least_db: float
) -> None:
    recipe = generator_recipe(scheme)
    made = quantize_onnx("generator", generator, recipe, [inputs])
    assert made == quantize_onnx("generator", generator, recipe, [inputs])
    assert len(made) < len(generator)
    inspect_onnx("generator.onnx", made)
    expected, found = (run_stage(open_session(model), inputs)[0] for model in (generator, made))
    assert signal_to_noise_db(expected, found) > least_db
    assert operators(made)[operator] > 0
    # What the rules protect is float still, and every other product is not.
    left = {layer.name for layer in layers_of(onnx.load_from_string(made).graph)}
    products = {
        layer.name for layer in layers_of(onnx.load_from_string(generator).graph) if layer.kind == "product"
    }
    protected = {
        name
        for name in products
        if any(word in name for word in ("_in.", "modulation", "generator.audio_out."))
    }
    assert left == protected and len(products - protected) >= 8


def test_sensitive_layers_may_have_more_bits(generator: bytes, inputs: Arrays) -> None:
    finer = LayerRule("*attention*", "sensitive", DYNAMIC)
    made = quantize_onnx("generator", generator, generator_recipe(FOUR, finer))
    plain = quantize_onnx("generator", generator, generator_recipe(FOUR))
    assert operators(made)["MatMulInteger"] == 3 and operators(made)["MatMulNBits"] > 0
    expected = run_stage(open_session(generator), inputs)[0]
    mixed, four = (
        signal_to_noise_db(expected, run_stage(open_session(model), inputs)[0]) for model in (made, plain)
    )
    assert mixed > four


def test_inputs_that_several_layers_share_are_rounded_once() -> None:
    bundle = Bundle.open(TINY)
    encoder = bundle.read(bundle.variants["ort-fp32"].stages["text_encoder"])
    made = quantize_onnx("text_encoder", encoder, recipe_of("text_encoder", DYNAMIC, 64))
    found = operators(made)
    assert found["MatMulInteger"] == 6 and found["DynamicQuantizeLinear"] == 4


@pytest.mark.parametrize("scheme", [DYNAMIC, STATIC, FOUR, FOUR_ONLY, EIGHT], ids=str)
def test_the_kernels_multiply_what_the_definition_says(scheme: Scheme) -> None:
    """Integers by their definitions in numpy, against what ONNX Runtime computes with the file."""
    weight, x = draw(40, 24), draw(1, 7, 40, seed=1)
    made = quantize_onnx("decoder", one_layer(weight), recipe_of("decoder", scheme, 1), [{"x": x}])
    found = run_stage(open_session(made), {"x": x})[0][0]
    rounded_weight, rounded_x = weight, x[0]
    if scheme.granularity == "channel":
        scale = np.abs(weight).max(axis=0) / np.float32(64)
        rounded_weight = np.rint(weight / scale) * scale
        low, high = min(x.min(), 0), max(x.max(), 0)
        step = np.float32((high - low) / np.float32(255))
        zero = np.rint(-low / step)
        rounded_x = (np.clip(np.rint(x[0] / step) + zero, 0, 255) - zero) * step
    elif scheme.activations == "dynamic":
        padded = np.pad(x[0], ((0, 0), (0, 8))).reshape(7, 3, 16)
        step = np.abs(padded).max(axis=-1, keepdims=True) / np.float32(127)
        rounded_x = (np.rint(padded * (1 / step)) * step).reshape(7, 48)[:, :40]
    if scheme.granularity == "block":
        stored = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in onnx.load_from_string(made).graph.initializer
        }
        packed, half = stored[f"layer.weight.{scheme.weights}"], 8 if scheme.weights == "int4" else 128
        if scheme.weights == "int4":
            packed = np.stack([packed & 15, packed >> 4], axis=-1).reshape(24, 3, 16)
        scale = stored["layer.weight.scale"].reshape(24, 3, 1)
        rounded_weight = ((packed.astype(np.float32) - half) * scale).reshape(24, 48)[:, :40].T
        error = np.abs(rounded_weight - weight).reshape(-1)
        # No weight is further from its level than half a step, but for the end that has one level less.
        assert (
            np.mean(error <= np.abs(np.repeat(scale[..., 0], 16, axis=1)[:, :40].T).reshape(-1) / 2 + 1e-6)
            > 0.9
        )
    np.testing.assert_allclose(found, rounded_x @ rounded_weight, rtol=0, atol=2e-5)


def test_products_with_a_bias_keep_it() -> None:
    weight, bias, x = draw(24, 40), draw(24, seed=2), draw(3, 40, seed=1)
    model = one_layer(weight, "Gemm", bias)
    for scheme in (DYNAMIC, FOUR):
        made = quantize_onnx("decoder", model, recipe_of("decoder", scheme, 1))
        found = run_stage(open_session(made), {"x": x})[0]
        assert signal_to_noise_db(x @ weight.T + bias, found) > 18
        assert operators(made)["Gemm"] == 0
    with pytest.raises(ConfigError, match="no fast kernel for a product with a bias"):
        quantize_onnx("decoder", model, recipe_of("decoder", STATIC, 1), [{"x": x}])


def test_tables_are_stored_in_int8_rows_by_a_rule() -> None:
    table, ids = draw(50, 64) * np.arange(1, 51, dtype=np.float32)[:, None], np.array([[3, 0, 49, 3]])
    model = one_layer(table, "Gather")
    rule = LayerRule("layer.*", "most of the bytes", Scheme("int8"))
    made = quantize_onnx("text_encoder", model, recipe_of("text_encoder", layers=(rule,)))
    found = run_stage(open_session(made), {"x": ids})[0]
    # A scale a row: quiet rows are as close as loud ones.
    assert all(signal_to_noise_db(table[row], found[0, place]) > 40 for place, row in enumerate(ids[0]))
    assert len(made) < len(model) / 2.5
    for scheme in (DYNAMIC, FOUR_ONLY):
        with pytest.raises(ConfigError, match="no fast kernel for a table"):
            wrong = dataclasses.replace(rule, scheme=scheme)
            quantize_onnx("text_encoder", model, recipe_of("text_encoder", layers=(wrong,)))
    with pytest.raises(ConfigError, match="no layer of text_encoder would be quantized"):
        quantize_onnx("text_encoder", model, recipe_of("text_encoder", DYNAMIC, 1))


def test_a_stage_that_no_recipe_names_is_left_as_it_is(generator: bytes) -> None:
    assert quantize_onnx("generator", generator, recipe_of("decoder", DYNAMIC)) is generator


def test_recipes_that_do_not_fit_are_refused(generator: bytes) -> None:
    for recipe, message in (
        (
            generator_recipe(DYNAMIC, LayerRule("generator.nothing.*", "typo")),
            "matches no layer of generator",
        ),
        (recipe_of("generator", DYNAMIC), "largest has 384 weights, min_elements is 16384"),
        (recipe_of("generator", DYNAMIC, 1, (LayerRule("*", "all"),)), "would be quantized"),
        (generator_recipe(STATIC), "need calibration"),
        (
            dataclasses.replace(generator_recipe(Scheme("int8", "dynamic")), target="executorch"),
            "is for executorch",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            quantize_onnx("generator", generator, recipe)


def test_fixed_helper_matrices_are_no_layers() -> None:
    choices = np.eye(4, dtype=np.float32)[np.arange(32) % 4]
    graph = onnx.load_from_string(one_layer(choices)).graph
    with pytest.raises(ConfigError, match=r"layer\.weight of decoder is a fixed helper matrix"):
        plan("decoder", graph, recipe_of("decoder", DYNAMIC, 1))
    rule = LayerRule("layer.*", "0/1 matrix")
    with pytest.raises(ConfigError, match="no layer of decoder would be quantized"):
        plan("decoder", graph, recipe_of("decoder", DYNAMIC, 1, (rule,)))


def test_convolutions_do_not_stay_float_unnoticed() -> None:
    graph = onnx.load_from_string(one_layer(draw(8, 8, 3), "Conv")).graph
    with pytest.raises(ConfigError, match=r"convolution layer\.weight of decoder would stay float"):
        plan("decoder", graph, recipe_of("decoder", DYNAMIC, 1))
    with pytest.raises(ConfigError, match="no fast integer kernel: 78 ms against 33 ms"):
        plan("decoder", graph, recipe_of("decoder", layers=(LayerRule("layer.*", "faster", DYNAMIC),)))
    rule = LayerRule("layer.*", "a few channels only")
    with pytest.raises(ConfigError, match="no layer of decoder would be quantized"):
        plan("decoder", graph, recipe_of("decoder", DYNAMIC, 1, (rule,)))


def test_a_product_may_follow_a_product() -> None:
    """Nothing between them: the first one's output is the second one's quantized input."""
    weights = {name: draw(64, 64, seed=seed) for seed, name in enumerate(("first", "second"))}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["between"]),
        helper.make_node("MatMul", ["between", "second"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", 64]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(weight, name) for name, weight in weights.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made = quantize_onnx("decoder", model.SerializeToString(), recipe_of("decoder", DYNAMIC, 64))
    assert operators(made)["MatMulInteger"] == operators(made)["DynamicQuantizeLinear"] == 2
    x = draw(1, 9, 64, seed=3)
    found = run_stage(open_session(made), {"x": x})[0]
    assert signal_to_noise_db(x @ weights["first"] @ weights["second"], found) > 30
