"""The run's own record, one JSON object a line, which stays one line a step however often the run is resumed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edge_tta.model.checkpoint import write_atomically

logger = logging.getLogger(__name__)


class RunLog:
    """Appends records to a file; a full disk is a warning, not the end of the run.

    Args:
        path: ``log.jsonl`` of the run; made if missing.
        step: step the run goes on from; records of later steps, which are done again, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self._failed = False
        try:
            old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            kept = [line for line in old if _step_of(line) <= step]
            if kept != old:
                write_atomically(path, "".join(f"{line}\n" for line in kept).encode())
        except OSError as error:
            self._warn(error)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record."""
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
            self._failed = False
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._failed:
            logger.warning("%s cannot be written (%s); training goes on", self.path, error)
        self._failed = True


def _step_of(line: str) -> float:
    """Step of a record; a line cut short by a kill belongs to no step and is dropped."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
    return float(step) if isinstance(step, int) else float("inf")
