"""What a native library writes to standard error while it loads, kept from the terminal and at hand for messages."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import TextIO

# Two threads that redirect in turn would give each other's temporary file back as the terminal.
_REDIRECTED = threading.RLock()
_LINE = re.compile(rb"^\[[\w.]+\.(?:cpp|h|c):\d+\] (.*)$")
"""How ExecuTorch begins its lines: "[file.cpp:123] "."""


@contextlib.contextmanager
def native_log(*loggers: str) -> Iterator[list[str]]:
    """Keep ExecuTorch's lines from standard error while a block runs; lines of others are written after it.

    Standard error belongs to the whole process, so this is for the moments of importing and loading only; one thread
    waits for the block of another.

    Args:
        loggers: names of loggers that report errors alone meanwhile.

    Yields:
        The lines without their places in the source; filled when the block ends.
    """
    lines: list[str] = []
    named = [logging.getLogger(name) for name in loggers]
    with _REDIRECTED, tempfile.TemporaryFile() as file:
        levels = [logger.level for logger in named]
        terminal = sys.stderr
        for logger in named:
            logger.setLevel(logging.ERROR)
        # The library writes to the descriptor, its Python binding to the object.
        saved = _redirect(file.fileno())
        sys.stderr = io.TextIOWrapper(
            io.FileIO(os.dup(file.fileno()), "w"), encoding="utf-8", errors="replace", write_through=True
        )
        try:
            with _without_new_handlers(sys.stderr, terminal):
                yield lines
        finally:
            written, sys.stderr = sys.stderr, terminal
            written.close()
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
            for logger, level in zip(named, levels, strict=True):
                logger.setLevel(level)
            file.seek(0)
            for line in file.read().splitlines():
                found = _LINE.match(line)
                if found is not None:
                    lines.append(found[1].decode("utf-8", "replace"))
                elif terminal is not None:
                    terminal.write(line.decode("utf-8", "replace") + "\n")


@contextlib.contextmanager
def _without_new_handlers(stand_in: TextIO, terminal: TextIO | None) -> Iterator[None]:
    """Take out the root logger's handlers that a block adds; other threads keep theirs, on the terminal.

    A package that configures logging when it is imported would keep the application from doing so.
    """
    root, thread = logging.root, threading.get_ident()
    add, added = root.addHandler, list[logging.Handler]()
    before = list(root.handlers)

    def add_and_remember(handler: logging.Handler) -> None:
        if threading.get_ident() == thread:
            added.append(handler)
        add(handler)

    own = vars(root)
    outer = own.get("addHandler")
    own["addHandler"] = add_and_remember
    try:
        yield
    finally:
        if outer is None:
            del own["addHandler"]
        else:
            own["addHandler"] = outer
        for handler in added:
            if handler not in before:
                root.removeHandler(handler)
        for handler in root.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is stand_in:
                handler.setStream(terminal)


def _redirect(target: int) -> int | None:
    """Point standard error at a file; what it was, or None where there is none."""
    try:
        saved = os.dup(2)
    except OSError:
        return None
    os.dup2(target, 2)
    return saved
