"""``edge-tta bench``: latency and memory per stage on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def bench(
    bundle: Annotated[
        str | None,
        typer.Argument(help="Bundle folder or name; the shipped one by default.", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Duration of every sound.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Network steps.")] = 1,
    runs: Annotated[int, typer.Option(help="Timed runs, at least 20, after 3 that do not count.")] = 20,
    threads: Annotated[
        int | None, typer.Option(help="Threads; the usable cores by default, at most four.")
    ] = None,
    precision: Annotated[str, typer.Option(help="int8 or fp32.")] = "int8",
    backend: Annotated[str, typer.Option(help="auto or ort.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON Lines file that gets one more record.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Measure median and 95th percentile per stage, real-time factor, cold start and memory."""
    import json

    from edge_tta.cli.console import say_json
    from edge_tta.runtime.benchmark import run_benchmark

    record = run_benchmark(
        bundle, backend=backend, precision=precision, threads=threads, seconds=seconds, steps=steps, runs=runs
    )
    if output is not None:
        _append_line(output, json.dumps(record, allow_nan=False))
    if json_output:
        say_json(record)
    else:
        _show(record)


def _append_line(path: Path, line: str) -> None:
    """Add a line so that a failure leaves the old file as it was."""
    from edge_tta.audio import write_file
    from edge_tta.errors import OutputError

    try:
        old = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    write_file(path, old + (b"" if not old or old.endswith(b"\n") else b"\n") + line.encode() + b"\n")


def _show(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    device = record["device"]
    table = Table(
        title=f"{record['bundle']}@{record['bundle_digest'][:12]}, {record['precision']} on {record['backend']} "
        f"{record['backend_version']}, {record['threads']} threads, {record['seconds']:g} s, {record['runs']} runs",
        caption=f"{device['soc']} ({', '.join(device['abi_features'])}), {device['os']}",
    )
    for name in ("stage", "median", "95th percentile"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, values in record["stages"].items():
        table.add_row(name, *(f"{values[key] * 1000:.1f} ms" for key in ("median", "p95")))
    table.add_section()
    for name, text in (
        ("real-time factor", f"{record['real_time_factor']:.4f}"),
        ("load", f"{record['load_seconds'] * 1000:.0f} ms"),
        ("first run", f"{record['warm_up_seconds'] * 1000:.0f} ms"),
        ("cold start to file", f"{record['cold_start_seconds'] * 1000:.0f} ms"),
        ("peak memory", f"{record['peak_rss_bytes'] / 1e6:.0f} MB"),
        ("kept after close", f"{record['retained_rss_bytes'] / 1e6:.1f} MB"),
        ("files", f"{record['file_bytes'] / 1e6:.1f} MB"),
    ):
        table.add_row(name, text, "")
    Console().print(table)
