"""``edge-tta bench``: latency and memory per stage on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from edge_tta.cli.options import BundleArgument

if TYPE_CHECKING:
    from rich.table import Table

    from edge_tta.bundle import Bundle
    from edge_tta.runtime.benchmark import BenchmarkRecord
    from edge_tta.runtime.profiling import StageProfile

ALL = "all"
Number = TypeVar("Number", int, float)


def bench(
    bundle: BundleArgument = None,
    seconds: Annotated[
        str, typer.Option(help="Duration of every sound; several with commas, such as 1,2,5,10,12.")
    ] = "10",
    threads: Annotated[
        str | None,
        typer.Option(
            help="Threads; several with commas, such as 1,2,4; the usable cores by default, at most four."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Network steps.")] = 1,
    runs: Annotated[int, typer.Option(help="Timed runs, at least 20, after 3 that do not count.")] = 20,
    cold_starts: Annotated[
        int, typer.Option(help="Fresh processes that time the way from start to the first file.")
    ] = 3,
    precision: Annotated[str, typer.Option(help="int8, fp32 or another that the bundle has.")] = "int8",
    backend: Annotated[str, typer.Option(help="auto, or one that the bundle has a variant for.")] = "auto",
    variant: Annotated[
        str | None,
        typer.Option(
            help="Variants by name instead, with commas, or all that run here; see edge-tta info.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Also tell which operators take each stage's time, from runs of their own; ONNX Runtime only.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON Lines file that gets one more line a record.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the records as JSON, one a line.")
    ] = False,
) -> None:
    """Measure median and 95th percentile per stage, real-time factor, cold start and memory."""
    import itertools
    import json
    from dataclasses import asdict

    from edge_tta.bundle import Bundle
    from edge_tta.cli.console import note, say_json
    from edge_tta.errors import BackendError, MissingExtraError
    from edge_tta.runtime.backend import choose_variant
    from edge_tta.runtime.benchmark import run_benchmark

    durations = _numbers("seconds", seconds, float)
    counts = (None,) if threads is None else _numbers("threads", threads, int)
    opened = Bundle.open(bundle, verify=False)
    names = _variants(opened, variant) if variant else [choose_variant(opened, backend, precision)]
    _check_parent(output)
    records: list[BenchmarkRecord] = []
    left_out: set[str] = set()
    points = list(itertools.product(names, counts, durations))
    for number, (name, count, duration) in enumerate(points, start=1):
        if name in left_out:
            continue
        if len(points) > 1:
            note(f"{number} of {len(points)}: {name}, {count or 'default'} threads, {duration:g} s")
        try:
            record = run_benchmark(
                opened,
                name,
                threads=count,
                seconds=duration,
                steps=steps,
                runs=runs,
                cold_starts=cold_starts,
                profile=profile,
            )
        except (BackendError, MissingExtraError) as error:
            # What is asked for by name must run; of "all" those count that can.
            if variant != ALL:
                raise
            note(f"edge-tta: warning: {name} is left out: {error}")
            left_out.add(name)
            continue
        if output is not None:
            _append_line(output, json.dumps(asdict(record), allow_nan=False))
        if json_output:
            say_json(asdict(record))
        if record.contention.is_busy:
            note(_busy(record))
        records.append(record)
    if not records:
        raise BackendError(f"bundle {opened.name} has no variant that runs here")
    if not json_output:
        _show(records)


def _numbers(name: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Numbers of a list with commas."""
    from edge_tta.errors import RequestError

    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise RequestError(f"{name} '{text[:40]}' must be numbers with commas between them") from None


def _variants(bundle: Bundle, names: str) -> list[str]:
    """Variants by name, or all."""
    from edge_tta.errors import BackendError

    if names == ALL:
        return sorted(bundle.variants)
    chosen = names.split(",")
    unknown = [name for name in chosen if name not in bundle.variants]
    if unknown:
        raise BackendError(
            f"bundle {bundle.name} has no variant '{unknown[0][:80]}'; it has {', '.join(sorted(bundle.variants))}"
        )
    return chosen


def _check_parent(path: Path | None) -> None:
    """Refuse a file that could not be written before minutes are spent on its contents."""
    from edge_tta.errors import OutputError

    if path is None:
        return
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the directory {path.parent} does not exist")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {path.parent}")


def _append_line(path: Path, line: str) -> None:
    """Add a line so that a failure leaves the old file as it was."""
    from edge_tta.errors import OutputError
    from edge_tta.files import write_file

    try:
        old = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    write_file(path, old + (b"" if not old or old.endswith(b"\n") else b"\n") + line.encode() + b"\n")


