"""Trains the entries of the study, each into a folder of its own; what is finished is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.acceleration.costs import cost_of, relative_cost, steps_of
from benchmarks.acceleration.place import (
    CHECKPOINT_FILES,
    WEIGHTS,
    Place,
    commit,
    digest_of_files,
    files_of,
    place_of,
    source_of,
    this_machine,
    today,
)
from benchmarks.acceleration.plan import Entry
from benchmarks.acceleration.records import CostRecord, TrainingRecord, to_line
from benchmarks.acceleration.workshop import Workshop, copy_files, overrides_of, prepare, training_device
from edge_tta.config import dict_digest
from edge_tta.errors import Cancelled, ConfigError, TrainingError
from edge_tta.files import write_file
from edge_tta.model.checkpoint import read_config
from edge_tta.model.text_source import read_text_source
from edge_tta.train.checkpoint import complete_checkpoints
from edge_tta.train.progress import Progress
from edge_tta.train.run import run_recipe

CURVE_POINTS = 200
"""Most points kept of a curve."""
CURVES = ("loss", "gradient_norm")
"""Endings of the logged values that are kept."""

Curves = dict[str, tuple[tuple[float, float], ...]]
"""Pairs (step, value) by name."""


def train_study(shop: Workshop, only: Sequence[str], seeds: Sequence[int]) -> list[TrainingRecord]:
    """Train what is not trained yet, seed by seed, every entry after those it starts from.

    Raises:
        ConfigError: an unknown entry, a start that is no checkpoint, or a folder of another definition.
        Cancelled: a signal ended a run; the same command goes on with it.
        DataError, OutputError: from data and files.
    """
    require_start(shop)
    return [train_entry(shop, entry, seed) for seed in seeds for entry in shop.study.select(only)]


def try_study(shop: Workshop, only: Sequence[str]) -> list[CostRecord]:
    """Measure what steps cost where that is not known yet, of the baseline too.

    Raises:
        ConfigError: an unknown entry, or a start that is no checkpoint.
        Cancelled: a signal ended a trial; the same command goes on.
        DataError, OutputError: from data and files.
    """
    require_start(shop)
    study = shop.study
    wanted = study.select([*only, study.baseline] if only else ())
    return [cost_of(shop, entry) for entry in wanted if study.budget_of(entry).steps != 0]


def require_start(shop: Workshop) -> None:
    """Check that there is a checkpoint to start from.

    Raises:
        ConfigError: it is none, has no generator, or is told its texts by public networks.
    """
    read_config(shop.start)
    if not files_of(shop.start, WEIGHTS):
        raise ConfigError(f"{shop.start} has no generator; train one with the recipe 'flow'")
    if read_text_source(shop.start) is not None:
        raise ConfigError(
            f"{shop.start} is on public text; the study compares models with their own text encoder"
        )


def train_entry(shop: Workshop, entry: Entry, seed: int) -> TrainingRecord:
    """Train one entry, or go on with it, or take the outcome that is there.

    A training that diverges is an outcome as well: it is recorded with its message and has no weights.
    """
    place = place_of(shop.work, entry, seed)
    _sweep(place.folder)
    definition = define(shop, entry, seed)
    found = place.training()
    if found is not None:
        if found.definition != definition:
            raise ConfigError(
                f"{place.folder} was trained by another definition; remove it, or choose another --work"
            )
        # A kill may have come between the outcome and this.
        _drop_state(place)
        shop.tell(f"{entry.name}, seed {seed}: finished before")
        return found
    failed = [name for name in entry.parents() if not _has_weights(shop, name, seed)]
    failure = f"its start {failed[0]} has no weights" if failed else ""
    steps = 0
    curves: Curves = {}
    final: dict[str, float] = {}
    if not failure:
        prepare(shop.start, place.checkpoint)
        try:
            steps = steps_of(shop, entry)
            if steps:
                _run(shop, entry, seed, steps, place)
                curves, final = read_curves(place.run / "log.jsonl")
            else:
                copy_files(_given_weights(shop, entry, seed), place.checkpoint)
        except TrainingError as error:
            failure = str(error)
            curves, final = read_curves(place.run / "log.jsonl")
    record = TrainingRecord(
        entry.name,
        seed,
        entry.recipe,
        definition,
        steps,
        _Clock(place.clock).total,
        this_machine(torch.get_num_threads(), *training_device(shop, entry)),
        today(),
        commit(),
        final,
        curves,
        failure,
        _relative_cost(shop, entry),
    )
    write_file(place.record, to_line(record).encode())
    _drop_state(place)
    shop.tell(f"{entry.name}, seed {seed}: " + (failure or f"{steps} steps in {record.seconds:.0f} s"))
    return record


def define(shop: Workshop, entry: Entry, seed: int) -> str:
    """Digest of everything that decides an entry's training, its starts included, wherever the folders lie."""
    parents = {name: define(shop, shop.study.entry(name), seed) for name in entry.parents()}
    budget = shop.study.budget_of(entry, shop.scale)
    plain: dict[str, Any] = {"steps": budget.steps, "seconds": budget.seconds}
    if budget.baseline_steps is not None:
        # Costs measured anew may buy another number of steps: that is another training.
        plain = {"baseline_steps": budget.baseline_steps, "relative_cost": _relative_cost(shop, entry)}
    given = {"checkpoint": digest_of_files(_given_weights(shop, entry, seed))} if entry.checkpoint else {}
    return dict_digest(
        {
            **given,
            "recipe": entry.recipe,
            "overrides": [*shop.study.overrides, *entry.overrides, *shop.overrides],
            "budget": plain,
            "start": entry.start,
            "teacher": entry.teacher,
            "parents": parents,
            "common": digest_of_files(files_of(shop.start, *CHECKPOINT_FILES, WEIGHTS)),
            "seed": seed,
        }
    )


