"""Whatever a backend raises or makes that is no use becomes one line that names backend and stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import BackendError, EdgeTTAError
from edge_tta.runtime.backend import Backend
from edge_tta.runtime.request import StageName

_OUT_OF_MEMORY = ("bad_alloc", "bfc_arena")
"""How C++ says it, and the arena of ONNX Runtime, whose only failure it is."""


@contextmanager
def stage_failures(backend: Backend, stage: StageName) -> Iterator[None]:
    """Run one stage in a block.

    Raises:
        BackendError: the stage raised something that is no error of this package's own.
    """
    try:
        yield
    except EdgeTTAError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise BackendError(f"{backend.name}: {stage} needs more memory than there is") from error
        raise BackendError(f"{backend.name}: {stage} failed: {first_line(error)}") from error


def check_finite(values: NDArray[np.float32], backend: Backend, stage: StageName) -> None:
    """Refuse what a stage made, of any shape, if it holds NaN or infinite values.

    Raises:
        BackendError: it does.
    """
    if not np.isfinite(values).all():
        raise BackendError(f"{backend.name}: {stage} made values that are not finite")


def first_line(error: BaseException) -> str:
    """First line of an exception's message, cut to 300 characters; its type where there is none."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
