"""Dynamic int8 quantization of ONNX graphs by recipe."""

from __future__ import annotations

import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edge_tta.errors import ConfigError
from quantization.recipe import QuantizationRecipe


def quantize_onnx(stage: str, model: bytes, recipe: QuantizationRecipe) -> bytes:
    """Quantize the matrix products of one stage.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        model: float ONNX file whose weights carry their layers' names.
        recipe: what to quantize.

    Returns:
        Self-contained ONNX file; the same input gives the same bytes.

    Raises:
        ConfigError: a pattern of the recipe matches no weight of the stage, which would silently quantize what the
            recipe means to protect.
    """
    graph = onnx.load_from_string(model).graph
    sizes = {tensor.name: int(_elements(tensor)) for tensor in graph.initializer}
    for rule in recipe.keep_float:
        if rule.stage == stage and not any(fnmatchcase(name, rule.pattern) for name in sizes):
            raise ConfigError(f"recipe {recipe.name}: '{rule.pattern}' matches no weight of {stage}")
    chosen = [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Gemm")
        and node.input[1] in sizes
        and recipe.quantizes(stage, node.input[1], sizes[node.input[1]])
    ]
    if not chosen:
        return model
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "float.onnx", Path(directory) / "int8.onnx"
        source.write_bytes(model)
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            nodes_to_quantize=chosen,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        quantized = onnx.load(target)
    quantized.producer_name, quantized.producer_version = "edge_tta", ""
    del quantized.metadata_props[:]
    onnx.checker.check_model(quantized)
    return bytes(quantized.SerializeToString(deterministic=True))


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count
