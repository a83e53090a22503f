"""A saved Core ML package as plain values: functions, operations and decoded weights, without Apple's native code.

The form of the program is MIL.proto of the Core ML format. Weights lie in one blob file: a header of 64 bytes, then for
every tensor a record of 64 bytes (mark 0xDEADBEEF, type, size and offset of its data in bytes) that the program points
at, and the data. Elements narrower than a byte are packed from the lowest bit up (coremltools 9, mlmodel/src/MILBlob).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_tta.bundle.coreml_package import MODEL_FILE, WEIGHT_FILE, WEIGHT_REFERENCE
from edge_tta.errors import BackendError, MissingExtraError

_MARK = 0xDEADBEEF
_FLOATS = {"FLOAT16": np.float16, "FLOAT32": np.float32}
_WHOLE = {"INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4"}
_PACKED = {"INT4": 4, "UINT1": 1, "UINT2": 2, "UINT3": 3, "UINT4": 4, "UINT6": 6}
"""Bits of an element by type."""

Value = Tensor | str
"""Floats are float32 tensors, integers int64, truth values bool."""


class MilError(BackendError, ValueError):
    """A package that is malformed, or that asks for something the interpreter does not know."""


@dataclass(frozen=True)
class Port:
    """A named value with its declared type; a dimension of None is known only when the program runs."""

    name: str
    dtype: str
    """Name of a MIL type, such as FLOAT16 or INT32."""
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One operation of a function."""

    type: str
    inputs: Mapping[str, tuple[Value | Reference, ...]]
    """Values by parameter; a parameter that takes a list has several."""
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Reference:
    """The name of an earlier operation's output, or of an input."""

    name: str


