"""Reading FlatBuffers from a stranger: every offset is checked against the buffer before it is followed.

The wire format (FlatBuffers documentation, "Internals"): a table begins with a signed offset back to its vtable, which
holds the position of every field or zero; tables, vectors and strings are reached by unsigned forward offsets; a vector
begins with the number of its elements. Everything is little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_READS = 4_000_000
"""Most tables and vectors that are followed: a small file must not keep its reader busy."""


class Malformed(ValueError):
    """The buffer is not what it claims to be."""


class Budget:
    """How much may still be read."""

    def __init__(self, reads: int = MAX_READS) -> None:
        self.left = reads

    def spend(self, reads: int = 1) -> None:
        """Count; raises ``Malformed`` when it is too much."""
        self.left -= reads
        if self.left < 0:
            raise Malformed("too many parts")


def number(data: memoryview, position: int, kind: str) -> int:
    """An integer in ``struct`` notation without byte order, such as "I"."""
    if position < 0 or position + struct.calcsize(f"<{kind}") > len(data):
        raise Malformed("an offset reaches beyond the end")
    value: int = struct.unpack_from(f"<{kind}", data, position)[0]
    return value


class Table:
    """One table; fields are asked for by their place in the schema, from 0 (a union takes two places)."""

    def __init__(self, data: memoryview, position: int, budget: Budget) -> None:
        budget.spend()
        self._data, self._position, self._budget = data, position, budget
        self._vtable = position - number(data, position, "i")
        self._size = number(data, self._vtable, "H")
        self._length = number(data, self._vtable + 2, "H")
        if self._size < 4 or self._size % 2 or self._length < 4:
            raise Malformed("a table without a proper list of fields")
        if self._vtable + self._size > len(data) or position + self._length > len(data):
            raise Malformed("a table reaches beyond the end")

    @classmethod
    def root(cls, data: memoryview, identifier: bytes) -> Table:
        """The root table of a buffer with a file identifier."""
        if bytes(data[4:8]) != identifier:
            raise Malformed(f"its identifier is {bytes(data[4:8])!r}, not {identifier!r}")
        return cls(data, number(data, 0, "I"), Budget())

    def _field(self, place: int) -> int | None:
        """Position of a field, None if it has its default."""
        slot = 4 + 2 * place
        if slot >= self._size:
            return None
        offset = number(self._data, self._vtable + slot, "H")
        if offset == 0:
            return None
        if not 4 <= offset < self._length:
            raise Malformed("a field outside of its table")
        return self._position + offset

    def number(self, place: int, kind: str, default: int = 0) -> int:
        """An integer, Boolean ("?") or enumeration."""
        position = self._field(place)
        return default if position is None else number(self._data, position, kind)

    def _target(self, place: int) -> int | None:
        position = self._field(place)
        return None if position is None else position + number(self._data, position, "I")

    def table(self, place: int) -> Table | None:
        """A table, None if it is absent."""
        target = self._target(place)
        return None if target is None else Table(self._data, target, self._budget)

    def _vector(self, place: int, width: int) -> tuple[int, int]:
        """Start and number of elements; an absent vector is empty."""
        target = self._target(place)
        if target is None:
            return 0, 0
        self._budget.spend()
        count = number(self._data, target, "I")
        if target + 4 + count * width > len(self._data):
            raise Malformed("a vector reaches beyond the end")
        return target + 4, count

    def numbers(self, place: int, kind: str) -> tuple[int, ...]:
        """A vector of integers."""
        width = struct.calcsize(f"<{kind}")
        start, count = self._vector(place, width)
        self._budget.spend(count)
        return struct.unpack_from(f"<{count}{kind}", self._data, start) if count else ()

    def count(self, place: int, width: int) -> int:
        """Number of elements of a vector of scalars that need not be read."""
        return self._vector(place, width)[1]

    def tables(self, place: int) -> Iterator[Table]:
        """A vector of tables."""
        start, count = self._vector(place, 4)
        for index in range(count):
            position = start + 4 * index
            yield Table(self._data, position + number(self._data, position, "I"), self._budget)

    def text(self, place: int) -> str:
        """A string; empty if it is absent."""
        start, count = self._vector(place, 1)
        if start and number(self._data, start + count, "B") != 0:
            raise Malformed("a string does not end")
        try:
            return bytes(self._data[start : start + count]).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("a string is not UTF-8") from None
