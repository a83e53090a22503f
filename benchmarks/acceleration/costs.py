"""What a step of each entry costs: measured once by short trials, kept as JSON lines, and turned into budgets.

Seconds of training are only fair on a machine that does nothing else. Costs can therefore be measured on a quiet one
and given to every later training; budgets in steps of the baseline need their ratios alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from benchmarks.acceleration.place import commit, load, this_machine, today
from benchmarks.acceleration.plan import NONE, Entry
from benchmarks.acceleration.records import CostRecord, append_records, read_records
from benchmarks.acceleration.workshop import Workshop, overrides_of, prepare, training_device
from edge_tta.config import dict_digest
from edge_tta.errors import Cancelled, ConfigError, TrainingError
from edge_tta.model.checkpoint import read_config
from edge_tta.train.progress import Progress
from edge_tta.train.run import run_recipe

TRIAL_STEPS = 40
"""Steps of a trial; recipes repeat a batch of couples up to 32 times."""
TRIAL_WARM = 8
"""Steps of it that do not count: the first ones build kernels."""
COSTS = "costs.jsonl"
"""Where costs are kept in the work folder."""
BUSY = 0.5
"""Share of the processors that others may use before a trial is called disturbed."""


def cost_of(shop: Workshop, entry: Entry) -> CostRecord:
    """The newest cost of an entry as it is defined now; measured if it is not known and no file was given.

    A trial that diverges is recorded as well, with its message.

    Raises:
        ConfigError: the given file does not have it.
        DataError: the file cannot be read.
        Cancelled: a signal ended the trial.
    """
    wanted = _definition(shop, entry)
    path = shop.costs or shop.work / COSTS
    known = (
        [record for record in read_records(path) if isinstance(record, CostRecord)] if path.is_file() else []
    )
    for record in reversed(known):
        if record.entry == entry.name and record.definition == wanted:
            return record
    if shop.costs is not None:
        raise ConfigError(
            f"{path} has no cost of '{entry.name}' as it is now defined; measure it with the verb trial"
        )
    found = measure(shop, entry)
    append_records(path, [found])
    return found


def steps_of(shop: Workshop, entry: Entry) -> int:
    """Steps that an entry's budget buys, the same for all seeds and resumed runs.

    Raises:
        TrainingError: its trial diverged.
        ConfigError: a cost is missing, or was measured on another machine than it is needed for.
    """
    budget = shop.study.budget_of(entry, shop.scale)
    if budget.steps is not None:
        return budget.steps
    if budget.seconds is not None:
        own = _usable(cost_of(shop, entry))
        here = this_machine(torch.get_num_threads(), *training_device(shop, entry))
        if own.machine != here:
            raise ConfigError(
                f"{entry.name}: seconds mean nothing here, its cost was measured on {own.machine.title}, this is "
                f"{here.title}; give --budget-steps"
            )
        return max(1, round(budget.seconds / own.seconds_per_step))
    assert budget.baseline_steps is not None
    return max(1, round(budget.baseline_steps / relative_cost(shop, entry)))


def relative_cost(shop: Workshop, entry: Entry) -> float:
    """Cost of a step of an entry over that of a step of the baseline.

    Raises:
        TrainingError: a trial diverged.
        ConfigError: a cost is missing, or the two were measured on different machines.
    """
    if entry.name == shop.study.baseline:
        return 1.0
    base = _usable(cost_of(shop, shop.study.entry(shop.study.baseline)))
    own = _usable(cost_of(shop, entry))
    if own.machine != base.machine:
        raise ConfigError(
            f"the costs of {entry.name} ({own.machine.title}) and {base.entry} ({base.machine.title}) were "
            "measured on different machines"
        )
    return own.seconds_per_step / base.seconds_per_step


def measure(shop: Workshop, entry: Entry) -> CostRecord:
    """Train an entry for a few steps from the common start, and see how long one takes.

    Raises:
        Cancelled: a signal ended it; the same command begins it again.
    """
    busy = load() or 0.0
    shop.tell(f"{entry.name}: {TRIAL_STEPS} steps on trial")
    if busy > BUSY * (os.cpu_count() or 1):
        shop.tell(f"{entry.name}: the machine is busy (load {busy:.1f}), what is measured may be too much")
    folder = shop.work / entry.name / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    prepare(shop.start, folder / "checkpoint")
    elapsed: dict[int, float] = {}

    def note(progress: Progress) -> None:
        if progress.seconds_per_step:
            elapsed[progress.step] = progress.step * progress.seconds_per_step

    overrides = overrides_of(shop, entry, 0, TRIAL_STEPS, folder / "checkpoint", trial=True)
    per_step, failure = 0.0, ""
    try:
        run_recipe(entry.recipe, [*overrides, "loop.log_every=1"], output=folder / "run", on_progress=note)
        if not {TRIAL_WARM, TRIAL_STEPS} <= elapsed.keys():
            raise Cancelled("stopped in the trial; the same command begins it again")
        per_step = (elapsed[TRIAL_STEPS] - elapsed[TRIAL_WARM]) / (TRIAL_STEPS - TRIAL_WARM)
    except TrainingError as error:
        failure = str(error)
    finally:
        _remove(folder)
    return CostRecord(
        entry.name,
        _definition(shop, entry),
        per_step,
        TRIAL_STEPS - TRIAL_WARM,
        busy,
        this_machine(torch.get_num_threads(), *training_device(shop, entry)),
        today(),
        commit(),
        failure,
    )


def _definition(shop: Workshop, entry: Entry) -> str:
    """Digest of what decides the cost of a step; which weights it starts from does not."""
    return dict_digest(
        {
            "recipe": entry.recipe,
            "overrides": [*shop.study.overrides, *entry.overrides, *shop.overrides],
            "start": entry.start != NONE,
            "teacher": entry.teacher != NONE,
            "model": read_config(shop.start).digest(),
        }
    )


def _usable(cost: CostRecord) -> CostRecord:
    if cost.failure:
        raise TrainingError(f"the trial of {cost.entry} failed: {cost.failure}")
    return cost


def _remove(folder: Path) -> None:
    """The trial's folder, and the entry's where nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
