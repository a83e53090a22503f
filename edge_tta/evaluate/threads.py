"""One bound for every pool of threads that judging uses: torch's, and those of the libraries under NumPy and SciPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from edge_tta.errors import MissingExtraError


@contextlib.contextmanager
def bounded_threads(count: int) -> Iterator[None]:
    """At most ``count`` threads a pool in the block; afterwards as before. The pools belong to the whole process.

    The matrix libraries under NumPy start a thread per core whatever torch is told. Beside other work such threads wait
    for each other, and Fréchet distances take many times as long.

    Raises:
        MissingExtraError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("eval", "judging with a bound on threads") from error
    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
