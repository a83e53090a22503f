"""Latency and memory of a bundle on this machine, as one record (schema "bench/1")."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, RequestError
from edge_tta.runtime.device import describe_device, temperature_celsius
from edge_tta.runtime.memory import current_rss_bytes, peak_rss_bytes
from edge_tta.runtime.pipeline import TextToAudio
from edge_tta.runtime.request import GenerationRequest

SCHEMA = "bench/1"
MIN_RUNS = 20
WARM_UP_RUNS = 3
TIMED = ("tokenizer", "text_encoder", "generator", "decoder", "total")
PROMPT = "rain on a tin roof, distant thunder"


def run_benchmark(
    bundle: str | None,
    *,
    backend: str,
    precision: str,
    threads: int | None,
    seconds: float,
    steps: int,
    runs: int,
    on_run: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure one bundle on one backend.

    The resident memory that closing does not give back is counted from after the libraries are loaded and before the
    bundle is opened; the peak is that of the whole process.

    Args:
        bundle: directory or name, None for the default one.
        backend: backend name or "auto".
        precision: "int8" or "fp32".
        threads: threads per stage, None for the default.
        seconds: duration of every sound.
        steps: network steps.
        runs: timed generations, at least 20, after 3 that are not timed.
        on_run: called with runs done and runs in all.

    Raises:
        RequestError: too few runs, or the bundle does not make such sounds.
        BundleError, BackendError, MissingExtraError: as ``TextToAudio.open``.
    """
    if runs < MIN_RUNS:
        raise RequestError(f"runs {runs} is out of range: at least {MIN_RUNS}")
    request = GenerationRequest(PROMPT, seconds=seconds, steps=steps)
    opened = Bundle.open(bundle, verify=False)
    heat_before = temperature_celsius()
    _load_libraries()
    baseline = current_rss_bytes()
    started = time.perf_counter()
    model = TextToAudio.open(opened, backend=backend, precision=precision, threads=threads)
    load = time.perf_counter() - started
    with model:
        started = time.perf_counter()
        model.generate(request)
        warm_up = time.perf_counter() - started
        for _ in range(WARM_UP_RUNS - 1):
            model.generate(request)
        timings = []
        for run in range(runs):
            timings.append(model.generate(request).timings)
            if on_run is not None:
                on_run(run + 1, runs)
        used = model.model.backend
    peak = peak_rss_bytes()
    gc.collect()
    retained = max(0, current_rss_bytes() - baseline)
    stages = {name: _distribution(np.array([getattr(timing, name) for timing in timings])) for name in TIMED}
    files = next(
        v.stages for v in opened.variants.values() if (v.backend, v.precision) == (used.name, used.precision)
    )
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": describe_device(),
        "temperature_before": heat_before,
        "temperature_after": temperature_celsius(),
        "bundle": opened.manifest.name,
        "bundle_digest": opened.digest,
        "bundle_commit": opened.manifest.provenance.commit,
        "backend": used.name,
        "backend_version": _version("onnxruntime"),
        "edge_tta_version": _version("edge-tta"),
        "python_version": platform.python_version(),
        "precision": used.precision,
        "delegate_coverage": 1.0,
        "threads": used.threads,
        "seconds": seconds,
        "steps": steps,
        "runs": runs,
        "load_seconds": load,
        "warm_up_seconds": warm_up,
        "cold_start_seconds": _cold_start(
            opened.root, used.name, used.precision, used.threads, seconds, steps
        ),
        "stages": stages,
        "real_time_factor": stages["total"]["median"] / seconds,
        "peak_rss_bytes": peak,
        "retained_rss_bytes": retained,
        "file_bytes": sum({stage.file: stage.bytes for stage in files.values()}.values()),
    }


def _load_libraries() -> None:
    import onnxruntime  # noqa: F401
    import sentencepiece  # noqa: F401


def _distribution(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    """Median and 95th percentile in seconds."""
    return {"median": float(np.median(values)), "p95": float(np.percentile(values, 95))}


def _cold_start(root: Path, backend: str, precision: str, threads: int, seconds: float, steps: int) -> float:
    """Seconds from process start to a written file."""
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["--bundle", str(root.resolve()), "--backend", backend, "--precision", precision]
        arguments += ["--threads", str(threads), "--seconds", str(seconds), "--steps", str(steps), "--quiet"]
        command = [sys.executable, "-m", "edge_tta.cli", "generate", PROMPT, *arguments]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--output", str(Path(directory) / "cold.wav")],
            capture_output=True,
            text=True,
            check=False,
        )
        taken = time.perf_counter() - started
    if done.returncode != 0:
        raise BackendError(f"{backend}: a fresh process failed: {done.stderr.strip()[-300:]}")
    return taken


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
