"""Who else was using the processor while something was measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

BUSY_CORES = 0.15
"""More than this of a core taken by others disturbs medians of a process that uses all cores."""


@dataclass(frozen=True)
class Contention:
    """What else went on during a measurement; None where the system does not tell."""

    load_average_before: tuple[float, float, float] | None
    """Over 1, 5 and 15 minutes. Afterwards they hold the measured process itself."""
    load_average_after: tuple[float, float, float] | None
    other_cores: float | None
    """Cores that other processes kept busy, on average."""
    stolen_cores: float | None
    """Cores that the hypervisor gave to other machines, on average."""

    @property
    def is_busy(self) -> bool:
        """Whether others took enough of the processor to disturb what was measured."""
        return (self.other_cores or 0.0) + (self.stolen_cores or 0.0) > BUSY_CORES


class ContentionMeter:
    """Counts from its creation to ``stop``; this process is not counted among the others."""

    def __init__(self) -> None:
        self._load = load_average()
        self._before = _readings()

    def stop(self) -> Contention:
        """What others used meanwhile."""
        before, after = self._before, _readings()
        other = stolen = None
        if before is not None and after is not None:
            elapsed, busy, own, steal = (end - start for start, end in zip(before, after, strict=True))
            # The system counts in ticks of a few milliseconds, so short spans can come out below zero.
            other = max(0.0, (busy - own) / elapsed)
            stolen = max(0.0, steal / elapsed)
        return Contention(self._load, load_average(), other, stolen)


def load_average() -> tuple[float, float, float] | None:
    """Processes that ran or wanted to, averaged over 1, 5 and 15 minutes."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):
        return None


def _readings() -> tuple[float, float, float, float] | None:
    """Clock, busy time of all cores, time of this process, time stolen by the hypervisor; all in seconds."""
    try:
        total = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        user, nice, system, _, _, irq, softirq, steal = (int(ticks) for ticks in total[:8])
        tick = 1.0 / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    busy = (user + nice + system + irq + softirq) * tick
    return time.perf_counter(), busy, time.process_time(), steal * tick
