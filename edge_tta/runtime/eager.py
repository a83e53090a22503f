"""Opens a model checkpoint for the eager backend, without torch until there is one to open."""

from __future__ import annotations

import os

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, ConfigError, MissingExtraError
from edge_tta.runtime.backend import LoadedModel
from edge_tta.runtime.imports import import_failures


def load_eager(source: Bundle | str | os.PathLike[str] | None, precision: str, threads: int) -> LoadedModel:
    """A model checkpoint on the eager backend.

    Args:
        source: directory of the checkpoint.
        precision: "fp32".
        threads: threads per stage.

    Raises:
        BackendError: another precision, or no checkpoint is given.
        MissingExtraError: torch or safetensors is not installed.
        ConfigError: the checkpoint is incomplete or damaged.
    """
    if precision != "fp32":
        raise BackendError(f"backend eager runs fp32, not {precision}")
    if source is None or isinstance(source, Bundle):
        raise BackendError("backend eager runs a model checkpoint: give its directory in place of a bundle")
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError(f"a checkpoint is a directory, got {type(source).__name__}")
    with import_failures("eager", ("torch", "safetensors"), MissingExtraError("train", "the eager backend")):
        from edge_tta.runtime.eager_backend import load_checkpoint

    return load_checkpoint(source, threads)
