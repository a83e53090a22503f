"""Work in a fresh process: a job goes in as JSON, the answer or what went wrong comes back as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from edge_tta import errors
from edge_tta.config import from_dict
from edge_tta.errors import BackendError, EdgeTTAError

Answer = TypeVar("Answer")
Job = TypeVar("Job")


def ask(module: str, job: Any, kind: type[Answer], what: str) -> Answer:
    """Give a job to ``python -m module`` and wait.

    Args:
        module: one whose main program ends in ``answer``.
        job: dataclass.
        kind: dataclass of the answer.
        what: what is done, for messages.

    Raises:
        BackendError: the process died.
        EdgeTTAError: whatever the job raised there.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        reason = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
        raise BackendError(f"{what}: the process died: {reason}") from None
    if "error" in found:
        raise _raised(found)
    return from_dict(kind, found)


def answer(kind: type[Job], work: Callable[[Job], Any]) -> int:
    """Do the job on standard input; the last line of standard output is the answer.

    Returns:
        Exit code.
    """
    try:
        found, code = asdict(work(from_dict(kind, json.load(sys.stdin)))), 0
    except EdgeTTAError as error:
        found, code = {"error": type(error).__name__, "message": str(error)}, error.exit_code
    sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    return code


def _raised(found: dict[str, Any]) -> EdgeTTAError:
    """The exception that another process told."""
    kind = getattr(errors, str(found["error"]), EdgeTTAError)
    # Some kinds compose their message; this one is composed already.
    error: EdgeTTAError = kind.__new__(kind)
    Exception.__init__(error, found["message"])
    return error
