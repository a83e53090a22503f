"""One bound for every pool of threads that judging uses: torch's, and those of the libraries under NumPy and SciPy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edge_tta.errors import MissingExtraError


@contextlib.contextmanager
def bounded_threads(count: int) -> Iterator[None]:
    """At most ``count`` threads a pool in the block; afterwards as before. The pools belong to the whole process.

    The matrix libraries under NumPy and SciPy start a thread per core whatever torch is told. Beside other work such
    threads wait for each other, and Fréchet distances take many times as long.

    Raises:
        MissingExtraError: SciPy or threadpoolctl is not installed. Torch may be absent.
    """
    try:
        # SciPy brings a matrix library of its own, and none can be bounded before it is loaded.
        import scipy.linalg  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtraError("eval", "judging with a bound on threads") from error
    with _torch_bounded(count), threadpool_limits(count):
        yield


@contextlib.contextmanager
def _torch_bounded(count: int) -> Iterator[None]:
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