def _given_weights(shop: Workshop, entry: Entry, seed: int) -> list[Path]:
    """Files of the weights that an entry without training has.

    Raises:
        ConfigError: the checkpoint it names has none.
    """
    if not entry.checkpoint:
        return files_of(source_of(shop.work, shop.start, entry.start, seed), WEIGHTS)
    found = files_of(Path(entry.checkpoint), WEIGHTS)
    if not found:
        raise ConfigError(f"{entry.name}: {entry.checkpoint} has no generator")
    return found


def _relative_cost(shop: Workshop, entry: Entry) -> float | None:
    """Relative cost of a step where the budget asks for it; None where its trial diverged."""
    if shop.study.budget_of(entry, shop.scale).baseline_steps is None:
        return None
    try:
        return relative_cost(shop, entry)
    except TrainingError:
        return None


def _sweep(folder: Path) -> None:
    """Remove what a kill has left of files and checkpoints that were being written; they have hidden names."""
    for path in sorted(folder.rglob(".*.tmp-*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _drop_state(place: Place) -> None:
    """Optimiser states of a finished run are of no more use, and three times as large as the generator."""
    shutil.rmtree(place.run / "checkpoints", ignore_errors=True)


def read_curves(path: Path) -> tuple[Curves, dict[str, float]]:
    """Curves of a run's log, thinned out, and its last values."""
    curves: dict[str, list[tuple[float, float]]] = {}
    final: dict[str, float] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        record = json.loads(line)
        step = float(record.pop("step"))
        for name, value in {**record.pop("validation", {}), **record}.items():
            final[name] = float(value)
            if name.endswith(CURVES):
                curves.setdefault(name, []).append((step, float(value)))
    thinned = {
        name: tuple(points[:: -(-len(points) // CURVE_POINTS)]) for name, points in sorted(curves.items())
    }
    return thinned, dict(sorted(final.items()))


def _run(shop: Workshop, entry: Entry, seed: int, steps: int, place: Place) -> None:
    """Train, or go on from the newest checkpoint."""
    clock = _Clock(place.clock)
    kept = complete_checkpoints(place.run / "checkpoints")
    clock.rewind(int(kept[-1].name.rpartition("-")[2]) if kept else 0)
    overrides = overrides_of(shop, entry, seed, steps, place.checkpoint)
    outcome = run_recipe(entry.recipe, overrides, resume=True, output=place.run, on_progress=clock)
    if not outcome["finished"]:
        raise Cancelled(f"{entry.name} stopped at step {outcome['step']}; the same command goes on with it")


class _Clock:
    """Seconds spent in steps, kept on disk so that pieces of an interrupted run add up.

    Args:
        path: JSON list of pairs (step, seconds).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pairs: list[list[float]] = json.loads(path.read_text("utf-8")) if path.is_file() else []
        self._step, self._seconds = 0, 0.0

    @property
    def total(self) -> float:
        """Seconds up to the last note."""
        return self.pairs[-1][1] if self.pairs else 0.0

    def rewind(self, step: int) -> None:
        """Forget what was trained after a checkpoint and is trained again."""
        self.pairs = [pair for pair in self.pairs if pair[0] <= step]
        self._step, self._seconds = step, self.total

    def __call__(self, progress: Progress) -> None:
        """Note how long the run has taken."""
        if progress.seconds_per_step:
            seconds = self._seconds + (progress.step - self._step) * progress.seconds_per_step
            self.pairs.append([progress.step, seconds])
            write_file(self.path, json.dumps(self.pairs).encode())


def _has_weights(shop: Workshop, name: str, seed: int) -> bool:
    return bool(files_of(source_of(shop.work, shop.start, name, seed), WEIGHTS))
