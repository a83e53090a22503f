"""What the training loop tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a run is, and what it found since the last report."""

    step: int
    steps: int
    seconds_per_step: float
    eta_seconds: float
    values: dict[str, float]
