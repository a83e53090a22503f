"""What a strict validation does not let pass: a missed gate, and whatever was asked for and not measured."""

from __future__ import annotations

from collections.abc import Collection

from edge_tta.evaluate.parity_results import ParityReport, VariantParity


def strict_failures(
    report: ParityReport, named: Collection[str], *, allow_unmeasured: bool = False
) -> list[str]:
    """Why a validation is no success, a clause each; none where it is one.

    Args:
        report: what was found.
        named: variants that were asked for by name, which must run; of all variants those count that can.
        allow_unmeasured: let variants that could not run, and gates without a figure, pass. One gate has to be
            judged in any case: a success that rests on nothing is none.
    """
    found = []
    for variant in report.variants:
        if variant.status == "failed":
            found.append(f"{variant.name}: {variant.reason}")
        elif variant.passed is False:
            found.append(f"{variant.name}: a gate failed")
        if not allow_unmeasured:
            found += _gaps(variant, named)
    return found or ([] if report.passed else ["no gate was judged"])


def _gaps(variant: VariantParity, named: Collection[str]) -> list[str]:
    """What of a variant was not measured."""
    if variant.status == "not run":
        return [f"{variant.name}: not run ({variant.reason})"] if variant.name in named else []
    if variant.status == "ran" and not variant.gates:
        return [f"{variant.name}: no gates to keep"]
    missing = [gate.title for gate in variant.gates if gate.passed is None]
    return [f"{variant.name}: not measured: {', '.join(missing)}"] if missing else []
