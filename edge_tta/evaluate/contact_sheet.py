"""Contact sheet: for each label, a real clip above and a generated one below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.spectrogram import Panel, write_sheet


@dataclass(frozen=True)
class SheetEntry:
    """One column of the sheet."""

    label: str
    real: npt.NDArray[np.float32]
    """[frames] at the sheet's rate."""
    generated: npt.NDArray[np.float32]
    """[frames] at the sheet's rate."""


def write_contact_sheet(
    entries: Sequence[SheetEntry],
    path: Path,
    sample_rate: int,
    *,
    columns: int = 5,
    below: str = "generated",
) -> None:
    """Write the sheet as PNG.

    Args:
        entries: labels in the order of the sheet, left to right, top to bottom.
        path: PNG to write.
        sample_rate: Hz of all clips.
        columns: labels side by side.
        below: what the lower panel of a pair is called.

    Raises:
        DataError: there is no entry.
        OutputError: the file cannot be written.
    """
    if not entries:
        raise DataError("a contact sheet needs at least one label")
    rows: list[list[Panel]] = []
    for start in range(0, len(entries), columns):
        chunk = entries[start : start + columns]
        rows.append([Panel(f"{entry.label}: real", entry.real, sample_rate) for entry in chunk])
        rows.append([Panel(f"{entry.label}: {below}", entry.generated, sample_rate) for entry in chunk])
    write_sheet(rows, path)
