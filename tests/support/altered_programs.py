"""The golden ExecuTorch program with one thing changed; places are found by its schemas, not counted in bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from forged_manifests import describe_file, read_manifest, seal_manifest

from edge_tta.bundle.flatbuffer import Budget, Table, number
from edge_tta.bundle.manifest import STAGES

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "edge-tiny-executorch"
VARIANTS = ("et-xnnpack-fp32", "et-xnnpack-int8")
PROGRAM = (GOLDEN / "et-xnnpack-int8" / "model.pte").read_bytes()
SIZE = int.from_bytes(PROGRAM[16:24], "little")
BASE = int.from_bytes(PROGRAM[24:32], "little")


def root() -> Table:
    return Table.root(memoryview(PROGRAM)[:SIZE], b"ET12")


def plan(name: str) -> Table:
    return next(table for table in root().tables(1) if table.text(0) == name)


def field(table: Table, place: int) -> int:
    """Position of a table's field in the file."""
    position = table._field(place)
    assert position is not None
    return position


def element(table: Table, place: int, index: int, width: int) -> int:
    """Position of a vector's element in the file."""
    start, count = table._vector(place, width)
    assert index < count
    return start + width * index


def patched(position: int, kind: str, value: int) -> bytes:
    """The program with one number replaced."""
    data = bytearray(PROGRAM)
    struct.pack_into(f"<{kind}", data, position, value)
    return bytes(data)


def first(items: object, wanted: Callable[[Table], bool]) -> Table:
    return next(item for item in items if wanted(item))  # type: ignore[attr-defined]


def tensor(name: str, wanted: Callable[[Table], bool]) -> Table:
    """The first tensor of a method that has some property."""
    tensors = (value.table(1) for value in plan(name).tables(2) if value.number(0, "B") == 5)
    return first(tensors, wanted)


def kinds(name: str) -> list[int]:
    """Types of a method's values."""
    return [value.number(0, "B") for value in plan(name).tables(2)]


def instruction(name: str, kind: int) -> Table:
    """The first call of a kernel (1) or delegate (2) in a method that is not the first of its list."""

    def wanted(item: Table) -> bool:
        table = item.table(1)
        return item.number(0, "B") == kind and table is not None and table.number(0, "i") > 0

    return first(next(iter(plan(name).tables(5))).tables(2), wanted)


def call(name: str, kind: int) -> Table:
    table = instruction(name, kind).table(1)
    assert table is not None
    return table


def graph_position() -> int:
    """Where the data of the decoder's first delegate begins in the file."""
    return delegate_position(next(iter(plan("decoder").tables(7))))


def delegate_position(delegate: Table) -> int:
    """Where the data of a delegate begins in the file."""
    reference = delegate.table(1)
    assert reference is not None
    segment = list(root().tables(4))[reference.number(1, "I")]
    return BASE + segment.number(0, "Q")


def xnnpack_graphs() -> Iterator[Table]:
    """Graphs of all delegates, the decoder's first; positions are those in the file."""
    data = memoryview(PROGRAM)
    for delegate in (found for name in STAGES[::-1] for found in plan(name).tables(7)):
        header = delegate_position(delegate)
        start = header + number(data, header + 10, "I")
        yield Table(data, start + number(data, start, "I"), Budget())


def operator(kind: int) -> Table:
    """XNNPACK's first operator of a kind, by its number in the schema."""
    nodes = (node for graph in xnnpack_graphs() for node in graph.tables(1))
    return first(nodes, lambda node: node.number(0, "B") == kind)


def xnnpack_value(index: int) -> Table:
    """What a value of the decoder's first graph says of itself; it must not be a quantized one."""
    table = list(next(xnnpack_graphs()).tables(2))[index].table(1)
    assert table is not None
    return table


def inner_value() -> Table:
    """The first value of the decoder's first graph that is neither input nor output."""
    tables = (value.table(1) for value in next(xnnpack_graphs()).tables(2) if value.number(0, "B") == 1)
    return first(tables, lambda table: table.number(5, "I") == 0)


def content(kind: int, place: int | None = None) -> Table:
    """What the first operator of a kind says of itself, or the first that says ``place``: defaults are not written."""
    nodes = (node for graph in xnnpack_graphs() for node in graph.tables(1))
    told = (node.table(1) for node in nodes if node.number(0, "B") == kind)
    return next(table for table in told if table and (place is None or table._field(place) is not None))


def of_another_type(name: str, value: int) -> int:
    """A value of a method that is no tensor if the given one is, and a tensor if it is not."""
    found = kinds(name)
    return next(index for index, kind in enumerate(found) if (kind == 5) != (found[value] == 5))


def renamed(old: bytes, new: bytes) -> bytes:
    assert PROGRAM.count(old) >= 1 and len(old) == len(new)
    return PROGRAM.replace(old, new)


def planned(item: Table) -> bool:
    return item.table(6) is not None


def constant(item: Table) -> bool:
    return item.number(5, "I") > 0


def place_of(item: Table) -> Table:
    table = item.table(6)
    assert table is not None
    return table


def damaged(seed: int) -> bytes:
    """The program cut, or with a bit or a word changed where it hurts."""
    draw = random.Random(seed)
    data = bytearray(PROGRAM)
    kind = seed % 4
    if kind == 0:
        return bytes(data[: draw.randrange(len(data))])
    if kind == 1:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(data)
    start = graph_position() + draw.randrange(1500) if kind == 3 else draw.randrange(SIZE - 4)
    words = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", draw.randbytes(4))
    data[start : start + 4] = draw.choice(words)
    return bytes(data)


def bundle_with(target: Path, data: bytes) -> Path:
    """The golden bundle with another int8 program and hashes that fit it."""
    for path in GOLDEN.rglob("*"):
        copy = target / path.relative_to(GOLDEN)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (target / "et-xnnpack-int8" / "model.pte").write_bytes(data)
    document = read_manifest(target)
    for stage in document["variants"]["et-xnnpack-int8"]["stages"].values():
        stage |= describe_file(data)
    seal_manifest(target, document)
    return target
