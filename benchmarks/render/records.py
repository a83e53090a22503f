"""Records of schema bench/1, read strictly: a row that lacks something is not shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tta.config import from_dict
from edge_tta.errors import ConfigError, DataError
from edge_tta.runtime.benchmark import BenchmarkRecord
from edge_tta.runtime.device import Device


@dataclass(frozen=True)
class Found:
    """What files hold."""

    records: tuple[BenchmarkRecord, ...]
    left_out: tuple[str, ...]
    """Why a line is not shown, one reason a line."""


@dataclass(frozen=True)
class Group:
    """Records that may be compared: one machine, one bundle, one number of steps."""

    records: tuple[BenchmarkRecord, ...]
    """Newest of every point, by variant, threads and seconds."""
    superseded: int
    """Older records of the same points."""

    @property
    def device(self) -> Device:
        """The machine of the newest record."""
        return max(self.records, key=lambda record: record.date).device

    @property
    def variants(self) -> list[str]:
        """Names, sorted."""
        return sorted({record.variant for record in self.records})

    @property
    def threads(self) -> list[int]:
        """Counts, ascending."""
        return sorted({record.threads for record in self.records})

    @property
    def seconds(self) -> list[float]:
        """Durations, ascending."""
        return sorted({record.seconds for record in self.records})

    def where(
        self, variant: str, *, threads: int | None = None, seconds: float | None = None
    ) -> list[BenchmarkRecord]:
        """Records of a variant with a number of threads, a duration, or both."""
        return [
            record
            for record in self.records
            if record.variant == variant
            and threads in (None, record.threads)
            and seconds in (None, record.seconds)
        ]


def read_records(paths: Iterable[Path]) -> Found:
    """Records of JSON Lines files.

    Raises:
        DataError: a file cannot be read, or no line of all files is a complete record.
    """
    records: list[BenchmarkRecord] = []
    left_out: list[str] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    records.append(from_dict(BenchmarkRecord, json.loads(line)))
                except (ValueError, ConfigError) as error:
                    left_out.append(f"{path.name}:{number}: {error}")
    if not records:
        raise DataError(f"no complete record; {left_out[0]}" if left_out else "no records")
    return Found(tuple(records), tuple(left_out))


def grouped(records: Sequence[BenchmarkRecord]) -> list[Group]:
    """Groups in the order of their first records."""
    groups: dict[tuple[str, str, int], list[BenchmarkRecord]] = {}
    for record in records:
        groups.setdefault((record.fingerprint, record.bundle_digest, record.steps), []).append(record)
    found = []
    for members in groups.values():
        newest: dict[tuple[str, int, float], BenchmarkRecord] = {}
        for record in sorted(members, key=lambda record: record.date):
            newest[record.variant, record.threads, record.seconds] = record
        points = tuple(newest[key] for key in sorted(newest))
        found.append(Group(points, len(members) - len(points)))
    return found
