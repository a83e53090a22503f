"""A look into ExecuTorch programs before the native loader sees them.

ExecuTorch checks the structure of a file, but trusts what the structure means: an index beyond a list, an argument of
another type or an operator name that is no text ends the process, and a jump backwards never ends. So programs are read
here first, by the schema in ``executorch/schema/program.fbs`` (1.5): one chain of calls without jumps, known operators
with arguments of the types they take, every index, offset and size in range, nothing outside of the file. Of
XNNPACK's own graphs the places of their weights are checked here, the rest by XNNPACK.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from edge_tta.bundle.flatbuffer import Malformed, Table, number
from edge_tta.bundle.xnnpack_inspect import XnnpackGraph, inspect_xnnpack
from edge_tta.errors import BundleError

T = TypeVar("T")

IDENTIFIER, HEADER_MAGIC = b"ET12", b"eh00"
MAX_VALUES = 100_000
MAX_TENSOR_BYTES = 2**31
MAX_ACTIVATION_BYTES = 2**31
"""Most memory the plan of a method may ask for, bytes."""
DELEGATES = frozenset({"XnnpackBackend", "CoreMLBackend"})
OPERATORS = {
    "aten::alias_copy.out": "ttt",
    "aten::arange.start_out": "iiitt",
    "aten::atan2.out": "tttt",
    "aten::cumsum.out": "ti[in]tt",
    "aten::embedding.out": "ttibbtt",
    "aten::index_select.out": "tittt",
    "aten::mean.out": "tIb[in]tt",
    "aten::remainder.Scalar_out": "titt",
    "aten::select_copy.int_out": "tiitt",
    "aten::slice_copy.Tensor_out": "ti[in][in]itt",
    "aten::sym_size.int": "tii",
    "aten::view_copy.out": "tItt",
    "dim_order_ops::_to_dim_order_copy.out": "tbItt",
    "executorch_prim::add.Scalar": "iii",
    "executorch_prim::et_view.default": "tIt",
    "executorch_prim::mul.Scalar": "iii",
}
"""What a program may call besides delegates: types of the arguments, outputs included, as letters of ``KINDS``."""
LENGTHS = frozenset({"aten::sym_size.int", "executorch_prim::add.Scalar", "executorch_prim::mul.Scalar"})
"""Arithmetic on lengths, which is no work."""
KINDS = {1: "n", 2: "i", 3: "b", 4: "d", 5: "t", 6: "s", 7: "I", 8: "D", 9: "B"}
"""Types of values by their number in the schema: none, integer, Boolean, double, tensor, text, and lists."""
_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 11: 1, 15: 2}
"""Bytes of an element by its type's number in the schema: plain integers and floats, bool, bfloat16."""
_KERNEL, _DELEGATE = 1, 2


@dataclass(frozen=True)
class MethodSummary:
    """Where the work of a method is done."""

    name: str
    delegated: int
    """Operators in the subgraphs of delegates that tell their number (XNNPACK)."""
    portable: int
    """Calls of ExecuTorch's own kernels; arithmetic on lengths is not counted."""
    delegates: frozenset[str]
    """Names of all delegates, as in ``DELEGATES``."""


@dataclass(frozen=True)
class _Program:
    """What all methods refer to."""

    segments: list[memoryview]
    named: dict[str, int]
    """Bytes of the data that delegates ask for by name."""
    constants: tuple[int, ...]
    """Offsets of constant tensors into ``constant_data``."""
    constant_data: memoryview


@dataclass(frozen=True)
class _Values:
    """The values of a method by index."""

    kinds: list[str]
    """Letters of ``KINDS``."""
    ranks: list[int]
    """Dimensions of tensors."""
    writable: list[bool]
    integers: dict[int, int]


def inspect_pte(name: str, data: bytes) -> tuple[MethodSummary, ...]:
    """Refuse a program that could reach outside its bytes, run without end or end the process.

    Args:
        name: file name for messages.
        data: the whole file.

    Raises:
        BundleError: names the file and the reason.
    """
    try:
        return _inspect(memoryview(data))
    except Malformed as error:
        raise BundleError(f"{name}: not an acceptable ExecuTorch program ({error})") from None


