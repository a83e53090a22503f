"""ExecuTorch programs from a stranger: refused with a reason before anything native, never the end of the process."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_tta.bundle import Bundle
from edge_tta.bundle.canonical import canonical_bytes, document_digest
from edge_tta.bundle.flatbuffer import Budget, Malformed, Table
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import BundleError
from edge_tta.runtime.backend import load_variant

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "edge-tiny-executorch"
VARIANTS = ("et-xnnpack-fp32", "et-xnnpack-int8")
PROGRAM = (GOLDEN / "et-xnnpack-int8" / "model.pte").read_bytes()
SIZE = int.from_bytes(PROGRAM[16:24], "little")
BASE = int.from_bytes(PROGRAM[24:32], "little")

needs_executorch = pytest.mark.skipif(
    importlib.util.find_spec("executorch") is None, reason="executorch is not installed"
)


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
    """Where the first delegate's data begins in the file."""
    reference = next(iter(plan("decoder").tables(7))).table(1)
    assert reference is not None
    segment = list(root().tables(4))[reference.number(1, "I")]
    return BASE + segment.number(0, "Q")


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


ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "its identifier is"),
    "half": (lambda: PROGRAM[: len(PROGRAM) // 2], "its header says at least"),
    "another format": (lambda: PROGRAM[:4] + b"ONNX" + PROGRAM[8:], "its identifier is b'ONNX'"),
    "an older format": (lambda: PROGRAM[:4] + b"ET11" + PROGRAM[8:], "its identifier is b'ET11'"),
    "no header": (lambda: patched(8, "I", 0), "no header"),
    "program larger than the file": (lambda: patched(16, "Q", 2**40), "its header says"),
    "segments beyond the end": (lambda: patched(32, "Q", 2**63), "its header says"),
    "root beyond the end": (lambda: patched(0, "I", 2**31), "an offset reaches beyond"),
    "later schema": (lambda: patched(field(next(iter(root().tables(1))), 0), "I", 2**30), "beyond the end"),
    "a segment beyond the end": (
        lambda: patched(field(list(root().tables(4))[3], 1), "Q", 2**62),
        "a segment reaches beyond the end",
    ),
    "jump": (lambda: patched(field(instruction("generator", 1), 0), "B", 4), "no jumps"),
    "move": (lambda: patched(field(instruction("generator", 1), 0), "B", 3), "no jumps"),
    "unknown operator": (
        lambda: renamed(b"aten::cumsum", b"aten::system"),
        "'aten::system.out' is not among",
    ),
    "operator that is no text": (
        lambda: renamed(b"aten::cumsum", b"aten::\xff\xfe\xffsum"[:12]),
        "not UTF-8",
    ),
    "unknown delegate": (lambda: renamed(b"XnnpackBackend", b"XnnpackBackenD"), "delegate 'XnnpackBackenD'"),
    "argument beyond the values": (
        lambda: patched(element(call("generator", 1), 1, 0, 4), "i", 2**31 - 1),
        "value 2147483647 of",
    ),
    "negative argument": (lambda: patched(element(call("decoder", 2), 1, 0, 4), "i", -1), "value -1 of"),
    "input that is no tensor": (
        lambda: patched(element(plan("decoder"), 3, 0, 4), "i", 0),
        "an input or output",
    ),
    "negative size": (
        lambda: patched(element(tensor("decoder", planned), 2, 0, 4), "i", -5),
        "impossible sizes",
    ),
    "more elements than memory": (
        lambda: patched(element(tensor("decoder", planned), 2, 0, 4), "i", 2**31 - 1),
        "a tensor of|beyond its buffer",
    ),
    "constant beyond its segment": (
        lambda: patched(element(tensor("decoder", constant), 2, 0, 4), "i", 2**24),
        "beyond its segment",
    ),
    "unknown constant": (
        lambda: patched(field(tensor("decoder", constant), 5), "I", 2**20),
        "constant 1048576 of",
    ),
    "no memory at all": (lambda: patched(field(tensor("decoder", constant), 5), "I", 0), "without memory"),
    "unknown buffer": (
        lambda: patched(field(place_of(tensor("decoder", planned)), 0), "I", 9),
        "buffer 9 of",
    ),
    "outside of its buffer": (
        lambda: patched(
            field(place_of(tensor("decoder", lambda t: planned(t) and place_of(t).number(1, "I") > 0)), 1),
            "I",
            2**32 - 16,
        ),
        "beyond its buffer",
    ),
    "a plan of a terabyte": (
        lambda: patched(element(plan("decoder"), 8, 1, 8), "q", 2**40),
        "bytes of memory",
    ),
    "size of a dimension that is not there": (
        lambda: patched(
            field(
                list(plan("generator").tables(2))[
                    first(
                        (c for i in next(iter(plan("generator").tables(5))).tables(2) if (c := i.table(1))),
                        lambda c: len(c.numbers(1, "i")) == 3,
                    ).numbers(1, "i")[1]
                ].table(1),  # type: ignore[arg-type]
                0,
            ),
            "q",
            65537,
        ),
        "dimension that is not there",
    ),
    "delegate without header": (
        lambda: patched(graph_position() + 4, "I", 0),
        "XNNPACK's data has no header",
    ),
    "delegate's graph beyond its data": (
        lambda: patched(graph_position() + 14, "I", 2**31),
        "XNNPACK's graph reaches beyond",
    ),
    "delegate's graph of another kind": (
        lambda: patched(graph_position() + 36, "I", 0x7FFFFFFF),
        "its identifier is",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_with_its_reason(attack: str) -> None:
    make, reason = ATTACKS[attack]
    data = make()
    assert data != PROGRAM
    with pytest.raises(BundleError, match=rf"x\.pte: not an acceptable ExecuTorch program \(.*({reason})"):
        inspect_pte("x.pte", data)


def test_untouched_programs_are_accepted_and_tell_what_xnnpack_runs() -> None:
    for variant in VARIANTS:
        methods = inspect_pte(variant, (GOLDEN / variant / "model.pte").read_bytes())
        assert [method.name for method in methods] == ["decoder", "generator", "text_encoder"]
        for method in methods:
            assert method.delegated / (method.delegated + method.portable) > 0.9


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


def test_random_damage_is_refused_or_harmless_and_never_takes_long() -> None:
    slowest = 0.0
    refused = 0
    for seed in range(600):
        data = damaged(seed)
        started = time.perf_counter()
        try:
            inspect_pte("x.pte", data)
        except BundleError:
            refused += 1
        slowest = max(slowest, time.perf_counter() - started)
    assert refused > 300
    assert slowest < 5.0


def test_noise_behind_the_identifier_is_refused() -> None:
    draw = random.Random(1)
    for size in (8, 9, 40, 64, 1000, 70000):
        noise = draw.randbytes(size)
        with pytest.raises(BundleError, match="not an acceptable ExecuTorch program"):
            inspect_pte("x.pte", noise[:4] + b"ET12" + noise[8:])


def test_one_table_named_a_million_times_is_too_much() -> None:
    # Vtable at 8 (one field), root at 16, its vector at 24 whose elements all name the table behind it.
    count = 1000
    child = 28 + 4 * count
    head = struct.pack("<I4sHHHHiII", 16, b"ET12", 6, 8, 4, 0, 8, 4, count)
    elements = b"".join(struct.pack("<I", child - (28 + 4 * index)) for index in range(count))
    data = memoryview(head + elements + struct.pack("<iI", child - 8, 0))
    assert len(list(Table(data, 16, Budget(2000)).tables(0))) == count
    with pytest.raises(Malformed, match="too many parts"):
        list(Table(data, 16, Budget(500)).tables(0))


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
    document = json.loads((target / "manifest.json").read_bytes())
    for stage in document["variants"]["et-xnnpack-int8"]["stages"].values():
        stage |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document["digest"] = document_digest(document)
    (target / "manifest.json").write_bytes(canonical_bytes(document))
    return target


@pytest.mark.parametrize("attack", ["half", "jump", "unknown operator", "delegate without header"])
def test_a_bundle_around_it_does_not_open(tmp_path: Path, attack: str) -> None:
    target = bundle_with(tmp_path / "bundle", ATTACKS[attack][0]())
    with pytest.raises(
        BundleError, match=r"et-xnnpack-int8/model\.pte: not an acceptable ExecuTorch program"
    ):
        Bundle.open(target)
    with pytest.raises(BundleError, match="not an acceptable ExecuTorch program"):
        load_variant(Bundle.open(target, verify=False), "et-xnnpack-int8", 1)


def test_damage_without_new_hashes_is_found_by_the_hash(tmp_path: Path) -> None:
    target = bundle_with(tmp_path / "bundle", PROGRAM)
    Bundle.open(target)
    data = bytearray(PROGRAM)
    data[-1] ^= 1
    (target / "et-xnnpack-int8" / "model.pte").write_bytes(bytes(data))
    with pytest.raises(BundleError, match="does not match its SHA-256"):
        load_variant(Bundle.open(target, verify=False), "et-xnnpack-int8", 1)


LOADER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {hostile!r}]
import numpy as np
import test_hostile_pte as cases
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import EdgeTTAError
from edge_tta.runtime.et_program import EtProgram

f = lambda *shape: np.zeros(shape, np.float32)
inputs = {{
    "text_encoder": [np.zeros((1, 5), np.int64)],
    "generator": [f(1, 7, 4), f(1), f(1), f(1, 5, 8), f(1, 8), f(1), f(1)],
    "decoder": [f(1, 7, 4)],
}}
loaded = 0
for seed in range({first}, {last}):
    print(seed, flush=True)
    data = cases.damaged(seed)
    try:
        inspect_pte("x.pte", data)
        program = EtProgram("x.pte", data)
    except EdgeTTAError:
        continue
    loaded += 1
    for method in program.methods:
        try:
            program.run(method, inputs[method])
        except EdgeTTAError:
            pass
    program.close()
print("loaded", loaded)
"""


@needs_executorch
def test_damaged_programs_never_end_the_process() -> None:
    code = LOADER.format(root=str(ROOT), hostile=str(Path(__file__).parent), first=1000, last=1200)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    lines = done.stdout.split("\n")
    assert done.returncode == 0, f"seed {lines[-2:]}: signal {-done.returncode}\n{done.stderr[-2000:]}"
    assert int(done.stdout.split()[-1]) > 20
