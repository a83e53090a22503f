"""What is told of a bundle's variants: size and parity, ranges found by calibration, and where operators run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_tta.cli.console import mebibytes

if TYPE_CHECKING:
    from edge_tta.bundle.manifest import Variant

RUNTIMES = {"xnnpack": "XNNPACK", "coreml": "Core ML"}


def variant_lines(name: str, variant: Variant) -> Iterator[str]:
    """A line with size and parity, and one for each further record that the variant has."""
    parity = ", ".join(f"{stage} {value:.1f} dB" for stage, value in sorted(variant.parity_snr_db.items()))
    yield f"  {name:16s} {mebibytes(variant.size())}; against the float model: {parity or 'not measured'}"
    if (calibration := variant.calibration) is not None:
        yield f"    ranges of inputs found on {calibration.requests} requests, list {calibration.sha256[:12]}"
    for stage, found in sorted(variant.delegation.items()):
        inside, outside = sum(found.delegated.values()), sum(found.portable.values())
        pieces = f"{found.subgraphs} subgraph{'' if found.subgraphs == 1 else 's'}"
        yield f"    {stage:13s} {inside} nodes in {pieces} of {RUNTIMES[variant.delegate]}, {outside} outside"


def operator_table(name: str, variant: Variant) -> Iterator[str]:
    """Nodes of every stage by operator: so many in the delegate's subgraphs + so many outside."""
    stages = sorted(variant.delegation)
    records = [variant.delegation[stage] for stage in stages]
    operators = sorted({operator for found in records for operator in (*found.delegated, *found.portable)})
    width = max((len(operator) for operator in operators), default=0)
    yield f"{name}: nodes in {RUNTIMES[variant.delegate]} + outside"
    yield f"  {'operator':{width}s}" + "".join(f"  {stage:>14s}" for stage in stages)
    for operator in operators:
        cells = [
            _cell(found.delegated.get(operator, 0), found.portable.get(operator, 0)) for found in records
        ]
        yield f"  {operator:{width}s}" + "".join(f"  {cell:>14s}" for cell in cells)


def _cell(inside: int, outside: int) -> str:
    return f"{inside} + {outside}" if inside or outside else ""
