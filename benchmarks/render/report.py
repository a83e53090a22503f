"""Benchmark records to ``bench.md`` and its pictures: a function of the records alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.bars import write_bars
from benchmarks.markdown import table
from benchmarks.plots import write_charts
from benchmarks.render.charts import seconds_charts, stage_bars, threads_charts
from benchmarks.render.records import Found, Group, grouped
from edge_tta.bundle.manifest import STAGES
from edge_tta.files import make_folder, write_file
from edge_tta.runtime.benchmark import Distribution
from edge_tta.runtime.contention import BUSY_CORES

DOCUMENT = "bench.md"
BUSY = "†"


def write_report(found: Found, folder: Path) -> tuple[Path, ...]:
    """Write the document and its pictures; each file appears whole or not at all.

    Returns:
        What was written.

    Raises:
        MissingExtraError: Pillow is not installed.
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    groups = grouped(found.records)
    written, lines = [], ["# Benchmarks", "", *_reading()]
    for number, group in enumerate(groups, start=1):
        # Nothing but the pictures' names depends on how many groups there are.
        pictures = _draw(group, folder, f"bench{number if len(groups) > 1 else ''}")
        written += [folder / name for name, _ in pictures]
        lines += _section(group)
        for name, title in pictures:
            lines += [f"![{title}]({name})", ""]
    if found.left_out:
        lines += ["## Not shown", "", *(f"- {reason}" for reason in found.left_out), ""]
    write_file(folder / DOCUMENT, "\n".join(lines).encode())
    return folder / DOCUMENT, *written


def _draw(group: Group, folder: Path, stem: str) -> list[tuple[str, str]]:
    """File names and titles of the pictures that there is something to show on."""
    drawn = []
    for kind, charts, title in (
        ("seconds", seconds_charts(group), "latency against seconds of sound"),
        ("threads", threads_charts(group), "latency against threads"),
    ):
        if charts:
            write_charts(charts, folder / f"{stem}_{kind}.png", columns=min(2, len(charts)))
            drawn.append((f"{stem}_{kind}.png", title))
    title, bars = stage_bars(group)
    write_bars(title, STAGES, bars, folder / f"{stem}_stages.png")
    return [*drawn, (f"{stem}_stages.png", "shares of the stages")]


def _reading() -> list[str]:
    text = (
        "Records of `edge-tta bench`, each measured in a process of its own. Times in ms: median of the timed runs, "
        "in brackets best and 95th percentile; vertical bars in the pictures span the same. Cold start: process start "
        "to first audio written. Model: peak memory above that of Python and libraries. Kept: what closing does not "
        f"give back. {BUSY}: others used more than {BUSY_CORES:g} cores meanwhile; such times are too slow, and the "
        "best is nearer the truth than the median."
    )
    return [text, ""]


def _section(group: Group) -> list[str]:
    first = group.records[0]
    title = f"## {first.bundle}, {first.steps} step{'s' if first.steps > 1 else ''}, on {first.device.soc}"
    facts = {**_machine(group), **_origin(group)}
    return [title, "", *table(("", ""), facts.items()), *_latency(group), *_memory(group), *_growth(group)]


def _machine(group: Group) -> dict[str, str]:
    """What was measured on."""
    device, records = group.device, group.records
    unknown = "not readable"
    clocks = sorted(set(device.clock_khz or ()))
    clock = ", ".join(f"{low / 1e6:.1f}–{high / 1e6:.1f} GHz" for low, high in clocks)
    memory = "" if device.memory_bytes is None else f", {device.memory_bytes / 2**30:.0f} GiB"
    heat = [
        degrees for record in records for degrees in (record.temperature_before, record.temperature_after)
    ]
    before = [record.contention.load_average_before for record in records]
    charge = "" if device.battery_percent is None else f", {device.battery_percent} %"
    return {
        "processor": f"{device.soc}{', virtual' if device.virtual else ''}: {', '.join(device.abi_features)}",
        "machine": f"{device.model}, {device.cores} cores{memory}, {device.os}; fingerprint {records[0].fingerprint}",
        "cores allowed": ", ".join(map(str, device.affinity)) if device.affinity else unknown,
        "governor, clock": f"{device.governor or unknown}, {clock or unknown}",
        "temperature": _span(heat, " °C"),
        "power": (unknown if device.plugged is None else "mains" if device.plugged else "battery") + charge,
        "load average before": _span([None if load is None else load[0] for load in before], ""),
    }


