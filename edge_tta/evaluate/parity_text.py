"""Words and numbers of a validation, the same on the page and in Markdown."""

from __future__ import annotations

from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.gates import GateOutcome
from edge_tta.evaluate.parity_results import ParityReport, VariantParity
from edge_tta.evaluate.statistics import Estimate
from edge_tta.runtime.golden import MAX_DB

STAGE_TITLES = {
    "text_encoder": "Text encoder",
    "generator": "Generator",
    "decoder": "Decoder",
    "end_to_end": "End to end",
}
STATISTICS = {
    "value": "mean",
    "low": "lower end of the interval",
    "high": "upper end of the interval",
    "median": "median",
    "lowest": "lowest",
    "highest": "highest",
}


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number for people, with a true minus sign; never a negative zero."""
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(text) == 0.0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def figure_number(key: str, value: float) -> str:
    """One value of a figure, without its unit; an SNR at its ceiling means equal numbers."""
    kind = FIGURES[key]
    if kind.unit == "dB" and value >= MAX_DB:
        return "identical"
    if kind.better == "lower" and 0.0 < value < 0.5 * 10.0**-kind.decimals and "change" not in key:
        return f"<{10.0**-kind.decimals:g}"
    return number(value, kind.decimals, signed="change" in key)


def figure_interval(key: str, estimate: Estimate) -> str:
    """The 95 % interval of a figure."""
    return f"{figure_number(key, estimate.low)} to {figure_number(key, estimate.high)}"


def share(estimate: Estimate | None) -> str:
    """A share in percent."""
    return "not measured" if estimate is None else f"{number(100 * estimate.value, 1)} %"


def limit_text(gate: GateOutcome) -> str:
    """What a gate asks for."""
    kind = FIGURES[gate.figure]
    low = gate.at_least is not None
    limit = gate.at_least if gate.at_least is not None else gate.at_most
    assert limit is not None
    text = f"{'≥' if low else '≤'} {figure_number(gate.figure, limit)}"
    return f"{text} {kind.unit}".rstrip() + (
        "" if gate.statistic == "value" else f" ({STATISTICS[gate.statistic]})"
    )


def measured_text(gate: GateOutcome) -> str:
    """What was measured at a gate."""
    if gate.measured is None:
        return "not measured"
    return f"{figure_number(gate.figure, gate.measured)} {FIGURES[gate.figure].unit}".rstrip()


def verdict(gate: GateOutcome) -> str:
    """ "pass", "fail" or "not measured"."""
    return {True: "pass", False: "fail", None: "not measured"}[gate.passed]


def variant_sentence(variant: VariantParity) -> str:
    """What became of a variant, in one sentence or two."""
    if variant.status == "not run":
        return f"{variant.name} was not run: {variant.reason}."
    if variant.status == "failed":
        return f"{variant.name} failed: {variant.reason}."
    how = ""
    if variant.backend.endswith("-interpreted"):
        how = " Its saved program was interpreted; what a device computes was not measured."
    if variant.calibrated_on:
        how += f" Its ranges were found on prompts that it is judged by ({variant.calibrated_on}), which flatters it."
    return _kept_gates(variant) + how


def _kept_gates(variant: VariantParity) -> str:
    failed = [gate.title for gate in variant.gates if gate.passed is False]
    missing = sum(gate.passed is None for gate in variant.gates)
    count = len(variant.gates) - missing
    if not variant.gates:
        return f"{variant.name} has no gates to keep."
    if not count:
        return f"{variant.name}: no gate was measured."
    rest = f"; {missing} not measured" if missing else ""
    if failed:
        return f"{variant.name} misses {len(failed)} of {count} gates: {', '.join(failed)}{rest}."
    return f"{variant.name} keeps {'its gate' if count == 1 else f'all {count} gates'}{rest}."


def sounds_text(report: ParityReport) -> str:
    """On what a validation rests."""
    settings = report.settings
    steps = "one step" if settings.steps == 1 else f"{settings.steps} steps"
    seeds = "one seed" if settings.seeds_per_prompt == 1 else f"{settings.seeds_per_prompt} seeds"
    return (
        f"{report.sounds} sounds: {settings.prompts} prompts ({', '.join(settings.suites)}) with {seeds} each, "
        f"{settings.seconds:g} s, {steps}, guidance {settings.guidance:g}"
    )
