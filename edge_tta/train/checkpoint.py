"""Run checkpoints: weights, moving averages and optimiser state as safetensors, written so that a kill loses nothing.

    RUN/checkpoints/step-00001000/{weights,average,optimiser}.safetensors
    RUN/checkpoints/step-00001000/state.json    plain values and the SHA-256 of every file, written last

A directory is assembled under a temporary name and renamed, so a name that ends in digits is always complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edge_tta.errors import TrainingError
from edge_tta.model.checkpoint import write_atomically
from edge_tta.train.batches import named_parts

logger = logging.getLogger(__name__)

KEEP = 2
"""Complete checkpoints kept in a run."""
KINDS = ("weights", "average", "optimiser")
"""Tensor files of a checkpoint."""


@dataclass
class RunState:
    """Everything a run needs to go on: tensors by name, and plain values."""

    step: int
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    plain: dict[str, Any]
    """JSON values, the run's definition among them."""


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
        hashes = {}
        for kind in KINDS:
            tensors = {key: value.detach().cpu().contiguous() for key, value in getattr(state, kind).items()}
            data = save(tensors)
            hashes[kind] = hashlib.sha256(data).hexdigest()
            write_atomically(part / f"{kind}.safetensors", data)
        document = {"step": state.step, "plain": state.plain, "sha256": hashes}
        document["digest"] = _digest(document)
        write_atomically(part / "state.json", json.dumps(document, sort_keys=True).encode())
        _sync_directory(part)
        shutil.rmtree(directory / name, ignore_errors=True)
        os.replace(part, directory / name)
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
        document = _read_document(path)
        parts = {}
        for kind in KINDS:
            data = (path / f"{kind}.safetensors").read_bytes()
            if hashlib.sha256(data).hexdigest() != document["sha256"][kind]:
                raise ValueError(f"{kind}.safetensors is not what was written")
            parts[kind] = load(data)
        return RunState(
            int(document["step"]), parts["weights"], parts["average"], parts["optimiser"], document["plain"]
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"checkpoint {path.name} cannot be used ({error})") from error


def _read_document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if document.pop("digest") != _digest(document):
        raise ValueError("state.json is not what was written")
    return document


def newest_plain_values(directory: Path) -> dict[str, Any] | None:
    """Plain values of the newest checkpoint whose ``state.json`` can be read, without its tensors; None without one."""
    for path in reversed(complete_checkpoints(directory)):
        try:
            plain: dict[str, Any] = _read_document(path)["plain"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        return plain
    return None


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


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


def require_fit(kind: str, stored: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Check that tensors of a checkpoint have the names, shapes and types of this run's.

    Raises:
        TrainingError: names the first difference.
    """
    for name in sorted(stored.keys() | own.keys()):
        if name not in stored:
            raise TrainingError(f"the checkpoint's {kind} lack '{name}', which this model has")
        if name not in own:
            raise TrainingError(f"the checkpoint's {kind} hold '{name}', which this model does not have")
        there, here = stored[name], own[name]
        if there.shape != here.shape or there.dtype != here.dtype:
            raise TrainingError(
                f"the checkpoint's {kind} hold '{name}' as {tuple(there.shape)} {there.dtype}, "
                f"this model has {tuple(here.shape)} {here.dtype}"
            )


def save_bad_batch(directory: Path, batches: Iterable[Any], record: dict[str, Any]) -> None:
    """Write batches that made a run stop, for study: tensors as safetensors, the rest in ``record.json``.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors, plain = {}, {}
    for number, batch in enumerate(batches):
        for name, part in named_parts(batch, f"batch{number}"):
            if isinstance(part, Tensor):
                tensors[name] = part.detach().cpu().contiguous().clone()
            else:
                plain[name] = part
    write_atomically(directory / "batch.safetensors", save(tensors))
    document = json.dumps({**record, "parts": plain}, indent=1, default=str)
    write_atomically(directory / "record.json", (document + "\n").encode())