def _origin(group: Group) -> dict[str, str]:
    """What was measured."""
    records = group.records
    dates = [record.date for record in records]
    older = f"; {group.superseded} older records of the same points left out" if group.superseded else ""
    first = records[0]
    made_at = _known(record.bundle_commit[:12] for record in records)
    return {
        "bundle": f"{first.bundle}, digest {first.bundle_digest[:12]}, commit {made_at}",
        "code": f"edge_tta {_known(record.edge_tta_version for record in records)}, "
        f"commit {_known(_short(record.commit) for record in records)}",
        "backends": f"{_known(f'{record.backend} {record.backend_version}' for record in records)}, "
        f"Python {_known(record.python_version for record in records)}",
        "recipes": _known(f"{name} {digest[:12]}" for name, digest in first.recipes.items()),
        "measured": f"{min(dates)} to {max(dates)}{older}",
    }


def _short(commit: str | None) -> str | None:
    """Beginning of a commit, and whether files differed from it."""
    if commit is None:
        return None
    return commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")


def _latency(group: Group) -> list[str]:
    head = (
        "variant",
        "threads",
        "seconds",
        *(name.replace("_", " ") for name in STAGES),
        "total",
        "real-time factor",
    )
    rows = [
        (
            record.variant + (f" {BUSY}" if record.contention.is_busy else ""),
            str(record.threads),
            f"{record.seconds:g}",
            *(f"{1e3 * record.stages[name].median:.1f}" for name in STAGES),
            _spread(record.stages["total"]),
            f"{record.real_time_factor:.4f}",
        )
        for record in group.records
    ]
    return ["### Latency", "", *table((*head, "runs", "others, cores"), _with_basis(group, rows), 1)]


def _with_basis(group: Group, rows: Iterable[tuple[str, ...]]) -> Iterable[tuple[str, ...]]:
    """Rows with what their figures rest on."""
    for record, row in zip(group.records, rows, strict=True):
        found = record.contention
        others = None if found.other_cores is None else found.other_cores + (found.stolen_cores or 0.0)
        yield *row, str(record.runs), "not readable" if others is None else f"{others:.2f}"


def _memory(group: Group) -> list[str]:
    head = (
        "variant",
        "threads",
        "seconds",
        "first load",
        "first sound",
        "cold start",
        "peak",
        "model",
        "kept",
        "files",
    )
    rows = [
        (
            record.variant,
            str(record.threads),
            f"{record.seconds:g}",
            *(
                f"{1e3 * value:.0f} ms"
                for value in (record.load_seconds, record.warm_up_seconds, record.cold_start_seconds)
            ),
            *(
                f"{value / 1e6:.1f} MB"
                for value in (
                    record.peak_rss_bytes,
                    record.peak_rss_bytes - record.baseline_rss_bytes,
                    record.retained_rss_bytes,
                    record.file_bytes,
                )
            ),
        )
        for record in group.records
    ]
    shares = {
        f"{record.variant} {100 * record.delegate_coverage:.1f} %"
        for record in group.records
        if record.delegate_coverage is not None
    }
    coverage = [f"Operators in delegates: {', '.join(sorted(shares))}.", ""] if shares else []
    return ["### Start and memory", "", *table(head, rows, 1), *coverage]


def _growth(group: Group) -> list[str]:
    """How the cost grows with the length of the sound: a straight line by least squares."""
    rows = []
    for variant in group.variants:
        for threads in group.threads:
            records = group.where(variant, threads=threads)
            if len(records) < 3:
                continue
            seconds = np.array([record.seconds for record in records])
            cost = np.array([1e3 * record.stages["total"].best for record in records])
            slope, fixed = np.polyfit(seconds, cost, 1)
            worst = float(np.abs(cost / (fixed + slope * seconds) - 1).max())
            rows.append(
                (
                    variant,
                    str(threads),
                    f"{fixed:.1f}",
                    f"{slope:.2f}",
                    f"{100 * worst:.0f} %",
                    str(len(records)),
                )
            )
    if not rows:
        return []
    head = ("variant", "threads", "fixed, ms", "per second of sound, ms", "largest deviation", "durations")
    return [
        "### Growth with duration",
        "",
        "A straight line through the best totals, which others disturb least.",
        "",
        *table(head, rows, 1),
    ]


def _spread(times: Distribution) -> str:
    return f"**{1e3 * times.median:.1f}** ({1e3 * times.best:.1f}–{1e3 * times.p95:.1f})"


def _span(values: Iterable[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not readable"
    ends = f"{min(known):.1f}" if min(known) == max(known) else f"{min(known):.1f}–{max(known):.1f}"
    return ends + unit


def _known(values: Iterable[str | None]) -> str:
    """Different values that there are."""
    return ", ".join(sorted({value for value in values if value})) or "unknown"
