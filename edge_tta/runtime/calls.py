"""One call of a pipeline: how far it is, whether it was cancelled, and what its caller is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_tta.errors import Cancelled
from edge_tta.runtime.request import GenerationRequest, Progress, StageName
from edge_tta.runtime.timings import Stopwatch

OnProgress = Callable[[Progress], bool | None]


class Call:
    """One call of ``generate`` or ``generate_many``.

    Args:
        requests: one per sound.
        on_progress: see ``TextToAudio.generate``.
    """

    def __init__(self, requests: list[GenerationRequest], on_progress: OnProgress | None) -> None:
        self.requests, self._on_progress = requests, on_progress
        self._cancelled = threading.Event()
        self._stages = sum(len(request.layers) * (3 + request.steps) for request in requests)
        self._stages_done = self._item = 0
        self.watch = Stopwatch()

    def begin(self, item: int) -> GenerationRequest:
        """Begin a sound; its request."""
        self._item, self.watch = item, Stopwatch()
        return self.requests[item]

    def cancel(self) -> None:
        """Stop before the next stage."""
        self._cancelled.set()

    def report(self, stage: StageName) -> None:
        """Tell the caller what comes next.

        Raises:
            Cancelled: the caller does not want it.
        """
        if self._tell(stage, self._stages_done / self._stages) is False:
            raise Cancelled(f"cancelled before {stage}")

    def check(self, stage: StageName) -> None:
        """Give way to ``cancel``.

        Raises:
            Cancelled: it was called.
        """
        if self._cancelled.is_set():
            raise Cancelled(f"cancelled before {stage}")

    def done(self) -> None:
        """Count a stage that has run."""
        self._stages_done += 1

    def finish(self) -> None:
        """Tell the caller that all stages have run. It is too late to cancel."""
        self._tell("decoder", 1.0)

    def _tell(self, stage: StageName, fraction: float) -> bool | None:
        if self._on_progress is None:
            return None
        return self._on_progress(Progress(stage, fraction, self._item, len(self.requests)))