def _inspect(data: memoryview) -> tuple[MethodSummary, ...]:
    program, tail = _parts(data)
    root = Table.root(program, IDENTIFIER)
    if root.number(0, "I") != 0:
        raise Malformed(f"schema version {root.number(0, 'I')}")
    if root.count(2, 4) or root.count(3, 4) or root.count(6, 4):
        raise Malformed(
            "constants or delegates inside the program, or tensors that keep values between calls"
        )
    segments = []
    for segment in root.tables(4):
        offset, size = segment.number(0, "Q"), segment.number(1, "Q")
        if offset + size > len(tail):
            raise Malformed("a segment reaches beyond the end")
        segments.append(tail[offset : offset + size])
    named = {
        entry.text(0): len(_element(segments, entry.number(1, "I"), "segment")) for entry in root.tables(7)
    }
    table = root.table(5)
    constants = () if table is None else table.numbers(1, "Q")
    constant_data = memoryview(b"")
    if table is not None and constants:
        constant_data = _element(segments, table.number(0, "I"), "segment")
    shared = _Program(segments, named, constants, constant_data)
    summaries = [_method(plan, shared) for plan in root.tables(1)]
    names = [summary.name for summary in summaries]
    if not names or len(set(names)) != len(names):
        raise Malformed(f"{len(names)} methods with {len(set(names))} names")
    return tuple(summaries)


def _parts(data: memoryview) -> tuple[memoryview, memoryview]:
    """The flatbuffer and what follows it, by the header that exporters write behind the identifier."""
    if len(data) < 40 or bytes(data[4:8]) != IDENTIFIER:
        raise Malformed(f"its identifier is {bytes(data[4:8])!r}, not {IDENTIFIER!r}")
    if bytes(data[8:12]) != HEADER_MAGIC or number(data, 12, "I") < 32:
        raise Malformed("no header")
    size, base, rest = (number(data, place, "Q") for place in (16, 24, 32))
    if not 40 <= size <= base <= len(data) or base + rest > len(data):
        raise Malformed(f"it is {len(data)} bytes long, its header says at least {base + rest}")
    return data[:size], data[base : base + rest]


def _element(items: Sequence[T], index: int, what: str) -> T:
    if not 0 <= index < len(items):
        raise Malformed(f"{what} {index} of {len(items)}")
    return items[index]


def _method(plan: Table, program: _Program) -> MethodSummary:
    name = plan.text(0)
    if not re.fullmatch(r"[a-z_]{1,64}", name):
        raise Malformed("the name of a method is not plain")
    values = _read_values(plan, program)
    operators = [f"{operator.text(0)}.{operator.text(1)}" for operator in plan.tables(6)]
    for operator in operators:
        if operator not in OPERATORS:
            raise Malformed(f"operator {operator[:80]!r} is not among those that programs here are made of")
    delegates = [_delegate(delegate, program) for delegate in plan.tables(7)]
    chains = list(plan.tables(5))
    if len(chains) != 1:
        raise Malformed(f"{name}: {len(chains)} chains instead of one")
    delegated = portable = 0
    asked: list[tuple[int, int]] = []
    written: set[int] = set()
    for instruction in chains[0].tables(2):
        action, call = instruction.number(0, "B"), instruction.table(1)
        if action not in (_KERNEL, _DELEGATE) or call is None:
            raise Malformed(f"{name}: only calls are allowed, no jumps")
        arguments = call.numbers(1, "i")
        given = "".join(_element(values.kinds, index, "value") for index in arguments)
        if action == _DELEGATE:
            graph = _element(delegates, call.number(0, "i"), "delegate")
            found = tuple(values.ranks[index] for index in arguments)
            if given.strip("t") or (graph is not None and graph.ranks != found):
                raise Malformed(f"{name}: a delegate is given {given} of {found} dimensions")
            delegated += 0 if graph is None else graph.operators
            continue
        operator = _element(operators, call.number(0, "i"), "operator")
        if not re.fullmatch(OPERATORS[operator], given) or not values.writable[arguments[-1]]:
            raise Malformed(f"{name}: {operator} is given {given}")
        if operator == "aten::sym_size.int":
            asked.append((values.ranks[arguments[0]], arguments[1]))
        if given.endswith("i"):
            written.add(arguments[-1])
        portable += operator not in LENGTHS
    # A dimension that a tensor does not have ends the process instead of being an error.
    if any(index in written or not 0 <= values.integers[index] < rank for rank, index in asked):
        raise Malformed(f"{name}: the size of a dimension that is not there")
    return MethodSummary(name, delegated, portable, frozenset(item.text(0) for item in plan.tables(7)))


