"""Every ONNX form of a part that may be its fastest, so that the best one is found by measuring and not by opinion.

Matrix products get int8 weights per channel and inputs quantized while running, by the rewriter our own bundles are
made with; convolutions get int8 with calibrated ranges, by ONNX Runtime's quantizer, because its kernels for
convolutions with ranges found while running are slow.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from benchmarks.peers.convolutions import TimeLastConv, replace_convolutions
from benchmarks.peers.engines import SEED, build
from benchmarks.peers.systems import Arrays, Part
from edge_tta.files import write_file
from edge_tta.model.scheme import Scheme, StageScheme
from export.to_onnx import export_onnx
from export.wrappers import StageGraph
from quantization.onnx_stage import quantize_onnx
from quantization.recipe import QuantizationRecipe
from quantization.silence import silenced

_INT8 = StageScheme(Scheme(weights="int8", activations="dynamic", reduce_range=True))
RECIPE = QuantizationRecipe("peers", "onnx", text_encoder=_INT8, generator=_INT8, decoder=_INT8)


def example(part: Part) -> Arrays:
    """Inputs of a part: normal noise, ones for masks and times, small ids."""
    random = np.random.default_rng(SEED)
    arrays: Arrays = {}
    for port in part.inputs:
        shape = tuple(int(size) for size in port.shape)
        if port.dtype == "int64":
            arrays[port.name] = random.integers(1, 60, shape)
        elif port.name == "mask" or len(shape) == 1:
            arrays[port.name] = np.ones(shape, dtype=np.float32)
        else:
            arrays[port.name] = random.standard_normal(shape).astype(np.float32)
    return arrays


def is_convolutional(module: nn.Module) -> bool:
    """Whether a module's work is in convolutions over the last axis."""
    return any(isinstance(part, TimeLastConv) and part.kernel_size[0] > 1 for part in module.modules())


def write_graphs(part: Part, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every form of a part, each written when it is asked for; what is there already is not made again.

    Args:
        part: what to export, at its own shapes.
        folder: receives one file a form.

    Yields:
        Name of the form and its file.

    Raises:
        OutputError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    convolutional = is_convolutional(build(part))
    for flat in (False, True) if convolutional else (False,):
        shape = ("flat" if flat else "plain") if convolutional else ""
        fp32 = folder / f"{part.name}{'-' + shape if shape else ''}-fp32.onnx"
        int8 = fp32.with_name(fp32.name.replace("-fp32", "-int8"))
        if not fp32.exists():
            write_file(fp32, export_part(part, flat))
        yield f"fp32{', ' + shape if shape else ''}", fp32
        if not int8.exists():
            if convolutional:
                quantize_convolutions(fp32, int8, example(part))
            else:
                write_file(int8, quantize_onnx(part.stage, fp32.read_bytes(), RECIPE))
        gc.collect()
        yield f"int8{', ' + shape if shape else ''}", int8


def export_part(part: Part, flat: bool = False) -> bytes:
    """A float graph of a part.

    Args:
        part: what to export.
        flat: write convolutions over the last axis as two-dimensional ones.
    """
    module = build(part)
    replace_convolutions(module, flat=flat)
    for inner in module.modules():
        if hasattr(inner, "explicit_attention"):
            inner.explicit_attention = True  # type: ignore[assignment]
    inputs: tuple[Tensor, ...] = tuple(torch.from_numpy(array) for array in example(part).values())
    return export_onnx(StageGraph(module, inputs, part.inputs, part.outputs, {}))


class _Once(CalibrationDataReader):
    """One set of inputs."""

    def __init__(self, inputs: Arrays) -> None:
        self._left = iter([inputs])

    def get_next(self) -> Arrays | None:
        """The inputs, then None."""
        return next(self._left, None)


def quantize_convolutions(source: Path, target: Path, inputs: Arrays) -> None:
    """Convolutions with int8 weights per channel and uint8 inputs of fixed ranges; the file appears whole."""
    part = target.with_name(f".{target.name}.part")
    try:
        with silenced():
            quantize_static(
                source,
                part,
                _Once(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
