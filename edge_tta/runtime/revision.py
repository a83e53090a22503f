"""Which commit of this code runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """Commit of the repository this file is tracked in, with "-dirty" where files differ from it.

    None for an installed copy, also where it lies inside some other repository.
    """
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