@dataclass(frozen=True)
class Lengths:
    """The shapes an input of the model may have."""

    ranges: tuple[tuple[int, int], ...]
    """Smallest and largest size of every dimension."""
    enumerated: tuple[tuple[int, ...], ...] = ()
    """All allowed shapes; empty when every shape within the ranges is."""

    def allow(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be given."""
        if len(shape) != len(self.ranges):
            return False
        inside = all(low <= size <= high for size, (low, high) in zip(shape, self.ranges, strict=True))
        return inside and (not self.enumerated or shape in self.enumerated)


@dataclass(frozen=True)
class Function:
    """One function of a program."""

    inputs: tuple[Port, ...]
    lengths: Mapping[str, Lengths]
    """What the model's interface says of every input."""
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


def read_program(package: Path) -> dict[str, Function]:
    """Every function of a saved ``.mlpackage``.

    Raises:
        MissingExtraError: coremltools, which brings the format's description, is absent.
        MilError: not a program, or malformed.
    """
    try:
        from coremltools.proto import Model_pb2
    except ImportError as error:
        raise MissingExtraError("coreml", "reading a Core ML package") from error
    model = Model_pb2.Model.FromString((package / MODEL_FILE).read_bytes())
    if model.WhichOneof("Type") != "mlProgram":
        raise MilError(f"{package.name} holds {model.WhichOneof('Type')}, not a program")
    interfaces = {function.name: function.input for function in model.description.functions}
    interfaces = interfaces or {"main": model.description.input}
    reader = _Reader((package / WEIGHT_FILE).read_bytes())
    return {
        name: reader.function(spec, {feature.name: _lengths(feature) for feature in interfaces[name]})
        for name, spec in model.mlProgram.functions.items()
    }


def numbers(value: Value) -> list[int]:
    """A tensor of whole numbers as a list."""
    if isinstance(value, str):
        raise MilError(f"{value!r} where numbers belong")
    return [int(entry) for entry in value.reshape(-1).tolist()]


def number(value: Value) -> int:
    """A tensor with one whole number."""
    (found,) = numbers(value)
    return found


def demand(condition: bool, what: str) -> None:
    """Refuse what the interpreter does not know."""
    if not condition:
        raise MilError(f"{what} is not known")


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """Unsigned numbers of ``bits`` bits each, packed from the lowest bit up; int64 [count]."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * bits]
    return flat.reshape(count, bits).astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64))


def _lengths(feature: Any) -> Lengths:
    array = feature.type.multiArrayType
    kind = array.WhichOneof("ShapeFlexibility")
    if kind == "shapeRange":
        return Lengths(tuple((size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges))
    if kind == "enumeratedShapes":
        shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
        return Lengths(tuple((min(sizes), max(sizes)) for sizes in zip(*shapes, strict=True)), shapes)
    return Lengths(tuple((size, size) for size in array.shape))


class _Reader:
    def __init__(self, blob: bytes) -> None:
        from coremltools.proto import MIL_pb2

        self._blob, self._types = blob, MIL_pb2.DataType

    def function(self, spec: Any, lengths: Mapping[str, Lengths]) -> Function:
        block = spec.block_specializations[spec.opset]
        return Function(
            tuple(self.port(port) for port in spec.inputs),
            lengths,
            tuple(self.operation(operation) for operation in block.operations),
            tuple(block.outputs),
        )

    def port(self, spec: Any) -> Port:
        dtype, shape = self.tensor_type(spec.type)
        return Port(spec.name, dtype, shape)

    def tensor_type(self, spec: Any) -> tuple[str, tuple[int | None, ...]]:
        if spec.WhichOneof("type") != "tensorType":
            raise MilError(f"a value of type {spec.WhichOneof('type')}; only tensors are known")
        sizes = [
            dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None
            for dimension in spec.tensorType.dimensions
        ]
        return self._types.Name(spec.tensorType.dataType), tuple(sizes)

    def operation(self, spec: Any) -> Operation:
        if spec.blocks:
            raise MilError(f"operation {spec.type} holds blocks; control flow is not known")
        inputs = {
            name: tuple(
                Reference(binding.name)
                if binding.WhichOneof("binding") == "name"
                else self.value(binding.value)
                for binding in argument.arguments
            )
            for name, argument in spec.inputs.items()
        }
        if spec.type == "const":
            inputs["val"] = (self.value(spec.attributes["val"]),)
        return Operation(spec.type, inputs, tuple(self.port(port) for port in spec.outputs))

    def value(self, spec: Any) -> Value:
        dtype, sizes = self.tensor_type(spec.type)
        shape = [size for size in sizes if size is not None]
        count = int(np.prod(shape, dtype=np.int64))
        if spec.WhichOneof("value") == "blobFileValue":
            if spec.blobFileValue.fileName != WEIGHT_REFERENCE:
                raise MilError(f"weights in {spec.blobFileValue.fileName!r}")
            return self.decode(self.blob(spec.blobFileValue.offset), dtype, count, shape)
        tensor = spec.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "bytes":
            return self.decode(tensor.bytes.values, dtype, count, shape)
        values = getattr(tensor, kind).values
        if dtype == "STRING":
            return str(values[0])
        if len(values) != count:
            raise MilError(f"{len(values)} values for a tensor of {count}")
        return torch.tensor(list(values), dtype=_torch_type(dtype)).reshape(shape)

    def blob(self, offset: int) -> bytes:
        mark, _, size, start = struct.unpack_from("<IIQQ", self._blob, offset)
        if mark != _MARK or start + size > len(self._blob):
            raise MilError(f"no weight at offset {offset} of the blob file")
        return self._blob[start : start + size]

    def decode(self, data: bytes, dtype: str, count: int, shape: list[int]) -> Tensor:
        """A tensor from its bytes."""
        if dtype in _PACKED:
            bits = _PACKED[dtype]
            array = unpack_bits(data, bits, count)
            if dtype.startswith("INT"):
                array = np.where(array >= 1 << (bits - 1), array - (1 << bits), array)
        elif dtype in _FLOATS:
            array = np.frombuffer(data, _FLOATS[dtype]).astype(np.float32)
        elif dtype in _WHOLE:
            array = np.frombuffer(data, _WHOLE[dtype]).astype(np.int64)
        else:
            raise MilError(f"values of type {dtype}")
        if array.size != count:
            raise MilError(f"{array.size} elements where the shape {shape} needs {count}")
        return torch.from_numpy(array.reshape(shape))


def _torch_type(dtype: str) -> torch.dtype:
    if dtype == "BOOL":
        return torch.bool
    return torch.float32 if dtype.startswith("FLOAT") else torch.int64
