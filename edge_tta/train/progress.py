"""What the loop tells about a run while it is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is, and what it found since the last report."""

    step: int
    steps: int
    seconds_per_step: float
    """Mean of the steps of this process, without validation, samples and checkpoints; 0 in a report on validation."""
    eta_seconds: float
    """Time that is left, with all that a run does between its steps."""
    values: dict[str, float]


class Pace:
    """How long steps take, and how long a run takes with all that it does between them."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps, self._seconds = 0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step."""
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began
        self._steps += 1

    @property
    def seconds_per_step(self) -> float:
        """Mean time of a step alone; 0 before the first one."""
        return self._seconds / max(1, self._steps)

    def left(self, steps: int) -> float:
        """Seconds that so many more steps take if as much comes between them as until now."""
        return (time.monotonic() - self._began) / max(1, self._steps) * steps
