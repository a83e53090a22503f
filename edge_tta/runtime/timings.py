"""How long each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from edge_tta.runtime.memory import peak_rss_bytes


@dataclass(frozen=True)
class Timings:
    """Seconds by stage on a monotonic clock; the stages' sum is at most ``total``."""

    load: float = 0.0
    """Opening bundle and backend, once per pipeline; not part of ``total``."""
    tokenizer: float = 0.0
    """Prompt to ids."""
    text_encoder: float = 0.0
    """Ids to token features."""
    generator: float = 0.0
    """Noise and all network steps."""
    decoder: float = 0.0
    """Latent to finished samples."""
    total: float = 0.0
    """Prompt in to samples out, without the time that the caller's ``on_progress`` or other calls take."""
    peak_rss_bytes: int = 0
    """Largest resident memory of the process so far; 0 where the platform does not tell."""

    def real_time_factor(self, seconds: float) -> float:
        """Time taken per second of sound."""
        return self.total / seconds

    def as_dict(self) -> dict[str, Any]:
        """Values by name."""
        return asdict(self)


class Stopwatch:
    """Collects the stage times of one sound, from its creation on."""

    def __init__(self) -> None:
        self._started, self._paused = time.perf_counter(), 0.0
        self._stages = {"tokenizer": 0.0, "text_encoder": 0.0, "generator": 0.0, "decoder": 0.0}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time a block takes to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            # Some virtual machines let even a monotonic clock step back; a stage never takes negative time.
            self._stages[name] += max(0.0, time.perf_counter() - started)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time a block takes out of the total."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._paused += max(0.0, time.perf_counter() - started)

    def timings(self, load: float) -> Timings:
        """What has been collected; ``load`` in seconds is passed through."""
        total = max(time.perf_counter() - self._started - self._paused, sum(self._stages.values()))
        return Timings(**self._stages, load=load, total=total, peak_rss_bytes=peak_rss_bytes())
