"""A folder for the temporary files of tools that leave theirs behind when they are stopped."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Temporary files of this process go to a folder that is removed at the end, however the block ends."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="edge-tta-export-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
