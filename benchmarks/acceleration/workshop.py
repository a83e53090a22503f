"""What every training of the study has: start, data and folders, and what it changes of a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.acceleration.place import CHECKPOINT_FILES, files_of, source_of
from benchmarks.acceleration.plan import NONE, START, STEPS_HERE, Entry, Study
from edge_tta.errors import OutputError
from edge_tta.files import write_file
from edge_tta.model.checkpoint import read_config

Tell = Callable[[str], Any]


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
    costs: Path | None = None
    """What steps cost, measured before; None to measure it here and keep it in the work folder."""
    tell: Tell = lambda _: None


def overrides_of(
    shop: Workshop, entry: Entry, seed: int, steps: int, checkpoint: Path, trial: bool = False
) -> list[str]:
    """Everything that is changed of an entry's recipe; later ones win.

    Args:
        shop: where things lie.
        entry: what is trained.
        seed: training seed.
        steps: optimiser steps.
        checkpoint: model checkpoint that receives the generator.
        trial: whether only time counts: the common start stands for every entry, trained or not.
    """

    def weights(name: str) -> str:
        found = START if trial and name != NONE else name
        return "" if found == NONE else str(source_of(shop.work, shop.start, found, seed))

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


def prepare(start: Path, checkpoint: Path) -> None:
    """A checkpoint folder with all that entries share."""
    try:
        checkpoint.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {checkpoint}: {error.strerror or error}") from error
    copy_files(files_of(start, *CHECKPOINT_FILES), checkpoint)


def copy_files(files: list[Path], folder: Path) -> None:
    """Copy files; each appears whole or not at all."""
    for path in files:
        write_file(folder / path.name, path.read_bytes())


def training_device(shop: Workshop, entry: Entry) -> tuple[str, str]:
    """Device of the loop and its name; recipes say "auto" unless an override says otherwise."""
    given = [text.partition("=")[2] for text in (*entry.overrides, *shop.overrides) if "loop.device=" in text]
    wanted = given[-1].strip('"') if given else "auto"
    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu", ""
    return "cuda", torch.cuda.get_device_name()
