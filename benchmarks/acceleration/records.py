"""What is written down: one JSON object a line, read back strictly; the report needs nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.acceleration.plan import Study
from edge_tta.config import from_dict
from edge_tta.errors import DataError, OutputError
from edge_tta.evaluate.statistics import Estimate

SCHEMA = 1
BESIDE = 0.5
"""Processes of others, on average over a minute, from which on times are not those of a machine left alone."""


@dataclass(frozen=True)
class Machine:
    """Where something was measured."""

    cpu: str
    threads: int
    device: str
    """"cpu", or the accelerator's name."""

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.cpu}, {self.threads} threads" if self.device == "cpu" else self.device


@dataclass(frozen=True)
class TrainingRecord:
    """How one entry was trained with one seed."""

    entry: str
    seed: int
    recipe: str
    definition: str
    """Digest of everything that decides the training; another one is another training."""
    steps: int
    seconds: float
    """In the loop, over all pieces of an interrupted run; without preparing data and without earlier stages."""
    machine: Machine
    date: str
    commit: str
    final: dict[str, float] = field(default_factory=dict)
    """Last logged values."""
    curves: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Pairs (step, value) by name."""
    failure: str = ""
    """Why there are no weights, if there are none."""
    relative_cost: float | None = None
    """Cost of a step over one of the baseline's, where the budget was counted in those; from the trials."""
    kind: Literal["training"] = "training"


@dataclass(frozen=True)
class CostRecord:
    """What a step of one entry costs, from a trial."""

    entry: str
    definition: str
    """Digest of everything that decides it."""
    seconds_per_step: float
    steps: int
    """Steps it is the mean of."""
    load: float
    """Processes that wanted the processor in the minute before, as the system counts them."""
    machine: Machine
    date: str
    commit: str
    failure: str = ""
    """Why there is no figure, if there is none."""
    kind: Literal["cost"] = "cost"


@dataclass(frozen=True)
class Basis:
    """What figures rest on: two of different bases must not be compared."""

    tagger: str
    """SHA-256 of the judge."""
    reference: str
    """SHA-256 of the reference folder's metadata."""
    prompts: str
    """SHA-256 of the prompt list."""
    clip_seconds: float
    clips_per_prompt: int
    real_clips: Literal["as they are", "by label"] = "as they are"
    """By label: labels count for as much among real clips as among generated ones, Fréchet distances are of as many
    clips of each. Older records have real clips as they are."""


@dataclass(frozen=True)
class EvaluationRecord:
    """What one entry sounds like at one number of steps."""

    entry: str
    seed: int
    """Of the training run; decides the noise as well, so that all entries start from the same."""
    steps: int
    checkpoint: str
    """SHA-256 of the generator's weights."""
    sampler: str
    guidance: float
    basis: Basis
    machine: Machine
    date: str
    commit: str
    figures: dict[str, Estimate] = field(default_factory=dict)
    real: dict[str, Estimate] = field(default_factory=dict)
    """The same figures of real validation clips."""
    times: tuple[float, ...] = ()
    """Seconds of every clip that was timed; older records have their mean alone, the figure ``seconds_per_clip``."""
    load: float | None = None
    """Processes that wanted the processor in the minute before that, this one's threads among them; None where the
    system does not count them, and in older records."""
    failure: str = ""
    """Why nothing could be judged, if so."""
    kind: Literal["evaluation"] = "evaluation"

    @property
    def key(self) -> tuple[str, int, int, str, str, float, Basis]:
        """What makes judging again unnecessary."""
        return self.entry, self.seed, self.steps, self.checkpoint, self.sampler, self.guidance, self.basis

    @property
    def disturbed(self) -> bool:
        """Whether other work certainly ran beside the timing: more threads wanted the processor than this one's."""
        return self.load is not None and self.load > self.machine.threads + BESIDE


@dataclass(frozen=True)
class StudyRecord:
    """The plan that the other records belong to."""

    study: Study
    kind: Literal["study"] = "study"


Record = TrainingRecord | CostRecord | EvaluationRecord | StudyRecord
_KINDS: dict[str, type[Any]] = {
    "training": TrainingRecord,
    "cost": CostRecord,
    "evaluation": EvaluationRecord,
    "study": StudyRecord,
}


def to_line(record: Record) -> str:
    """A record as one line of JSON.

    Raises:
        DataError: a figure is not finite.
    """
    try:
        return json.dumps({"schema": SCHEMA, **asdict(record)}, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise DataError(f"a figure that is not finite cannot be recorded ({error})") from error


def parse_line(text: str, where: str) -> Record:
    """The record of a line.

    Raises:
        DataError: no JSON, another schema, an unknown kind.
        ConfigError: fields that do not fit.
    """
    try:
        document = json.loads(text)
        if document.pop("schema") != SCHEMA:
            raise DataError(f"{where}: another schema; this version reads {SCHEMA}")
        kind = _KINDS[document["kind"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: no record of this study ({error})") from error
    found: Record = from_dict(kind, document, where)
    return found


def read_records(path: Path) -> list[Record]:
    """Records in file order; a last line that a kill cut short is left out.

    Raises:
        DataError, ConfigError: no file, or a line that is no record.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    whole = text[: text.rfind("\n") + 1]
    return [
        parse_line(line, f"{path}:{number}")
        for number, line in enumerate(whole.splitlines(), start=1)
        if line.strip()
    ]


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Append lines and flush them to disk; what a kill has left of a line is cut off first.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = "".join(map(to_line, records)).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as stream:
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.seek(0, os.SEEK_END)
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
