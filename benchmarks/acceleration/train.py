"""Trains the entries of the study, each into a folder of its own; what is finished is not done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

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
from benchmarks.acceleration.plan import NONE, STEPS_HERE, Budget, Entry, Study
from benchmarks.acceleration.records import TrainingRecord, to_line
from edge_tta.audio import write_file
from edge_tta.config import dict_digest
from edge_tta.errors import Cancelled, ConfigError, OutputError, TrainingError
from edge_tta.model.checkpoint import read_config
from edge_tta.train.loop import Progress
from edge_tta.train.run import run_recipe

TRIAL_STEPS = 40
"""Steps of the trial that turns seconds into steps; recipes repeat a batch of couples up to 32 times."""
TRIAL_WARM = 8
"""Steps of it that do not count: the first ones build kernels."""
CURVE_POINTS = 200
"""Most points kept of a curve."""
CURVES = ("loss", "gradient_norm")
"""Endings of the logged values that are kept."""

Tell = Callable[[str], Any]
Curves = dict[str, tuple[tuple[float, float], ...]]
"""Pairs (step, value) by name."""


@dataclass(frozen=True)
class Workshop:
    """Everything a training needs besides its entry."""

    study: Study
    start: Path
    """Checkpoint of the common flow-matching start."""
    data: Path
    cache: Path
    work: Path
    scale: float = 1.0
    """Of every budget."""
    overrides: tuple[str, ...] = ()
    """Of every recipe, after the entry's own."""
    tell: Tell = lambda _: None


def train_study(shop: Workshop, only: Sequence[str], seeds: Sequence[int]) -> list[TrainingRecord]:
    """Train what is not trained yet, seed by seed, every entry after those it starts from.

    Raises:
        ConfigError: an unknown entry, a start that is no checkpoint, or a folder of another definition.
        Cancelled: a signal ended a run; the same command goes on with it.
        DataError, OutputError: from data and files.
    """
    read_config(shop.start)
    if not files_of(shop.start, WEIGHTS):
        raise ConfigError(f"{shop.start} has no generator; train one with the recipe 'flow'")
    return [train_entry(shop, entry, seed) for seed in seeds for entry in shop.study.select(only)]


def train_entry(shop: Workshop, entry: Entry, seed: int) -> TrainingRecord:
    """Train one entry, or go on with it, or take the outcome that is there.

    A training that diverges is an outcome as well: it is recorded with its message and has no weights.
    """
    place = place_of(shop.work, entry, seed)
    definition = define(shop, entry, seed)
    found = place.training()
    if found is not None:
        if found.definition != definition:
            raise ConfigError(
                f"{place.folder} was trained by another definition; remove it, or choose another --work"
            )
        shop.tell(f"{entry.name}, seed {seed}: finished before")
        return found
    failed = [name for name in entry.parents() if not _has_weights(shop, name, seed)]
    failure = f"its start {failed[0]} has no weights" if failed else ""
    steps = 0
    curves: Curves = {}
    final: dict[str, float] = {}
    if not failure:
        _prepare(shop.start, place.checkpoint)
        try:
            steps = steps_of(shop, entry, seed)
            if steps:
                _run(shop, entry, seed, steps, place)
                curves, final = read_curves(place.run / "log.jsonl")
            else:
                _copy(
                    files_of(source_of(shop.work, shop.start, entry.start, seed), WEIGHTS), place.checkpoint
                )
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
        this_machine(torch.get_num_threads(), *_training_device(shop, entry)),
        today(),
        commit(),
        final,
        curves,
        failure,
    )
    write_file(place.record, to_line(record).encode())
    # Optimiser states of a finished run are of no more use, and three times as large as the generator.
    shutil.rmtree(place.run / "checkpoints", ignore_errors=True)
    shop.tell(f"{entry.name}, seed {seed}: " + (failure or f"{steps} steps in {record.seconds:.0f} s"))
    return record


def define(shop: Workshop, entry: Entry, seed: int) -> str:
    """Digest of everything that decides an entry's training, its starts included, wherever the folders lie."""
    parents = {name: define(shop, shop.study.entry(name), seed) for name in entry.parents()}
    return dict_digest(
        {
            "recipe": entry.recipe,
            "overrides": [*shop.study.overrides, *entry.overrides, *shop.overrides],
            "budget": asdict(shop.study.budget_of(entry, shop.scale)),
            "start": entry.start,
            "teacher": entry.teacher,
            "parents": parents,
            "common": digest_of_files(files_of(shop.start, *CHECKPOINT_FILES, WEIGHTS)),
            "seed": seed,
        }
    )


