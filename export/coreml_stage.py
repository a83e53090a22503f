"""One stage as a Core ML model: exported by torch, tidied for the converter, in halves where halves suffice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from edge_tta.bundle.manifest import Port
from edge_tta.errors import ConfigError
from export.coreml_passes import pass_pipeline
from export.wrappers import StageGraph
from quantization.coreml import LOGGERS, import_coremltools
from quantization.silence import silenced

DEFAULT_LENGTHS = {"length": 216, "tokens": 24}
"""Sizes a device prepares for before it has seen any: ten seconds, an ordinary prompt."""

_READ_BY_NAME = frozenset({"dtype", "device", "layout", "pin_memory", "memory_format"})


@dataclass(frozen=True)
class StageModel:
    """A converted stage."""

    model: Any
    """``coremltools.models.MLModel``; not loaded by Core ML."""
    weights: Mapping[str, str]
    """Name of the weight in the module by name of the constant in the program, in float32."""


def convert_stage(
    stage: StageGraph,
    precision: Literal["fp32", "fp16"],
    lengths: Mapping[str, tuple[int, ...]] | None = None,
) -> StageModel:
    """Convert one stage for macOS 15 and iOS 18.

    Args:
        stage: with attention as one operator, which Core ML has too.
        precision: "fp16" computes in halves, except what ``export.coreml_precision`` names, "fp32" all in float32.
        lengths: allowed sizes of a dynamic dimension by name, for devices that prepare every shape beforehand;
            dimensions that are not named take any size within the stage's range.

    Raises:
        ConfigError: a length is out of the stage's range.
        MissingExtraError: coremltools is absent.
    """
    coremltools = import_coremltools()
    exported = export_program(stage)
    shapes = _Shapes(coremltools, stage, lengths or {})
    # Core ML has no 64-bit integers at a model's border.
    types = {"int64": np.int32, "float32": np.float32}
    inputs = [
        coremltools.TensorType(name=port.name, shape=shapes.of(port), dtype=types[port.dtype])
        for port in stage.input_ports
    ]
    outputs = [coremltools.TensorType(name=port.name, dtype=types[port.dtype]) for port in stage.output_ports]
    with silenced(*LOGGERS):
        model = coremltools.convert(
            exported,
            inputs=inputs,
            outputs=outputs,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            # Our own pass halves: the converter's knows no exceptions that can be told by their place in the graph.
            compute_precision=coremltools.precision.FLOAT32,
            pass_pipeline=pass_pipeline(halves=precision == "fp16"),
            skip_model_load=True,
        )
        constants = coremltools.optimize.coreml.get_weights_metadata(model, weight_threshold=0)
    return StageModel(model, _names(exported, {name: found.val for name, found in constants.items()}))


def _names(exported: ExportedProgram, constants: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Names of weights by constant; the converter gives those it transposes for a product a name of its own."""
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    unnamed = {
        constant.removesuffix("_to_fp16"): value
        for constant, value in constants.items()
        if value.ndim == 2 and constant.removesuffix("_to_fp16") not in names
    }
    held = {**exported.state_dict, **exported.constants}
    for name in signature.inputs_to_buffers.values():
        turned = held[name].T.numpy() if held[name].ndim == 2 else np.empty(0)
        for constant, value in unnamed.items():
            # In halves the converter makes the smallest values zero.
            if turned.shape == value.shape and np.allclose(turned, value, rtol=1e-3, atol=1e-6):
                names[constant] = name
    return names


def export_program(stage: StageGraph) -> ExportedProgram:
    """The stage as a graph of basic operators that the converter reads as they are meant."""
    with silenced(*LOGGERS), torch.no_grad():
        exported = torch.export.export(
            stage.module, stage.inputs, dynamic_shapes=stage.dynamic_shapes(), strict=False
        ).run_decompositions({torch.ops.aten.gelu.default: _gelu})
    tidy(exported)
    return exported


def _gelu(x: Tensor, approximate: str = "none") -> Any:
    """The tanh approximation written out, in the form that the converter recognises as one operation again.

    As an operator it would silently become the exact function: the converter drops what is given by name.
    """
    if approximate != "tanh":
        return NotImplemented
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))
    return x * (0.5 * (1 + torch.tanh(inner)))


def tidy(exported: ExportedProgram) -> None:
    """Rewrite in place what the converter does not know, or would read wrongly.

    Views name every known size and leave one open: the converter cannot follow sizes that are computed from a dynamic
    length, and a device would have to compute them at every run.
    """
    graph = exported.graph_module.graph
    aten = torch.ops.aten
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target in (aten.view.default, aten._unsafe_view.default):
            sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
            if sizes.count(-1) <= 1:
                node.args = (node.args[0], sizes)
        elif unread := set(node.kwargs) - _READ_BY_NAME:
            raise ConfigError(
                f"Core ML's converter would ignore {', '.join(sorted(unread))} of {node.target}"
            )
    graph.eliminate_dead_code()
    exported.graph_module.recompile()


class _Shapes:
    """Shapes of a stage's inputs as the converter takes them."""

    def __init__(self, coremltools: Any, stage: StageGraph, lengths: Mapping[str, tuple[int, ...]]) -> None:
        self._coremltools, self._stage = coremltools, stage
        for name, sizes in lengths.items():
            low, high = stage.lengths.get(name, (0, 2**31))
            if not sizes or min(sizes) < low or max(sizes) > high:
                raise ConfigError(f"{name} of {', '.join(map(str, sizes))} is out of range: {low} to {high}")
        self._lengths = {name: tuple(sorted(set(sizes))) for name, sizes in lengths.items()}

    def of(self, port: Port) -> Any:
        """Shape of one input."""
        named = [size for size in port.shape if isinstance(size, str)]
        if any(name in self._lengths for name in named):
            (name,) = named
            shapes = [
                tuple(length if size == name else size for size in port.shape)
                for length in self._lengths[name]
            ]
            return self._coremltools.EnumeratedShapes(shapes=shapes, default=shapes[-1])
        return tuple(self._range(size) if isinstance(size, str) else size for size in port.shape)

    def _range(self, name: str) -> Any:
        low, high = self._stage.lengths[name]
        return self._coremltools.RangeDim(low, high, min(max(DEFAULT_LENGTHS[name], low), high))
