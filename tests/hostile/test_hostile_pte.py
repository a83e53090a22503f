"""ExecuTorch programs from a stranger: refused with a reason before anything native, never the end of the process."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from altered_programs import (
    GOLDEN,
    PROGRAM,
    VARIANTS,
    bundle_with,
    call,
    constant,
    damaged,
    element,
    field,
    first,
    graph_position,
    instruction,
    of_another_type,
    patched,
    place_of,
    plan,
    planned,
    renamed,
    root,
    tensor,
)

from edge_tta.bundle import Bundle
from edge_tta.bundle.flatbuffer import Budget, Malformed, Table
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import BundleError
from edge_tta.runtime.backend import load_variant

OF_COREML = renamed(b"\x0e\0\0\0XnnpackBackend\0", b"\x0d\0\0\0CoreMLBackend\0\0")
"""A delegate that is known, but not to a variant for XNNPACK."""

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
    "argument of another type": (
        lambda: patched(
            element(call("generator", 1), 1, 0, 4),
            "i",
            of_another_type("generator", call("generator", 1).numbers(1, "i")[0]),
        ),
        "is given",
    ),
    "operator beyond the list": (
        lambda: patched(field(call("generator", 1), 0), "i", 1000),
        "operator 1000 of",
    ),
    "negative operator": (lambda: patched(field(call("generator", 1), 0), "i", -1), "operator -1 of"),
    "delegate beyond the list": (
        lambda: patched(field(call("generator", 2), 0), "i", 1000),
        "delegate 1000 of",
    ),
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


@pytest.mark.parametrize("attack", ["half", "jump", "unknown operator", "delegate without header"])
def test_a_bundle_around_it_does_not_open(tmp_path: Path, attack: str) -> None:
    target = bundle_with(tmp_path / "bundle", ATTACKS[attack][0]())
    with pytest.raises(
        BundleError, match=r"et-xnnpack-int8/model\.pte: not an acceptable ExecuTorch program"
    ):
        Bundle.open(target)
    with pytest.raises(BundleError, match="not an acceptable ExecuTorch program"):
        load_variant(Bundle.open(target, verify=False), "et-xnnpack-int8", 1)


def test_core_ml_in_a_program_for_xnnpack_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """It may be named, so only the variant's manifest tells that it does not belong there."""
    methods = inspect_pte("x.pte", OF_COREML)
    assert {name for method in methods for name in method.delegates} == {"CoreMLBackend"}
    bundle = Bundle.open(bundle_with(tmp_path / "bundle", OF_COREML))
    with pytest.raises(
        BundleError, match=r"model\.pte: hands work to Core ML, the manifest says .* xnnpack$"
    ):
        load_variant(bundle, "et-xnnpack-int8", 1)


def test_damage_without_new_hashes_is_found_by_the_hash(tmp_path: Path) -> None:
    target = bundle_with(tmp_path / "bundle", PROGRAM)
    Bundle.open(target)
    data = bytearray(PROGRAM)
    data[-1] ^= 1
    (target / "et-xnnpack-int8" / "model.pte").write_bytes(bytes(data))
    with pytest.raises(BundleError, match="does not match its SHA-256"):
        load_variant(Bundle.open(target, verify=False), "et-xnnpack-int8", 1)
