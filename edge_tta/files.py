"""Files that appear whole or not at all, and the folders they go to."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import BinaryIO

from edge_tta.errors import OutputError


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there is fine.

    Raises:
        OutputError: one line with path and reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror or error})") from error


def write_file(path: Path, data: bytes) -> None:
    """Write bytes to a temporary sibling, flush to disk and rename over ``path``.

    A symbolic link is followed: its target is replaced, the link stays.

    Raises:
        OutputError: one line with path and reason.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise OutputError(f"cannot write {path}: it is a directory")
        # Renaming over a device or fifo would put a plain file in its place.
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {path}: it is not a regular file")
        # Short enough for the longest legal name, different for every thread that writes.
        part = target.with_name(f".{target.name[:40]}.tmp-{os.getpid()}-{threading.get_ident()}")
        try:
            with part.open("wb") as stream:
                _write_all(stream, data)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        sync_directory(target.parent)
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.ENOENT: f"the directory {path.parent} does not exist",
            errno.ENOTDIR: f"{path.parent} is not a directory",
            errno.EACCES: "permission denied",
            errno.EROFS: "the file system is read-only",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write {path}: {reason}") from error
    except ValueError as error:
        raise OutputError(f"cannot write {str(path)!r}: not a possible file name ({error})") from error


def _write_all(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())


def sync_directory(directory: Path) -> None:
    """Ask for a directory's entries to be on disk; systems that cannot do it for directories are let be."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
