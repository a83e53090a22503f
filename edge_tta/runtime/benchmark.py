"""Latency and memory of a bundle on this machine, as one record (schema "bench/1")."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, RequestError
from edge_tta.runtime.backend import PACKAGES, choose_variant
from edge_tta.runtime.contention import Contention
from edge_tta.runtime.device import Device, this_device
from edge_tta.runtime.measurement import PROMPT, Job, Measurement, measure_apart
from edge_tta.runtime.profiling import StageProfile, profile_apart, require_profiling
from edge_tta.runtime.revision import source_commit

MIN_RUNS = 20
TIMED = ("tokenizer", "text_encoder", "generator", "decoder", "total")


@dataclass(frozen=True)
class Distribution:
    """Seconds."""

    best: float
    median: float
    p95: float
    """95th percentile."""


@dataclass(frozen=True)
class BenchmarkRecord:
    """One point: a variant, a number of threads, a duration. None where the system does not tell."""

    schema: Literal["bench/1"]
    date: str
    """UTC, ISO 8601."""
    commit: str | None
    """Of this code; None for an installed package."""
    device: Device
    fingerprint: str
    """Equal for records of one machine and system."""
    temperature_before: float | None
    """°C."""
    temperature_after: float | None
    contention: Contention
    bundle: str
    bundle_digest: str
    bundle_commit: str
    """Of the checkpoint that the bundle was made from; empty if unknown."""
    variant: str
    backend: str
    backend_version: str | None
    precision: str
    recipes: dict[str, str]
    """Digests of the bundle's export and quantization recipes by name: the quantization scheme."""
    delegate_coverage: float | None
    """Share of the operators that the backend does not leave to a fallback; None where it does not tell, or where there
    is none: a session of ONNX Runtime has one provider or is refused."""
    edge_tta_version: str | None
    python_version: str
    threads: int
    seconds: float
    steps: int
    runs: int
    load_seconds: float
    """First opening in a fresh process, libraries loaded."""
    warm_up_seconds: float
    """First sound."""
    cold_start_seconds: float
    """Process start to first audio written; median of ``cold_starts`` processes."""
    cold_starts: int
    stages: dict[str, Distribution]
    """By name, "total" among them."""
    totals: tuple[float, ...]
    """Every timed run in order, seconds."""
    real_time_factor: float
    """Median total over ``seconds``."""
    baseline_rss_bytes: int
    """Python and libraries before the bundle is opened."""
    peak_rss_bytes: int
    retained_rss_bytes: int
    """What closing does not give back, above the baseline."""
    file_bytes: int
    """Files of the variant, each counted once."""
    profile: dict[str, StageProfile] | None = None
    """Operators by time, by stage; None unless it was asked for. From runs of their own, which slow nothing above."""


def run_benchmark(
    bundle: Bundle,
    variant: str,
    *,
    threads: int | None = None,
    seconds: float = 10.0,
    steps: int = 1,
    runs: int = MIN_RUNS,
    cold_starts: int = 3,
    profile: bool = False,
) -> BenchmarkRecord:
    """Measure one variant of a bundle, in processes of its own.

    Args:
        bundle: opened bundle.
        variant: name of a variant that a backend here can run.
        threads: threads per stage, None for the default.
        seconds: duration of every sound.
        steps: network steps.
        runs: timed generations, at least 20, after 3 that are not timed.
        cold_starts: processes started to time the first sound, at least 1.
        profile: also find the operators that take each stage's time, by 20 runs in a further process.

    Raises:
        RequestError: too few runs, or the bundle does not make such sounds.
        BackendError: the backend of the variant cannot be profiled.
        BundleError, BackendError, MissingExtraError: as ``load_variant``.
    """
    for name, value, least in (("runs", runs, MIN_RUNS), ("cold_starts", cold_starts, 1)):
        if value < least:
            raise RequestError(f"{name} {value} is out of range: at least {least}")
    if profile:
        require_profiling(bundle, variant)
    job = Job(str(bundle.root.resolve()), variant, threads, seconds, steps, runs)
    found = measure_apart(job)
    cold = [_cold_start(bundle, variant, found, seconds, steps) for _ in range(cold_starts)]
    times = {name: np.array([getattr(timing, name) for timing in found.timings]) for name in TIMED}
    stages = {name: _distribution(values) for name, values in times.items()}
    device = this_device()
    return BenchmarkRecord(
        schema="bench/1",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=source_commit(),
        device=device,
        fingerprint=device.fingerprint,
        temperature_before=found.temperature_before,
        temperature_after=found.temperature_after,
        contention=found.contention,
        bundle=bundle.manifest.name,
        bundle_digest=bundle.digest,
        bundle_commit=bundle.manifest.provenance.commit,
        variant=variant,
        backend=found.backend,
        backend_version=_version(PACKAGES[found.backend]),
        precision=found.precision,
        recipes=bundle.manifest.provenance.recipes,
        delegate_coverage=found.delegate_coverage,
        edge_tta_version=_version("edge-tta"),
        python_version=platform.python_version(),
        threads=found.threads,
        seconds=seconds,
        steps=steps,
        runs=runs,
        load_seconds=found.load_seconds,
        warm_up_seconds=found.warm_up_seconds,
        cold_start_seconds=float(np.median(cold)),
        cold_starts=cold_starts,
        stages=stages,
        totals=tuple(times["total"].tolist()),
        real_time_factor=stages["total"].median / seconds,
        baseline_rss_bytes=found.baseline_rss_bytes,
        peak_rss_bytes=found.peak_rss_bytes,
        retained_rss_bytes=found.retained_rss_bytes,
        file_bytes=bundle.variants[variant].size(),
        profile=profile_apart(replace(job, runs=MIN_RUNS)).stages if profile else None,
    )


def _distribution(values: np.ndarray[Any, np.dtype[np.float64]]) -> Distribution:
    return Distribution(float(values.min()), float(np.median(values)), float(np.percentile(values, 95)))


def _cold_start(bundle: Bundle, variant: str, found: Measurement, seconds: float, steps: int) -> float:
    """Seconds from process start to the line that tells of a written file."""
    if choose_variant(bundle, found.backend, found.precision) != variant:
        raise BackendError(
            f"{variant} cannot be asked for by backend and precision; generate would run another"
        )
    options = {
        "--bundle": str(bundle.root.resolve()),
        "--backend": found.backend,
        "--precision": found.precision,
        "--seconds": str(seconds),
        "--steps": str(steps),
        # Some backends leave threads to the system.
        **({"--threads": str(found.threads)} if found.threads else {}),
    }
    words = [word for pair in options.items() for word in pair]
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "cold.wav"
        command = [sys.executable, "-m", "edge_tta.cli", "generate", PROMPT, *words, "--output", str(target)]
        started = time.perf_counter()
        # Complaints go to a file: a full pipe that nobody reads yet would stop the process before its first line.
        log = Path(directory) / "complaints.txt"
        with (
            log.open("wb") as complaints,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
        ):
            assert process.stdout is not None
            # The verb prints its first line once the file is there; what it does after that is no part of the wait.
            process.stdout.readline()
            taken = time.perf_counter() - started
            process.communicate()
        if process.returncode != 0 or not target.is_file():
            complaint = " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-300:]
            raise BackendError(
                f"{variant}: a fresh process failed: {complaint or f'exit code {process.returncode}'}"
            )
    return taken


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
