"""``edge-tta verify``: is a bundle whole, and does it compute what it should on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_tta.cli.options import BundleArgument


def verify(
    bundle: BundleArgument = None,
    numeric: Annotated[
        bool, typer.Option("--numeric", help="Also run every stage on the golden vectors of the bundle.")
    ] = False,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Variant for --numeric, repeatable; all that can run here by default.", show_default=False
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads for --numeric.", min=1, max=64)] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check every file of a bundle against its hash, and with --numeric every stage against its golden output."""
    from edge_tta.bundle import Bundle
    from edge_tta.cli.console import say, say_json
    from edge_tta.errors import BackendError, RequestError

    if variant and not numeric:
        raise RequestError("--variant is for --numeric; files are checked in any case")
    opened = Bundle.open(bundle)
    files = {entry.file: entry.bytes for entry in opened.manifest.files()}
    found, not_run = [], {}
    if numeric:
        from edge_tta.runtime.backend import unavailable
        from edge_tta.runtime.golden import check_golden

        if not variant:
            # What is asked for by name must run; of all of them those count that can.
            reasons = {name: unavailable(described) for name, described in sorted(opened.variants.items())}
            not_run = {name: reason for name, reason in reasons.items() if reason is not None}
            variant = [name for name, reason in reasons.items() if reason is None]
        if not variant:
            raise BackendError(f"no variant of {opened.name} can run here: {next(iter(not_run.values()))}")
        found = check_golden(opened, threads, variant)
    if json_output:
        from dataclasses import asdict

        stages = [{**asdict(stage), "passed": stage.passed} for stage in found]
        say_json(
            {
                "schema": "verify/1",
                "bundle": opened.name,
                "files": files,
                "numeric": stages,
                "not_run": not_run,
            }
        )
    else:
        say(f"{opened.name}: {len(files)} files, {sum(files.values())} bytes, all as the manifest says")
        for stage in found:
            say(
                f"  {stage.variant:10s} {stage.stage:13s} {stage.snr_db:6.1f} dB (at least {stage.required_db:.1f}), "
                f"largest error {stage.max_abs_error:.2g}  {'ok' if stage.passed else 'FAILED'}"
            )
        for name, reason in not_run.items():
            say(f"  {name:10s} not run: {reason}")
    failed = [stage for stage in found if not stage.passed]
    if failed:
        worst = min(failed, key=lambda stage: stage.snr_db - stage.required_db)
        raise BackendError(
            f"{worst.variant}: {worst.stage} reaches {worst.snr_db:.1f} dB on the golden vectors, at least "
            f"{worst.required_db:.1f} dB is required ({len(failed)} of {len(found)} stages failed)"
        )
