"""Reading one file of a bundle without leaving the bundle: no links, no fifos, no more bytes than were announced."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from pathlib import Path

from edge_tta.bundle.canonical import one_line
from edge_tta.errors import BundleError

_CAN_WALK = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether the system opens files relative to an open directory and refuses links while doing so (not Windows)."""
_REPARSE_POINT = 0x400


def read_regular_file(root: Path, name: str, limit: int, size: int | None = None) -> bytes:
    """Bytes of a file below ``root``, without following links at any level below it.

    Args:
        root: directory of the bundle; may itself be reached through links, it is the caller's choice.
        name: relative path with forward slashes, already checked by the manifest.
        limit: largest acceptable size in bytes.
        size: exact size if it is known.

    Raises:
        BundleError: missing, not a regular file, a link, of another size, or changing while it is read.
    """
    handle = -1
    try:
        handle = _walk(root, name.split("/")) if _CAN_WALK else _check_then_open(root, name.split("/"))
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{name}: not a regular file")
        # Compared before anything is read, so that a manifest cannot make us reserve memory for what is not there.
        if size is not None and status.st_size != size:
            raise BundleError(f"{name}: {status.st_size} bytes, the manifest says {size}")
        if status.st_size > limit:
            raise BundleError(f"{name}: {status.st_size} bytes, at most {limit} are allowed")
        with os.fdopen(handle, "rb") as stream:
            handle = -1
            data = stream.read(status.st_size + 1)
    except OSError as error:
        reason = {
            errno.ENOENT: "file is missing",
            errno.ELOOP: "symbolic links are not allowed",
            errno.ENOTDIR: "a part of the path is a link or no directory",
            errno.EISDIR: "not a regular file",
            errno.ENXIO: "not a regular file",
        }.get(error.errno or 0, error.strerror or str(error))
        raise BundleError(f"{name}: {reason}") from None
    except ValueError as error:
        raise BundleError(f"{name}: not a possible file name ({error})") from None
    finally:
        if handle >= 0:
            os.close(handle)
    if len(data) != status.st_size:
        raise BundleError(f"{name}: changed its size while it was read")
    return data


def check_directory(root: Path, name: str, expected: Collection[str]) -> None:
    """Refuse a directory that holds anything but the expected files.

    Args:
        root: directory of the bundle.
        name: relative path of the directory, with forward slashes.
        expected: relative paths of all files it may hold, from ``root``.

    Raises:
        BundleError: names the first entry that does not belong: another file, a link, a directory without files.
    """
    directories = {
        "/".join(path.split("/")[:depth]) for path in expected for depth in range(1, path.count("/") + 1)
    }
    waiting = [name]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(root / directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise BundleError(f"{directory}: {error.strerror or error}") from None
        for entry in found:
            path = f"{directory}/{entry.name}"
            if entry.is_symlink():
                raise BundleError(one_line(f"{path}: symbolic links are not allowed"))
            is_directory = entry.is_dir(follow_symlinks=False)
            if path not in (directories if is_directory else expected):
                raise BundleError(one_line(f"{path}: the manifest does not name it"))
            if is_directory:
                waiting.append(path)


def _walk(root: Path, parts: list[str]) -> int:
    """Open a file directory by directory; nothing can be swapped for a link in between."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = below
        # Non-blocking, so that a fifo in the place of a file cannot hang the caller.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    finally:
        os.close(directory)


def _check_then_open(root: Path, parts: list[str]) -> int:
    """For systems that cannot walk: look at every part, open, and make sure that what was opened is what was seen."""
    path = root
    for part in parts:
        path = path / part
        seen = os.lstat(path)
        if stat.S_ISLNK(seen.st_mode) or getattr(seen, "st_file_attributes", 0) & _REPARSE_POINT:
            raise OSError(errno.ELOOP, "a link", str(path))
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.ENXIO, "no regular file", str(path))
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    opened = os.fstat(handle)
    if (opened.st_dev, opened.st_ino) != (seen.st_dev, seen.st_ino):
        os.close(handle)
        raise OSError("was swapped while it was opened")
    return handle
