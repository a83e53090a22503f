"""What the verbs print: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from edge_tta.errors import OutputError


def say(text: str) -> None:
    """A line of result for people.

    Raises:
        OutputError: there is no standard output, or it takes no more.
    """
    # A file name or prompt may hold what the terminal's encoding cannot show; that must not end the run.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    _write(lambda out: out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n"))


def say_bytes(data: bytes) -> None:
    """A result that is no text.

    Raises:
        OutputError: as ``say``.
    """
    _write(lambda out: out.buffer.write(data))


def lost_output(error: OSError) -> OutputError:
    """What to raise when standard output takes no more; what is still buffered for it is given up."""
    # It cannot be written later either; Python would complain again when it exits.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OutputError(f"cannot write to standard output: {error.strerror or error}")


def _write(write: Callable[[Any], object]) -> None:
    if sys.stdout is None:
        raise OutputError("cannot write to standard output: there is none")
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        raise lost_output(error) from error


def note(text: str) -> None:
    """A line beside the result: progress, warnings, errors. Nobody can be told that it was not written."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()


def say_json(document: dict[str, Any], *, to_stderr: bool = False) -> None:
    """A result for programs: one JSON object on one line, ASCII."""
    (note if to_stderr else say)(json.dumps(document, allow_nan=False))


def mebibytes(count: int) -> str:
    """Bytes as MiB with one decimal."""
    return f"{count / 2**20:.1f} MiB"
