"""One variant measured in a process of its own, so that load, peak and retained memory are those of the model alone."""

from __future__ import annotations

import gc
import importlib
import sys
import time
from dataclasses import dataclass

from edge_tta.bundle import Bundle
from edge_tta.runtime.apart import answer, ask
from edge_tta.runtime.backend import load_variant
from edge_tta.runtime.contention import Contention, ContentionMeter
from edge_tta.runtime.device import temperature_celsius
from edge_tta.runtime.memory import current_rss_bytes, peak_rss_bytes
from edge_tta.runtime.pipeline import TextToAudio, checked_threads
from edge_tta.runtime.request import GenerationRequest
from edge_tta.runtime.timings import Timings

WARM_UP_RUNS = 3
PROMPT = "rain on a tin roof, distant thunder"
LIBRARIES = {"ort": "onnxruntime", "executorch": "executorch.runtime", "coreml": "coremltools"}
"""What a backend imports when it opens its first model; not counted as part of a model."""


@dataclass(frozen=True)
class Job:
    """What to measure."""

    bundle: str
    """Directory."""
    variant: str
    threads: int | None
    """None for the default."""
    seconds: float
    steps: int
    runs: int


@dataclass(frozen=True)
class Measurement:
    """What was found; times in seconds."""

    backend: str
    precision: str
    threads: int
    load_seconds: float
    """Bundle and backend opened for the first time in this process; libraries were there."""
    warm_up_seconds: float
    """The first sound."""
    timings: tuple[Timings, ...]
    """Every timed sound, in order."""
    baseline_rss_bytes: int
    """Python and libraries, no model."""
    peak_rss_bytes: int
    retained_rss_bytes: int
    """What closing did not give back, above the baseline."""
    temperature_before: float | None
    temperature_after: float | None
    contention: Contention
    """While the timed sounds were made."""
    delegate_coverage: float | None
    """See ``edge_tta.runtime.benchmark.BenchmarkRecord``."""


def measure(job: Job) -> Measurement:
    """Open, warm up, time, close.

    Raises:
        RequestError: the bundle does not make such sounds.
        BundleError, BackendError, MissingExtraError: as ``load_variant``.
    """
    request = GenerationRequest(PROMPT, seconds=job.seconds, steps=job.steps)
    threads = checked_threads(job.threads)
    heat = temperature_celsius()
    opened = Bundle.open(job.bundle, verify=False)
    _load_libraries(opened, job.variant)
    baseline = current_rss_bytes()
    started = time.perf_counter()
    loaded = load_variant(opened, job.variant, threads)
    load = time.perf_counter() - started
    with TextToAudio(loaded, load) as model:
        started = time.perf_counter()
        model.generate(request)
        warm_up = time.perf_counter() - started
        for _ in range(WARM_UP_RUNS - 1):
            model.generate(request)
        meter = ContentionMeter()
        timings = tuple(model.generate(request).timings for _ in range(job.runs))
        contention = meter.stop()
        used = loaded.backend
    peak = peak_rss_bytes()
    gc.collect()
    return Measurement(
        backend=used.name,
        precision=used.precision,
        threads=used.threads,
        load_seconds=load,
        warm_up_seconds=warm_up,
        timings=timings,
        baseline_rss_bytes=baseline,
        peak_rss_bytes=peak,
        retained_rss_bytes=max(0, current_rss_bytes() - baseline),
        temperature_before=heat,
        temperature_after=temperature_celsius(),
        contention=contention,
        delegate_coverage=getattr(used, "delegate_coverage", None),
    )


def measure_apart(job: Job) -> Measurement:
    """``measure`` in a fresh process.

    Raises:
        BackendError: the process died.
        EdgeTTAError: whatever ``measure`` raises.
    """
    return ask(__name__, job, Measurement, job.variant)


def _load_libraries(bundle: Bundle, variant: str) -> None:
    described = bundle.variants.get(variant)
    library = None if described is None else LIBRARIES.get(described.backend)
    for name in ("sentencepiece", library):
        if name is not None:
            try:
                importlib.import_module(name)
            except ImportError:
                return  # the backend says it better


if __name__ == "__main__":
    sys.exit(answer(Job, measure))
