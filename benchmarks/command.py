"""What the commands of this package that write documents share: one line an error, one line a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_tta.errors import EdgeTTAError


def run(name: str, write: Callable[[], Iterable[Path]]) -> int:
    """Write documents and print their paths; every expected failure is one line and an exit code.

    Args:
        name: of the command, which begins an error's line.
        write: does the work and returns what it wrote.

    Returns:
        Exit code.
    """
    try:
        for path in write():
            print(path)
    except EdgeTTAError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    return 0