def _read_values(plan: Table, program: _Program) -> _Values:
    """All values of a method, each checked."""
    buffers = plan.numbers(8, "q")
    if any(size < 0 for size in buffers) or sum(buffers) > MAX_ACTIVATION_BYTES:
        raise Malformed(f"a plan of {sum(buffers)} bytes of memory")
    if plan.count(9, 4):
        raise Malformed("a plan with memory of other devices")
    values = _Values([], [], [], {})
    inputs, outputs = set(plan.numbers(3, "i")), plan.numbers(4, "i")
    lists: list[int] = []
    for index, value in enumerate(plan.tables(2)):
        kind, content = KINDS.get(value.number(0, "B"), ""), value.table(1)
        if not kind or content is None or index >= MAX_VALUES:
            raise Malformed(f"values of type {value.number(0, 'B')}, or too many")
        # XNNPACK takes a tensor without dimensions for one of length 1.
        values.ranks.append(max(1, content.count(2, 4)) if kind == "t" else 0)
        values.writable.append(
            _tensor(content, program, buffers, index in inputs) if kind == "t" else kind == "i"
        )
        values.kinds.append(kind)
        if kind == "i":
            values.integers[index] = content.number(0, "q")
        if kind == "I":
            lists += content.numbers(0, "q")
    # Lists of integers hold indices of values, because their elements may be lengths.
    if any(_element(values.kinds, index, "value") not in "in" for index in lists):
        raise Malformed("a list of integers holds something else")
    for index in (*inputs, *outputs):
        if _element(values.kinds, index, "value") != "t" or (index in inputs and not values.writable[index]):
            raise Malformed("an input or output is no tensor, or a constant")
    return values


def _tensor(tensor: Table, program: _Program, buffers: tuple[int, ...], given: bool) -> bool:
    """Check a tensor, which is ``given`` by the caller or has memory of its own; whether it may be written to."""
    width = _BYTES.get(tensor.number(0, "b"))
    sizes, order = tensor.numbers(2, "i"), tensor.numbers(3, "B")
    if width is None or tensor.number(1, "i") or len(sizes) > 8:
        raise Malformed("a tensor of an unknown type or layout")
    if any(size < 0 for size in sizes) or sorted(order) != list(range(len(sizes))):
        raise Malformed("a tensor with impossible sizes")
    size = math.prod(sizes) * width
    if size > MAX_TENSOR_BYTES:
        raise Malformed(f"a tensor of {size} bytes")
    extra = tensor.table(9)
    if extra is not None and (extra.number(2, "b") or extra.number(3, "b")):
        raise Malformed("a tensor outside of the file")
    index, place = tensor.number(5, "I"), tensor.table(6)
    if index:
        if place is not None:
            raise Malformed("a tensor that keeps values between calls")
        if _element(program.constants, index, "constant") + size > len(program.constant_data):
            raise Malformed("a constant reaches beyond its segment")
        return False
    if place is not None:
        start = place.number(1, "I") + (place.number(2, "I") << 32)
        if start + size > _element(buffers, place.number(0, "I"), "buffer"):
            raise Malformed("a tensor reaches beyond its buffer")
    elif not given:
        raise Malformed("a tensor without memory")
    return True


def _delegate(delegate: Table, program: _Program) -> XnnpackGraph | None:
    """Check a delegate; what XNNPACK's graph takes and gives, None for other delegates."""
    name, reference = delegate.text(0), delegate.table(1)
    if name not in DELEGATES:
        raise Malformed(f"delegate {name[:80]!r} is not known")
    if reference is None or reference.number(0, "b") != 1:
        raise Malformed("a delegate without data")
    for specification in delegate.tables(2):
        specification.text(0)
        specification.count(1, 1)
    payload = _element(program.segments, reference.number(1, "I"), "segment")
    return inspect_xnnpack(payload, program.named) if name == "XnnpackBackend" else None
