"""Where things lie in the study's folder, and what machine and commit they come from."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.acceleration.plan import START, Entry
from benchmarks.acceleration.records import Machine, TrainingRecord, parse_line
from edge_tta.errors import DataError
from edge_tta.runtime.device import cpu_model
from edge_tta.runtime.revision import source_commit

CHECKPOINT_FILES = ("config.json", "tokenizer.model", "codec*.safetensors", "text_encoder*.safetensors")
"""What every entry shares with the start."""
WEIGHTS = "generator*.safetensors"


@dataclass(frozen=True)
class Place:
    """Folder of one entry and seed."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """Model checkpoint that receives the generator."""
        return self.folder / "checkpoint"

    @property
    def run(self) -> Path:
        """Run directory of the training loop."""
        return self.folder / "run"

    @property
    def clock(self) -> Path:
        """Seconds trained so far, by step."""
        return self.folder / "clock.json"

    @property
    def record(self) -> Path:
        """Outcome of the training; there only once it is finished."""
        return self.folder / "training.json"

    def training(self) -> TrainingRecord | None:
        """The outcome, or None while it is not finished.

        Raises:
            DataError, ConfigError: the file is no such record.
        """
        if not self.record.is_file():
            return None
        found = parse_line(self.record.read_text(encoding="utf-8"), str(self.record))
        if not isinstance(found, TrainingRecord):
            raise DataError(f"{self.record}: no record of a training")
        return found


def place_of(work: Path, entry: Entry, seed: int) -> Place:
    """Place of an entry."""
    return Place(work / entry.name / f"seed-{seed}")


def source_of(work: Path, start: Path, name: str, seed: int) -> Path:
    """Checkpoint behind "start" or an entry's name."""
    return start if name == START else work / name / f"seed-{seed}" / "checkpoint"


def files_of(folder: Path, *patterns: str) -> list[Path]:
    """Files that match, in the order of the patterns, then by name."""
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def digest_of_files(paths: list[Path]) -> str:
    """SHA-256 over names and contents, hexadecimal.

    Raises:
        DataError: no file, or one that cannot be read.
    """
    if not paths:
        raise DataError("no file to identify: the checkpoint is not complete")
    digest = hashlib.sha256()
    try:
        for path in paths:
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def this_machine(threads: int, device: str = "cpu", device_name: str = "") -> Machine:
    """The machine that measures."""
    return Machine(cpu_model(), threads, device_name or device)


def load() -> float | None:
    """Processes that wanted the processor in the last minute, on average; None where the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def today() -> str:
    """Date in UTC, YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()


def commit() -> str:
    """Commit of this code with "-dirty" where files differ from it; empty outside a repository."""
    return source_commit() or ""
