"""Static inspection of ONNX files without the onnx package: what a native loader must never be handed.

A small, strict reader of the protobuf wire format. It refuses external data (files outside the bundle), operators of
unknown domains (native code of others), control flow (unbounded work), too new opsets and anything malformed. Field
numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_tta.errors import BundleError

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
FORBIDDEN_OPERATORS = frozenset({"Loop", "If", "Scan", "SequenceMap"})
MAX_OPSET = 24
MAX_NODES = 20000
MAX_TENSOR_ELEMENTS = 2**30

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Malformed(ValueError):
    pass


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise _Malformed("truncated or oversized number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value of one message; submessages and strings as views, never copied."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _Malformed("field number 0")
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif wire in (_FIXED64, _FIXED32, _LENGTH):
            if wire == _LENGTH:
                size, position = _varint(data, position)
            else:
                size = 8 if wire == _FIXED64 else 4
            if size > len(data) - position:
                raise _Malformed("a field reaches beyond the end of the file")
            yield number, data[position : position + size]
            position += size
        else:
            raise _Malformed(f"wire type {wire}")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Malformed("a number where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:256]).decode("utf-8", "replace")


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise _Malformed("a message where a number belongs")
    return value


class _Inspector:
    def __init__(self) -> None:
        self.nodes = 0

    def model(self, data: memoryview) -> None:
        has_graph = False
        for number, value in _fields(data):
            if number == 7:
                self.graph(_message(value))
                has_graph = True
            elif number == 8:
                self.opset(_message(value))
            elif number == 25:
                raise _Malformed("local functions are not allowed")
        if not has_graph:
            raise _Malformed("no graph")

    def opset(self, data: memoryview) -> None:
        domain, version = "", 0
        for number, value in _fields(data):
            if number == 1:
                domain = _text(value)
            elif number == 2:
                version = _number(value)
        if domain not in ALLOWED_DOMAINS:
            raise _Malformed(f"operators of domain '{domain}' are not allowed")
        if domain in ("", "ai.onnx") and version > MAX_OPSET:
            raise _Malformed(f"opset {version} is newer than {MAX_OPSET}")

    def graph(self, data: memoryview) -> None:
        for number, value in _fields(data):
            if number == 1:
                self.node(_message(value))
            elif number == 5:
                self.tensor(_message(value))
            elif number == 15:
                raise _Malformed("sparse initializers are not allowed")

    def node(self, data: memoryview) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _Malformed(f"more than {MAX_NODES} nodes")
        for number, value in _fields(data):
            if number == 4 and (operator := _text(value)) in FORBIDDEN_OPERATORS:
                raise _Malformed(f"control flow ({operator}) is not allowed")
            if number == 7 and (domain := _text(value)) not in ALLOWED_DOMAINS:
                raise _Malformed(f"operators of domain '{domain}' are not allowed")
            if number == 5:
                self.attribute(_message(value))

    def attribute(self, data: memoryview) -> None:
        for number, value in _fields(data):
            if number in (5, 10):
                self.tensor(_message(value))
            elif number in (6, 11):
                raise _Malformed("subgraphs are not allowed")
            elif number in (22, 23):
                raise _Malformed("sparse tensors are not allowed")

    def tensor(self, data: memoryview) -> None:
        elements = 1
        for number, value in _fields(data):
            if number == 13 or (number == 14 and value != 0):
                raise _Malformed(
                    "external data is not allowed: every file of a bundle must be self-contained"
                )
            if number == 1:
                for dimension in [value] if isinstance(value, int) else _packed(value):
                    elements *= dimension
            if elements > MAX_TENSOR_ELEMENTS:
                raise _Malformed("a tensor has too many elements")


def _packed(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def inspect_onnx(name: str, data: bytes) -> None:
    """Refuse an ONNX file that could reach outside its bytes or run without bound.

    Args:
        name: file name for messages.
        data: the whole file.

    Raises:
        BundleError: names the file and the reason.
    """
    try:
        _Inspector().model(memoryview(data))
    except _Malformed as error:
        raise BundleError(f"{name}: not an acceptable ONNX file ({error})") from None
