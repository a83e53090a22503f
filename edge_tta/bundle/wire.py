"""A small, strict reader of the protobuf wire format: bounded in time and depth, nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator

MAX_FIELDS = 250_000
"""Fields visited in one file."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are no protobuf message, or a message that is not acceptable; says why."""


class Fields:
    """Reads the messages of one file and counts what it has read."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Field number and value of one message; submessages and strings as views, never copied.

        Raises:
            Malformed: truncated, or too many fields.
        """
        for number, value, _ in self.spans(data):
            yield number, value

    def spans(self, data: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
        """Like ``read``, with the bytes of the whole field, its tag among them.

        Raises:
            Malformed: truncated, or too many fields.
        """
        position = 0
        while position < len(data):
            self._counted()
            start = position
            tag, position = _varint(data, position)
            number, wire = tag >> 3, tag & 7
            if wire == _VARINT:
                value, position = _varint(data, position)
                yield number, value, data[start:position]
            elif wire in (_FIXED64, _FIXED32, _LENGTH):
                if wire == _LENGTH:
                    size, position = _varint(data, position)
                else:
                    size = 8 if wire == _FIXED64 else 4
                if size > len(data) - position:
                    raise Malformed("a field reaches beyond the end of the file")
                yield number, data[position : position + size], data[start : position + size]
                position += size
            else:
                raise Malformed(f"wire type {wire}")

    def packed(self, data: memoryview) -> Iterator[int]:
        """Numbers of a packed list.

        Raises:
            Malformed: truncated, or too many.
        """
        position = 0
        while position < len(data):
            self._counted()
            value, position = _varint(data, position)
            yield value

    def _counted(self) -> None:
        self._count += 1
        if self._count > MAX_FIELDS:
            raise Malformed(f"more than {MAX_FIELDS} fields")


def varint(value: int) -> bytes:
    """A number from 0 on, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def message_field(number: int, payload: bytes) -> bytes:
    """A field that holds a message, text or bytes."""
    return varint(number << 3 | _LENGTH) + varint(len(payload)) + payload


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise Malformed("truncated or oversized number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7


def as_message(value: int | memoryview) -> memoryview:
    """A field's value as bytes.

    Raises:
        Malformed: it is a number.
    """
    if isinstance(value, int):
        raise Malformed("a number where a message belongs")
    return value


def as_text(value: int | memoryview) -> str:
    """The beginning of a field's value as text.

    Raises:
        Malformed: it is a number.
    """
    return bytes(as_message(value)[:256]).decode("utf-8", "replace")


def as_number(value: int | memoryview) -> int:
    """A field's value as a number.

    Raises:
        Malformed: it is a message.
    """
    if not isinstance(value, int):
        raise Malformed("a message where a number belongs")
    return value
