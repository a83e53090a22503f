"""Running programs and keeping what a step made, so that a second run starts where the first ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arm.errors import EmulationError

STAMP = ".made-from.json"
"""File beside what a step made that holds what it was made from."""

Tell = Callable[[str], None]


def call(
    command: Sequence[str | Path],
    what: str,
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 3600.0,
    accepted: Collection[int] = (0,),
) -> str:
    """Standard output of a program.

    Args:
        command: program and arguments.
        what: what is being done, for the message ("fetching packages").
        cwd: folder it runs in.
        environment: variables beside those of this process.
        timeout: longest time it may take, s.
        accepted: exit codes that are no failure.

    Raises:
        EmulationError: the program is missing, fails or takes too long; ends with its last words.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise EmulationError(f"{what}: there is no program {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise EmulationError(f"{what}: took longer than {timeout:.0f} s") from None
    if done.returncode not in accepted:
        raise EmulationError(f"{what} failed ({ended(done.returncode)}): {last_words(done.stderr)}")
    return done.stdout


def ended(code: int) -> str:
    """How a program ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def last_words(text: str) -> str:
    """Last three lines that are not empty, joined; at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-300:] or "it said nothing"


def once(folder: Path, made_from: Mapping[str, Any], fill: Callable[[Path], None]) -> Path:
    """``folder``, filled by ``fill`` unless it already holds what the same inputs made.

    It is filled under another name and renamed when complete: what is killed half-way leaves nothing behind that a
    later run would take for finished.

    Raises:
        EmulationError: from ``fill``.
    """
    wanted = json.dumps(made_from, sort_keys=True)
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return folder
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        (part / STAMP).write_text(wanted, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
