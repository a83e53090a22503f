"""The table: target, measured, met, and the command that measures it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gates.recorded import PRECISION, SECONDS, STEPS, THREADS, Recorded
from benchmarks.markdown import table
from benchmarks.peers.figures import int8_share, ratio
from edge_tta.errors import DataError
from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.gates import GateOutcome
from edge_tta.evaluate.parity_text import figure_interval, measured_text
from edge_tta.evaluate.statistics import Spread
from edge_tta.runtime.benchmark import BenchmarkRecord

BASELINE = "stable-audio-open-small"
EAGER_RATIO, ONNX_RATIO, SHARE = 300.0, 50.0, 0.60
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limit:
    """A figure of a bench record that may not be larger."""

    title: str
    most: float
    unit: str
    digits: int
    of: Callable[[BenchmarkRecord], float]


LIMITS = (
    Limit("real-time factor", 0.006, "", 4, lambda record: record.real_time_factor),
    Limit("peak memory", 350.0, " MB", 0, lambda record: record.peak_rss_bytes / 1e6),
    Limit("kept after close", 24.0, " MB", 1, lambda record: record.retained_rss_bytes / 1e6),
    Limit(
        "cold start: process start to written file", 1.0, " s", 2, lambda record: record.cold_start_seconds
    ),
    Limit("files", 130.0, " MB", 1, lambda record: record.file_bytes / 1e6),
)
HELD = (
    ("import in at most 150 ms, without torch", "tests/unit/test_import_cost.py", "test_import_time"),
    ("same request, same bytes", "tests/unit/test_runtime_pipeline.py", "test_same_request_same_bytes"),
    ("noise identical in every language", "tests/unit/test_noise.py", "test_golden_values_to_the_last_bit"),
)
"""Targets that a test holds on every run: what, file, function."""


def page(recorded: Recorded) -> str:
    """The document.

    Raises:
        DataError: a test that is said to hold a target is not there.
    """
    lines = [
        "# What it must reach",
        "",
        (
            "Made by `python -m benchmarks.gates -o docs/reports/gates.md` from the records of the commands named "
            "below; [limits](limits.md) says what bounds the missed targets of speed, memory and size, and what was "
            "tried. A verdict goes by the measured figure; where the 95 % interval holds the target, the sample does "
            "not decide: another one could turn the verdict."
        ),
        "",
        *_speed(recorded),
        *_peers(recorded),
        *_quality(recorded),
        *_validations(recorded),
        *_held(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(met: bool | None, decisive: bool | None = None) -> str:
    """In words; ``decisive`` is False where the 95 % interval holds the limit."""
    text = {True: "met", False: "**missed**", None: "not measured"}[met]
    return f"{text}; sample does not decide" if decisive is False else text


def _speed(recorded: Recorded) -> list[str]:
    rows = []
    for limit in LIMITS:
        for record in recorded.points:
            value = limit.of(record)
            rows.append(
                (
                    limit.title,
                    f"at most {limit.most:g}{limit.unit}",
                    f"{record.bundle} {record.variant}",
                    f"{value:.{limit.digits}f}{limit.unit}",
                    _verdict(value <= limit.most),
                    f"{record.device.soc}, {record.fingerprint}, {record.date[:10]}",
                )
            )
    if not rows:
        return []
    return [
        "## Speed and memory",
        "",
        (
            f"`edge-tta bench BUNDLE --threads {THREADS} --seconds {SECONDS:g} -o RECORDS`: {PRECISION}, {STEPS} step, "
            f"{THREADS} threads, {SECONDS:g} s of sound, prompt in, samples out, medians. The targets are set for "
            "edge-120m, whose weights are random until it is trained."
        ),
        "",
        *table(("what", "target", "subject", "measured", "", "machine"), rows),
    ]


def _peers(recorded: Recorded) -> list[str]:
    comparison = recorded.comparison
    if comparison is None:
        return []
    machine = f"{comparison.device.soc}, {comparison.fingerprint}, {comparison.date[:10]}"
    rows = []
    for found in comparison.peers:
        if found.name != BASELINE:
            continue
        for kind, block, least in (
            ("eager float32", found.eager, EAGER_RATIO),
            ("its best int8 export", found.onnx, ONNX_RATIO),
        ):
            for own in comparison.ours:
                times = ratio(found, block, own)
                rows.append(
                    (
                        f"times faster than {found.title}, {kind}",
                        f"at least {least:g}",
                        own.name,
                        f"{times.value:.0f} ({times.low:.0f} to {times.high:.0f})",
                        _verdict(times.value >= least, (times.low >= least) == (times.high >= least)),
                        machine,
                    )
                )
    for own in comparison.ours:
        share = int8_share(own, comparison)
        rows.append(
            (
                "generator's share of a large int8 matrix product's rate",
                f"at least {SHARE:.0%}",
                own.name,
                f"{share:.0%}",
                _verdict(share >= SHARE),
                machine,
            )
        )
    return [
        "## Beside others and beside the machine",
        "",
        (
            f"`python -m benchmarks.peers --threads {comparison.threads} --seconds {SECONDS:g} "
            "-o docs/reports/peers.md`; a second of sound against a second of sound, everything in one run "
            "([report](peers.md))."
        ),
        "",
        *table(("what", "target", "subject", "measured (95 % interval)", "", "machine"), rows),
    ]


def _validations(recorded: Recorded) -> list[str]:
    rows = []
    for found in recorded.validations:
        for gate in found.gates:
            unit = FIGURES[gate.figure].unit
            least = gate.at_least is not None
            limit = gate.at_least if least else gate.at_most
            extreme = "" if gate.statistic == "value" else ", every sound"
            version = f"{found.version} " if found.version else ""
            rows.append(
                (
                    gate.title,
                    f"at {'least' if least else 'most'} {limit:g} {unit}".rstrip() + extreme,
                    f"{found.bundle} {version}{found.variant}, `{found.digest[:12]}`",
                    _gate_figure(gate, found.figures.get(gate.figure)),
                    _verdict(gate.passed, gate.decisive),
                    f"{found.sounds} sounds, {found.machine}",
                )
            )
    if not rows:
        return []
    return [
        "## Variants against float",
        "",
        (
            "`edge-tta validate BUNDLE --reference CHECKPOINT --reference-clips DATA`, trained weights, same "
            "noise for both. The recorded figures are held against the [gates](../how-to/validate.md#gates) of now. "
            "The digest is the bundle's: one variant may have been validated in several. Core ML's are by the "
            "interpreter."
        ),
        "",
        *table(("what", "target", "subject", "measured (95 % interval)", "", "measured on"), rows),
    ]


def _gate_figure(gate: GateOutcome, figure: Spread | None) -> str:
    """What was measured at a gate; the interval is that of the mean and says nothing about an extreme."""
    text = measured_text(gate)
    if gate.statistic != "value" or figure is None:
        return text
    return f"{text} ({figure_interval(gate.figure, figure)})"


def _quality(recorded: Recorded) -> list[str]:
    rows = []
    for found in recorded.quality:
        text, met, decisive = "not measured", None, None
        if found.value is not None:
            text, met = f"{found.value:.{found.digits}f}{found.unit}", found.value >= found.least
        if found.low is not None and found.high is not None:
            text += f" ({found.low:.{found.digits}f} to {found.high:.{found.digits}f})"
            decisive = (found.low >= found.least) == (found.high >= found.least)
        rows.append(
            (
                found.title,
                f"at least {found.least:g}{found.unit}",
                found.subject,
                text,
                _verdict(met, decisive),
                found.measured_on,
            )
        )
    if not rows:
        return []
    return [
        "## Quality",
        "",
        (
            "`edge-tta evaluate` and `edge-tta evaluate-codec` ([commands](../../README.md)), judged by the tagger. "
            "Where no interval stands, the record has none."
        ),
        "",
        *table(("what", "target", "subject", "measured (95 % interval)", "", "measured on"), rows),
    ]


def _held() -> list[str]:
    rows = []
    for what, file, function in HELD:
        path = ROOT / file
        names = (
            {
                node.name
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
                if isinstance(node, ast.FunctionDef)
            }
            if path.is_file()
            else set()
        )
        if function not in names:
            raise DataError(f"{file} has no {function}, which is said to hold: {what}")
        rows.append((what, f"`pytest {file} -k {function}`"))
    return ["## Held by a test on every run", "", *table(("what", "command"), rows)]
