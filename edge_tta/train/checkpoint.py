"""Run checkpoints: weights, moving averages and optimiser state as safetensors, written so that a kill loses nothing.

    RUN/checkpoints/step-00001000/{weights,average,optimiser}.safetensors + state.json (written last)
    RUN/checkpoints/latest        name of the newest complete one

A directory is assembled under a temporary name and renamed, so a name that ends in digits is always complete.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edge_tta.errors import TrainingError
from edge_tta.model.checkpoint import write_atomically

logger = logging.getLogger(__name__)

KEEP = 2
"""Complete checkpoints kept in a run."""


@dataclass
class RunState:
    """Everything a run needs to go on: tensors by name, and plain values."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    plain: dict[str, Any]
    """JSON values, the recipe digest among them."""


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_run_state(directory: Path, state: RunState) -> Path:
    """Write a checkpoint under ``directory`` and drop all but the newest two.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are untouched and nothing partial stays.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = f"step-{state.step:08d}"
    part = directory / f".{name}.tmp-{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        for kind in ("weights", "average", "optimiser"):
            tensors = {key: value.detach().cpu().contiguous() for key, value in getattr(state, kind).items()}
            write_atomically(part / f"{kind}.safetensors", save(tensors))
        document = {"step": state.step, "plain": state.plain}
        write_atomically(part / "state.json", json.dumps(document, sort_keys=True).encode())
        _sync_directory(part)
        shutil.rmtree(directory / name, ignore_errors=True)
        os.replace(part, directory / name)
        write_atomically(directory / "latest", name.encode())
        _sync_directory(directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in complete_checkpoints(directory)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return directory / name


def complete_checkpoints(directory: Path) -> list[Path]:
    """Checkpoint directories, oldest first."""
    return sorted(path for path in directory.glob("step-????????") if path.is_dir())


def load_run_state(path: Path) -> RunState:
    """Read one checkpoint.

    Raises:
        TrainingError: a file is missing, truncated or damaged.
    """
    try:
        document = json.loads((path / "state.json").read_text(encoding="utf-8"))
        parts = {
            kind: load((path / f"{kind}.safetensors").read_bytes())
            for kind in ("weights", "average", "optimiser")
        }
        return RunState(
            int(document["step"]), parts["weights"], parts["average"], parts["optimiser"], document["plain"]
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"checkpoint {path.name} cannot be used ({error})") from error


def newest_run_state(directory: Path) -> RunState | None:
    """Newest checkpoint that can be read; damaged ones are passed over with a warning.

    Raises:
        TrainingError: there are checkpoints, and none can be read.
    """
    paths = complete_checkpoints(directory)
    for stale in directory.glob(".step-*.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    for path in reversed(paths):
        try:
            return load_run_state(path)
        except TrainingError as error:
            logger.warning("%s; going back to the one before", error)
    if paths:
        raise TrainingError(f"none of the {len(paths)} checkpoints in {directory} can be read")
    return None