def steps_of(shop: Workshop, entry: Entry, seed: int) -> int:
    """Steps of an entry; the trial that finds them is made once for all seeds and resumed runs."""
    budget = shop.study.budget_of(entry, shop.scale)
    if budget.steps is not None:
        return budget.steps
    path = shop.work / entry.name / "budget.json"
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if Budget(seconds=stored["seconds"]) == budget:
            return int(stored["steps"])
    shop.tell(f"{entry.name}: {TRIAL_STEPS} steps on trial")
    folder = shop.work / entry.name / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    _prepare(shop.start, folder / "checkpoint")
    elapsed: dict[int, float] = {}

    def note(progress: Progress) -> None:
        if progress.seconds_per_step:
            elapsed[progress.step] = progress.step * progress.seconds_per_step

    overrides = overrides_of(shop, entry, seed, TRIAL_STEPS, folder / "checkpoint")
    run_recipe(entry.recipe, [*overrides, "loop.log_every=1"], output=folder / "run", on_progress=note)
    shutil.rmtree(folder)
    if not {TRIAL_WARM, TRIAL_STEPS} <= elapsed.keys():
        raise Cancelled("stopped in the trial; the same command begins it again")
    per_step = (elapsed[TRIAL_STEPS] - elapsed[TRIAL_WARM]) / (TRIAL_STEPS - TRIAL_WARM)
    assert budget.seconds is not None
    steps = max(1, round(budget.seconds / per_step))
    document = {"seconds": budget.seconds, "seconds_per_step": per_step, "steps": steps}
    write_file(path, (json.dumps(document) + "\n").encode())
    return steps


def overrides_of(shop: Workshop, entry: Entry, seed: int, steps: int, checkpoint: Path) -> list[str]:
    """Everything that is changed of an entry's recipe; later ones win."""

    def weights(name: str) -> str:
        return "" if name == NONE else str(source_of(shop.work, shop.start, name, seed))

    entries = {
        "loop.steps": steps,
        "loop.log_every": max(1, min(25, steps // 40)),
        "loop.checkpoint_every": max(1, min(100, steps // 4)),
        "loop.validate_every": 0,
        "loop.seed": seed,
        "generator.seed": seed,
        "generator.sample_prompts": [],
        "generator.start": weights(entry.start),
        "generator.teacher": weights(entry.teacher),
        "preset": read_config(shop.start).name,
        "checkpoint": str(checkpoint),
        "data.folder": str(shop.data),
        "data.cache": str(shop.cache),
    }
    own = [text.replace(STEPS_HERE, str(steps)) for text in (*shop.study.overrides, *entry.overrides)]
    return [*own, *shop.overrides, *(f"{key}={json.dumps(value)}" for key, value in entries.items())]


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
    latest = place.run / "checkpoints" / "latest"
    name = latest.read_text(encoding="utf-8").strip() if latest.is_file() else "step-0"
    clock.rewind(int(name.rpartition("-")[2]))
    overrides = overrides_of(shop, entry, seed, steps, place.checkpoint)
    outcome = run_recipe(entry.recipe, overrides, resume=True, output=place.run, on_progress=clock)
    if not outcome["finished"]:
        raise Cancelled(f"{entry.name} stopped at step {outcome['step']}; the same command goes on with it")


class _Clock:
    """Seconds spent in the loop, kept on disk so that pieces of an interrupted run add up.

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


def _prepare(start: Path, checkpoint: Path) -> None:
    """A checkpoint folder with all that entries share."""
    try:
        checkpoint.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {checkpoint}: {error.strerror or error}") from error
    _copy(files_of(start, *CHECKPOINT_FILES), checkpoint)


def _copy(files: list[Path], folder: Path) -> None:
    """Copy files; each appears whole or not at all."""
    for path in files:
        write_file(folder / path.name, path.read_bytes())


def _has_weights(shop: Workshop, name: str, seed: int) -> bool:
    return bool(files_of(source_of(shop.work, shop.start, name, seed), WEIGHTS))


def _training_device(shop: Workshop, entry: Entry) -> tuple[str, str]:
    """Device of the loop and its name; recipes say "auto" unless an override says otherwise."""
    given = [text.partition("=")[2] for text in (*entry.overrides, *shop.overrides) if "loop.device=" in text]
    wanted = given[-1].strip('"') if given else "auto"
    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu", ""
    return "cuda", torch.cuda.get_device_name()
