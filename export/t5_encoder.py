"""A public T5 encoder as the runtime's text encoder: exported to ONNX and made int8 by ``optimum``.

    graphs = t5_encoder_graphs(T5TextEncoder(load_t5(Path("flan-t5-base"))))
    graphs["int8"]    # ids int64 [1, T] -> tokens float32 [1, T, D], pooled float32 [1, D]

The graph takes the ids of ``spiece.model``, end of sentence last, as the runtime's tokenizer makes them. ``pooled`` is
the sentence vector of :mod:`edge_tta.model.public_t5`, the condition a model has that was trained without CLAP; a graph
has one tokenizer, so CLAP's vector is not among its outputs.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.model.public_t5 import T5TextEncoder

OPSET = 18
KEEP_FLOAT = ("*/wo/*",)
"""The second feed-forward layer reads activations with single huge entries, which leave int8 nothing for the rest; it
is the layer that public half-precision code keeps in float as well."""
MIN_ELEMENTS = 1024
"""Smaller weights stay float: nothing to gain."""


def t5_encoder_graphs(
    text_encoder: T5TextEncoder, *, keep_float: Sequence[str] = KEEP_FLOAT, reduce_range: bool = True
) -> dict[str, bytes]:
    """ONNX files of a public T5 encoder, by precision: "fp32" and "int8".

    Args:
        text_encoder: the encoder.
        keep_float: shell patterns over the names of matrix products (``/encoder/block.0/layer.1/...``) that stay
            float.
        reduce_range: weights in seven bits, right also on CPUs that add products in 16 bits.

    Raises:
        ConfigError: a pattern matches nothing, or see ``check_t5_encoder``.
        MissingExtraError: optimum or transformers is not installed.
    """
    check_t5_encoder(text_encoder)
    from optimum.exporters.onnx import export
    from optimum.exporters.onnx.model_configs import T5EncoderOnnxConfig

    encoder: Any = text_encoder.encoder
    width = int(encoder.config.d_model)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "t5.onnx"
        with _quiet():
            export(encoder, T5EncoderOnnxConfig(encoder.config, task="feature-extraction"), path, opset=OPSET)
        with _quiet():
            quantized = _quantize(path, keep_float, reduce_range)
        return {
            "fp32": _finish(onnx.load(path), width),
            "int8": _finish(onnx.load(quantized), width),
        }


def check_t5_encoder(text_encoder: T5TextEncoder) -> None:
    """Refuse, before any work, what ``t5_encoder_graphs`` cannot export.

    Raises:
        ConfigError: the encoder is too large for one ONNX file.
        MissingExtraError: optimum or transformers is not installed.
    """
    try:
        import optimum.exporters.onnx.model_configs  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("public", "exporting a T5 encoder") from error
    weights = sum(parameter.numel() for parameter in text_encoder.encoder.parameters())
    if 4 * weights >= 2**31:
        raise ConfigError(
            f"a T5 encoder of {weights / 1e6:.0f} million weights does not fit into one ONNX file of 2 GiB"
        )


def _quantize(path: Path, keep_float: Sequence[str], reduce_range: bool) -> Path:
    """Dynamic int8 of the products and tables with constant weights; the path of the new file."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    graph = onnx.load(path).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    weighty = [
        node.name
        for node in graph.node
        if (node.op_type == "MatMul" and sizes.get(node.input[1], 0) >= MIN_ELEMENTS)
        or (node.op_type == "Gather" and sizes.get(node.input[0], 0) >= MIN_ELEMENTS)
    ]
    for pattern in keep_float:
        if not any(fnmatchcase(name, pattern) for name in weighty):
            raise ConfigError(
                f"'{pattern}' matches no matrix product of the T5 encoder, such as {weighty[-1:]}"
            )
    chosen = [name for name in weighty if not any(fnmatchcase(name, pattern) for pattern in keep_float)]
    # Its int8 weights are the ones Arm is fast with; in seven bits they are right on every x86 CPU as well.
    configuration = AutoQuantizationConfig.arm64(
        is_static=False,
        per_channel=True,
        nodes_to_quantize=chosen,
        operators_to_quantize=["MatMul", "Gather"],
    )
    configuration.reduce_range = reduce_range
    target = path.parent / "int8"
    ORTQuantizer(path).quantize(configuration, target, file_suffix="")
    return target / path.name


def _finish(model: onnx.ModelProto, width: int) -> bytes:
    """The runtime's names and sentence vector, and nothing that differs from run to run or names a machine."""
    graph = model.graph
    renamed = {graph.input[0].name: "ids", graph.output[0].name: "tokens"}
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = renamed.get(name, name)
    make, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(make("ids", kinds.INT64, [1, "tokens"]))
    graph.output.append(make("tokens", kinds.FLOAT, [1, "tokens", width]))
    graph.output.append(make("pooled", kinds.FLOAT, [1, width]))
    constants: dict[str, NDArray[Any]] = {
        "pooled.axis": np.array([1], dtype=np.int64),
        "pooled.small": np.array([1e-6], dtype=np.float32),
        "pooled.scale": np.array([width**0.5], dtype=np.float32),
    }
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    node = onnx.helper.make_node
    graph.node.extend(
        [
            node("ReduceMean", ["tokens", "pooled.axis"], ["pooled.mean"], keepdims=0),
            node("Mul", ["pooled.mean", "pooled.mean"], ["pooled.squares"]),
            node("ReduceSum", ["pooled.squares", "pooled.axis"], ["pooled.sum"], keepdims=1),
            node("Add", ["pooled.sum", "pooled.small"], ["pooled.power"]),
            node("Sqrt", ["pooled.power"], ["pooled.length"]),
            node("Div", ["pooled.mean", "pooled.length"], ["pooled.unit"]),
            node("Mul", ["pooled.unit", "pooled.scale"], ["pooled"]),
        ]
    )
    model.producer_name, model.producer_version, model.doc_string = "edge_tta", "", ""
    graph.name, graph.doc_string = "graph", ""
    del model.metadata_props[:], graph.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries report their progress and warn of what does not concern the user."""
    loggers = [logging.getLogger(name) for name in ("optimum", "torch.onnx", "onnxruntime", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
