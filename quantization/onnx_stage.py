"""One stage of a model, as an ONNX file, quantized by recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx

from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme
from quantization.calibration import Arrays, activation_ranges
from quantization.onnx_layers import Layer, finish, is_helper, kind_of, layers_of, weights_of
from quantization.onnx_rewrite import Ranges, check_kernel, rewrite
from quantization.recipe import QuantizationRecipe


def quantize_onnx(
    stage: str, model: bytes, recipe: QuantizationRecipe, calibration: Sequence[Arrays] = ()
) -> bytes:
    """Quantize one stage.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        model: float ONNX file whose weights carry their layers' names.
        recipe: what to quantize, for the target "onnx".
        calibration: inputs of the stage by name, for layers with static activations.

    Returns:
        Self-contained, checked ONNX file; the same input gives the same bytes. The model itself if the recipe leaves
        the stage in float.

    Raises:
        ConfigError: the recipe is for another target, matches no layer with one of its patterns, quantizes nothing in
            a stage it names, or asks for what is known to go wrong; or calibration is needed and missing.
    """
    if recipe.target != "onnx":
        raise ConfigError(f"recipe {recipe.name} is for {recipe.target}, not for onnx")
    proto = onnx.load_from_string(model)
    schemes = plan(stage, proto.graph, recipe)
    if not schemes:
        return model
    rewrite(proto, schemes, static_ranges(model, schemes, calibration))
    return finish(proto)


def static_ranges(model: bytes, schemes: Mapping[str, Scheme], calibration: Sequence[Arrays]) -> Ranges:
    """Ranges of the inputs of layers with static activations, by the name of their tensor.

    Raises:
        ConfigError: there are such layers and no calibration.
    """
    static = {name for name, scheme in schemes.items() if scheme.activations == "static"}
    if not static:
        return {}
    if not calibration:
        raise ConfigError(f"{min(static)} has static inputs, which need calibration")
    graph = onnx.load_from_string(model).graph
    weights = weights_of(graph)
    uses = [(node, kind_of(node, weights)) for node in graph.node]
    tensors = {node.input[0] for node, use in uses if use is not None and use[0] in static}
    return activation_ranges(model, sorted(tensors), calibration)


def plan(stage: str, graph: onnx.GraphProto, recipe: QuantizationRecipe) -> dict[str, Scheme]:
    """What becomes of each layer that does not stay float, by the name of its weight.

    Raises:
        ConfigError: see ``quantize_onnx``.
    """
    weights = weights_of(graph)
    return plan_layers(stage, layers_of(graph), recipe, lambda name: is_helper(weights[name]))


def plan_layers(
    stage: str, layers: Sequence[Layer], recipe: QuantizationRecipe, is_fixed: Callable[[str], bool]
) -> dict[str, Scheme]:
    """``plan`` of layers that are known without their graph.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        layers: all that the graph has, or will have.
        recipe: what to quantize.
        is_fixed: whether the weight of that name is a helper; see ``quantization.onnx_layers.is_helper``.

    Raises:
        ConfigError: see ``quantize_onnx``.
    """
    settings, where = recipe.stage(stage), f"recipe {recipe.name}"
    recipe.check_patterns(stage, [layer.name for layer in layers])
    if settings.is_float:
        return {}
    schemes = {}
    for layer in layers:
        scheme = _scheme_of(layer, recipe, stage)
        if scheme.is_float:
            continue
        if layer.kind == "product" and is_fixed(layer.name):
            raise ConfigError(
                f"{where}: {layer.name} of {stage} is a fixed helper matrix; its int8 form saves nothing and rounds "
                f"its inputs: keep it float by a rule"
            )
        check_kernel(layer, scheme)
        schemes[layer.name] = scheme
    if not schemes:
        raise ConfigError(
            f"{where}: no layer of {stage} would be quantized; the largest has "
            f"{max((layer.elements for layer in layers), default=0)} weights, min_elements is "
            f"{settings.min_elements}"
        )
    return schemes


def _scheme_of(layer: Layer, recipe: QuantizationRecipe, stage: str) -> Scheme:
    """How a layer is treated: tables by a rule alone, convolutions not at all; those in groups have few weights."""
    settings = recipe.stage(stage)
    rule = settings.rule_of(layer.name)
    if layer.kind == "table":
        return Scheme() if rule is None else rule.scheme
    if layer.kind == "product":
        return settings.scheme_of(layer.name, layer.elements)
    if layer.grouped:
        return Scheme()
    if rule is not None and not rule.scheme.is_float:
        raise ConfigError(
            f"recipe {recipe.name}: {layer.name} of {stage} is a convolution, which has no fast integer kernel: 78 ms "
            f"against 33 ms as shifted copies and a Linear"
        )
    if rule is None and layer.elements >= settings.min_elements:
        raise ConfigError(
            f"recipe {recipe.name}: the convolution {layer.name} of {stage} would stay float among integers; export it "
            f"as shifted copies and a Linear, or say by a rule why it stays float"
        )
    return Scheme()