def _busy(record: BenchmarkRecord) -> str:
    found = record.contention
    load = "" if found.load_average_before is None else f", load average {found.load_average_before[0]:.1f}"
    return (
        f"edge-tta: warning: the machine was busy: others used {found.other_cores or 0:.2f} cores and the hypervisor "
        f"took {found.stolen_cores or 0:.2f}{load}; these figures are too slow"
    )


def _show(records: Sequence[BenchmarkRecord]) -> None:
    from rich.console import Console

    first = records[0]
    device = first.device
    steps = f"{first.steps} step{'s' if first.steps > 1 else ''}"
    title = f"{first.bundle}@{first.bundle_digest[:12]}, {steps}, {first.runs} runs"
    caption = f"{device.soc} ({', '.join(device.abi_features)}), {device.os}"
    console = Console()
    console.print(
        _stages_of(first, title, caption) if len(records) == 1 else _points_of(records, title, caption)
    )
    for record in records:
        if record.profile is not None:
            console.print(_operators_of(record, record.profile))


def _stages_of(record: BenchmarkRecord, title: str, caption: str) -> Table:
    """One record, a line a stage."""
    from rich.table import Table

    where = f"{record.variant} on {record.backend} {record.backend_version}, {record.threads} threads"
    table = Table(title=f"{title}\n{where}, {record.seconds:g} s", caption=caption)
    for name in ("stage", "best", "median", "95th percentile"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, times in record.stages.items():
        table.add_row(name, *(f"{value * 1000:.1f} ms" for value in (times.best, times.median, times.p95)))
    table.add_section()
    model = record.peak_rss_bytes - record.baseline_rss_bytes
    for name, text in (
        ("real-time factor", f"{record.real_time_factor:.4f}"),
        ("load", f"{record.load_seconds * 1000:.0f} ms"),
        ("first run", f"{record.warm_up_seconds * 1000:.0f} ms"),
        ("cold start to file", f"{record.cold_start_seconds * 1000:.0f} ms"),
        ("peak memory", f"{record.peak_rss_bytes / 1e6:.0f} MB"),
        ("without libraries", f"{model / 1e6:.0f} MB"),
        ("kept after close", f"{record.retained_rss_bytes / 1e6:.1f} MB"),
        ("files", f"{record.file_bytes / 1e6:.1f} MB"),
    ):
        table.add_row(name, "", text, "")
    return table


def _points_of(records: Sequence[BenchmarkRecord], title: str, caption: str) -> Table:
    """Several records, a line each; narrow enough for 80 columns."""
    from rich.box import SIMPLE
    from rich.table import Table

    meaning = "medians in ms; p95 of the total; RTF: real-time factor; MB: peak memory"
    table = Table(title=title, caption=f"{meaning}\n{caption}", box=SIMPLE)
    table.add_column("variant", no_wrap=True)
    for name in ("threads", "s", "gener.", "decoder", "total", "p95", "RTF", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        total = record.stages["total"]
        times = record.stages["generator"].median, record.stages["decoder"].median, total.median, total.p95
        table.add_row(
            record.variant,
            str(record.threads),
            f"{record.seconds:g}",
            *(f"{value * 1000:.1f}" for value in times),
            f"{record.real_time_factor:.4f}",
            f"{record.peak_rss_bytes / 1e6:.0f}",
        )
    return table


def _operators_of(record: BenchmarkRecord, profile: Mapping[str, StageProfile]) -> Table:
    """What the operators of each stage take, a line a type; those below a hundredth of the stage in one line."""
    from rich.box import SIMPLE
    from rich.table import Table

    title = f"{record.variant}, {record.threads} threads, {record.seconds:g} s: operators of one sound"
    caption = "while profiled, which takes longer; shares of the stage's time"
    table = Table(title=title, caption=caption, box=SIMPLE)
    table.add_column("stage", no_wrap=True)
    table.add_column("operator")
    for name in ("count", "time", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage, found in profile.items():
        rows = [(item.operator, item.count, item.seconds) for item in found.operators]
        shown = [row for row in rows if row[2] >= 0.01 * found.seconds]
        small = rows[len(shown) :]
        if small:
            shown.append((f"{len(small)} more", sum(row[1] for row in small), sum(row[2] for row in small)))
        between = found.seconds - sum(row[2] for row in rows)
        shown.append(("between operators", 0, between))
        for place, (operator, count, seconds) in enumerate(shown):
            name = "" if place else stage
            table.add_row(
                name,
                operator,
                str(count or ""),
                f"{seconds * 1000:.2f} ms",
                f"{100 * seconds / found.seconds:.1f} %",
            )
        table.add_section()
    return table
