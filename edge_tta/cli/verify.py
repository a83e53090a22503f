"""``edge-tta verify``: is a bundle whole, and does it compute what it should on this machine."""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    bundle: Annotated[
        str | None,
        typer.Argument(help="Bundle folder or name; the shipped one by default.", show_default=False),
    ] = None,
    numeric: Annotated[
        bool, typer.Option("--numeric", help="Also run every stage on the golden vectors of the bundle.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads for --numeric.", min=1, max=64)] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check every file of a bundle against its hash, and with --numeric every stage against its golden output."""
    from edge_tta.bundle import Bundle
    from edge_tta.cli.console import say, say_json
    from edge_tta.errors import BackendError

    opened = Bundle.open(bundle)
    files = {entry.file: entry.bytes for entry in opened.manifest.files()}
    found = []
    if numeric:
        from edge_tta.runtime.golden import check_golden

        found = check_golden(opened, threads)
    if json_output:
        from dataclasses import asdict

        stages = [{**asdict(stage), "passed": stage.passed} for stage in found]
        say_json({"schema": "verify/1", "bundle": opened.name, "files": files, "numeric": stages})
    else:
        say(f"{opened.name}: {len(files)} files, {sum(files.values())} bytes, all as the manifest says")
        for stage in found:
            say(
                f"  {stage.variant:10s} {stage.stage:13s} {stage.snr_db:6.1f} dB (at least {stage.required_db:.1f}), "
                f"largest error {stage.max_abs_error:.2g}  {'ok' if stage.passed else 'FAILED'}"
            )
    failed = [stage for stage in found if not stage.passed]
    if failed:
        worst = min(failed, key=lambda stage: stage.snr_db - stage.required_db)
        raise BackendError(
            f"{worst.variant}: {worst.stage} reaches {worst.snr_db:.1f} dB on the golden vectors, at least "
            f"{worst.required_db:.1f} dB is required ({len(failed)} of {len(found)} stages failed)"
        )
