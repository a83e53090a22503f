"""What the verbs print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str) -> None:
    """A line of result for people."""
    # A file name or prompt may hold what the terminal's encoding cannot show; that must not end the run.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result: progress, warnings, errors."""
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stderr.flush()


def say_json(document: dict[str, Any], *, to_stderr: bool = False) -> None:
    """A result for programs: one JSON object on one line, ASCII."""
    (note if to_stderr else say)(json.dumps(document, allow_nan=False))


def mebibytes(count: int) -> str:
    """Bytes as MiB with one decimal."""
    return f"{count / 2**20:.1f} MiB"
