"""Graphs for XNNPACK from a stranger, in an ExecuTorch program: what ended the process in XNNPACK itself is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from altered_programs import (
    PROGRAM,
    content,
    element,
    field,
    inner_value,
    operator,
    patched,
    xnnpack_graphs,
    xnnpack_value,
)

from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import BundleError

ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "operator unknown to XNNPACK": (
        lambda: patched(field(operator(1), 0), "B", 200),
        "XNNPACK's operator 200 is not among",
    ),
    "XNNPACK's operator of another kind": (
        # Its addition as a depthwise convolution, which would divide by what is not there.
        lambda: patched(field(operator(1), 0), "B", 13),
        "XNNPACK's operator 13 takes what is not there",
    ),
    "XNNPACK's operator without content": (
        # Its list of fields says that there is none.
        lambda: patched(operator(1)._vtable + 6, "H", 0),
        "XNNPACK's operator .* is not among",
    ),
    "XNNPACK's value that nothing makes": (
        lambda: patched(field(content(1), 0), "I", 2**20),
        "XNNPACK's operator 1 takes what is not there",
    ),
    "XNNPACK's operator that writes to weights": (
        lambda: patched(field(content(1), 2), "I", content(2).number(1, "I")),
        "XNNPACK's operator 1 takes what is not there, or makes what is",
    ),
    "XNNPACK's convolution in steps of zero": (
        lambda: patched(field(content(13), 6), "I", 0),
        "XNNPACK's operator 13 does not fit",
    ),
    "XNNPACK's convolution larger than its weights": (
        lambda: patched(field(content(13), 5), "I", 1000),
        "XNNPACK's operator 13 does not fit",
    ),
    "XNNPACK's padding of fewer dimensions": (
        lambda: patched(content(10)._vector(0, 4)[0] - 4, "I", 1),
        "XNNPACK's operator 10 does not fit",
    ),
    "XNNPACK's padding by gigabytes": (
        lambda: patched(element(content(10), 0, 0, 4), "I", 2**31),
        "XNNPACK's operator 10 does not fit",
    ),
    "XNNPACK's value of gigabytes": (
        lambda: patched(element(xnnpack_value(0), 2, 0, 4), "I", 2**31),
        "a value of XNNPACK's of",
    ),
    "XNNPACK's dimension that is taken twice": (
        lambda: patched(element(content(5), 1, 0, 4), "I", content(5).numbers(1, "I")[1]),
        "XNNPACK's operator 5 does not fit",
    ),
    "XNNPACK's reshape of more dimensions than it tells": (
        lambda: patched(field(content(20), 0), "I", 6),
        "XNNPACK's operator 20 does not fit",
    ),
    "XNNPACK's axis that is not there": (
        lambda: patched(field(content(32, 0), 0), "I", 6),
        "XNNPACK's operator 32 does not fit",
    ),
    "XNNPACK's slice of fewer dimensions": (
        lambda: patched(content(35)._vector(2, 4)[0] - 4, "I", 1),
        "XNNPACK's operator 35 does not fit",
    ),
    "XNNPACK's output that nothing makes": (
        lambda: patched(element(next(xnnpack_graphs()), 1, 0, 4) - 4, "I", 1),
        "XNNPACK's graph does not make its outputs",
    ),
    "XNNPACK's value in the place of an input": (
        lambda: patched(field(inner_value(), 4), "I", 0),
        "takes the place of an input or output",
    ),
    "XNNPACK's value twice": (
        lambda: patched(field(xnnpack_value(1), 6), "I", xnnpack_value(2).number(6, "I")),
        "two values of XNNPACK's are called",
    ),
    "XNNPACK's graph of four thousand million ends": (
        # Once a list of that many numbers was made to compare with.
        lambda: patched(field(next(xnnpack_graphs()), 3), "I", 2**32 - 1),
        "inputs and outputs are not its values",
    ),
    "XNNPACK's bias that is not as long as its weights": (
        lambda: patched(field(content(2), 2), "I", content(2).number(1, "I")),
        "XNNPACK's operator 2 is without its weights",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_refused_with_its_reason(attack: str) -> None:
    make, reason = ATTACKS[attack]
    data = make()
    assert data != PROGRAM
    with pytest.raises(BundleError, match=rf"^x\.pte: not an acceptable ExecuTorch program \(.*({reason})"):
        inspect_pte("x.pte", data)
