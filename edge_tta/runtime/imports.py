"""Importing a backend's package: what is absent, what is broken and what was interrupted are told apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_tta.errors import BackendError, EdgeTTAError, interrupt_behind
from edge_tta.runtime.failures import first_line


@contextmanager
def import_failures(backend: str, packages: tuple[str, ...], absent: EdgeTTAError) -> Iterator[None]:
    """Import a backend's package in a block.

    Args:
        backend: name for messages.
        packages: top-level packages that the block imports and that may be absent; the first one is named when the
            import fails for another reason.
        absent: error to raise when one of ``packages`` is not installed.

    Raises:
        EdgeTTAError: ``absent``.
        BackendError: the package is there and cannot be imported; ends with the first line of the cause.
        BaseException: an interrupt that arrived inside the import and that the package hid behind an error of its own.
    """
    handled = sys.exception()
    try:
        yield
    except EdgeTTAError:
        raise
    except Exception as error:
        if (interrupt := interrupt_behind(error, handled)) is not None:
            raise interrupt from None
        if isinstance(error, ModuleNotFoundError) and error.name in packages:
            raise absent from error
        raise BackendError(f"{backend}: {packages[0]} cannot be imported: {first_line(error)}") from error
