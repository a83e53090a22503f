"""What compiled classes refer to, from their constant pools."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_WIDTHS = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
_UTF8, _FIELD, _METHOD, _INTERFACE_METHOD = 1, 9, 10, 11
_PRIVATE, _SYNTHETIC = 0x0002, 0x1000


@dataclass(frozen=True, order=True)
class Reference:
    """A use of a member of another class."""

    owner: str
    """Class, with dots between packages and classes."""
    member: str
    parameters: int | None
    """None for a field."""


def class_version(data: bytes) -> int:
    """Major version of a class file: 52 is Java 8, 55 is Java 11."""
    return int(struct.unpack_from(">H", data, 6)[0])


def references(data: bytes) -> Iterator[Reference]:
    """Members of other classes that a class file uses, each as often as its pool has it."""
    pool, _ = _constant_pool(data)

    def text(index: int) -> str:
        return pool[index][1].decode("utf-8", errors="replace")

    for tag, content in pool.values():
        if tag in (_FIELD, _METHOD, _INTERFACE_METHOD):
            owner, name_and_type = struct.unpack(">HH", content)
            name, kind = struct.unpack(">HH", pool[name_and_type][1])
            owner_name = text(struct.unpack(">H", pool[owner][1])[0])
            parameters = None if tag == _FIELD else count_parameters(text(kind))
            yield Reference(_dotted(owner_name), text(name), parameters)


def declarations(data: bytes) -> Iterator[Reference]:
    """Members that a class file itself declares and that others can use."""
    pool, position = _constant_pool(data)
    _, this, _, interfaces = struct.unpack_from(">HHHH", data, position)
    position += 8 + 2 * interfaces
    owner = _dotted(pool[struct.unpack(">H", pool[this][1])[0]][1].decode())
    for is_method in (False, True):
        count = struct.unpack_from(">H", data, position)[0]
        position += 2
        for _ in range(count):
            flags, name, kind, attributes = struct.unpack_from(">HHHH", data, position)
            position += 8
            for _ in range(attributes):
                position += 6 + struct.unpack_from(">I", data, position + 2)[0]
            if not flags & (_PRIVATE | _SYNTHETIC) and pool[name][1] != b"<clinit>":
                descriptor = pool[kind][1].decode()
                parameters = count_parameters(descriptor) if is_method else None
                yield Reference(owner, pool[name][1].decode(), parameters)


def all_references(folder: Path) -> set[Reference]:
    """References of all class files in a folder."""
    return {found for file in sorted(folder.rglob("*.class")) for found in references(file.read_bytes())}


def count_parameters(descriptor: str) -> int:
    """Number of parameters of a method's descriptor, such as (I[Ljava/lang/String;)V."""
    inside = descriptor[1 : descriptor.index(")")]
    count = position = 0
    while position < len(inside):
        while inside[position] == "[":
            position += 1
        position = inside.index(";", position) + 1 if inside[position] == "L" else position + 1
        count += 1
    return count


def _dotted(name: str) -> str:
    return name.replace("/", ".").replace("$", ".")


def _constant_pool(data: bytes) -> tuple[dict[int, tuple[int, bytes]], int]:
    """Tag and content of every constant by its index, and where the pool ends."""
    size = struct.unpack_from(">H", data, 8)[0]
    pool: dict[int, tuple[int, bytes]] = {}
    index, position = 1, 10
    while index < size:
        tag = data[position]
        position += 1
        if tag == _UTF8:
            width = struct.unpack_from(">H", data, position)[0]
            position += 2
        else:
            width = _WIDTHS[tag]
        pool[index] = (tag, data[position : position + width])
        position += width
        # Long and double take two indices.
        index += 2 if tag in (5, 6) else 1
    return pool, position
