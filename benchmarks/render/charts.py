"""Pictures of benchmark records: latency against duration and threads, and what each stage takes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.bars import Bar
from benchmarks.plots import Chart, Series
from benchmarks.render.records import Group
from edge_tta.bundle.manifest import STAGES
from edge_tta.runtime.benchmark import BenchmarkRecord

MAX_PANELS = 4


def seconds_charts(group: Group) -> list[Chart]:
    """Total latency against seconds of sound, a panel per number of threads that has several durations."""
    panels = [
        (f"{threads} thread{'s' if threads > 1 else ''}: latency, ms", partial(group.where, threads=threads))
        for threads in group.threads
    ]
    return _panels(group, panels, "seconds of sound", lambda record: record.seconds)


def threads_charts(group: Group) -> list[Chart]:
    """Total latency against threads, a panel per duration that has several numbers of threads; the longest ones."""
    panels = [
        (f"{seconds:g} s of sound: latency, ms", partial(group.where, seconds=seconds))
        for seconds in group.seconds
    ]
    return _panels(group, panels, "threads", lambda record: float(record.threads))


def _panels(
    group: Group,
    panels: Sequence[tuple[str, Callable[[str], list[BenchmarkRecord]]]],
    across: str,
    place: Callable[[BenchmarkRecord], float],
) -> list[Chart]:
    charts = []
    for title, records_of in panels:
        series, places = [], set()
        for variant in group.variants:
            records = sorted(records_of(variant), key=place)
            totals = [record.stages["total"] for record in records]
            points = tuple(
                (place(record), 1e3 * total.median) for record, total in zip(records, totals, strict=True)
            )
            bars = tuple((1e3 * total.best, 1e3 * total.p95) for total in totals)
            series.append(Series(variant, points, bars))
            places |= {x for x, _ in points}
        if len(places) > 1:
            ticks = tuple((x, f"{x:g}") for x in sorted(places))
            charts.append(Chart(title, across, tuple(series), ticks, False, 1.0, from_zero=True))
    return charts[-MAX_PANELS:]


def stage_bars(group: Group) -> tuple[str, list[Bar]]:
    """Title and a bar per variant: shares of the stages for the longest sound on the most threads."""
    seconds, threads = group.seconds[-1], group.threads[-1]
    bars = []
    for variant in group.variants:
        # The nearest point that the variant has.
        record = max(group.where(variant), key=lambda found: (found.seconds, found.threads))
        parts = tuple(record.stages[name].median for name in STAGES)
        name = variant
        if (record.seconds, record.threads) != (seconds, threads):
            name += f" ({record.seconds:g} s, {record.threads} thr.)"
        bars.append(Bar(name, parts, f"{1e3 * record.stages['total'].median:.1f} ms"))
    return f"Shares of the stages, {seconds:g} s of sound, {threads} threads (medians)", bars
