"""Horizontal bars as a PNG: one bar a row, rows in groups with a heading, and a line for a limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.files import write_file

if TYPE_CHECKING:
    from PIL import Image

_ROW, _HEADING, _AXIS, _MARGIN, _GAP = 15, 30, 26, 12, 8
_INK, _GRID, _LIMIT = (30, 30, 30), (222, 222, 222), (190, 40, 40)
_PLAIN, _MARKED = (60, 110, 170), (225, 150, 60)


@dataclass(frozen=True)
class Bar:
    """One row."""

    label: str
    value: float
    marked: bool = False
    """Drawn in the second colour."""


@dataclass(frozen=True)
class BarGroup:
    """Rows below a heading."""

    heading: str
    bars: tuple[Bar, ...]


def draw_bars(
    groups: Sequence[BarGroup], unit: str, limit: float | None = None, *, width: int = 900
) -> Image.Image:
    """Bars from zero; values below zero have none, but their number is written.

    Args:
        groups: from top to bottom.
        unit: of the values, written at the axis.
        limit: where a line is drawn across all rows.
        width: of the picture in pixels.

    Raises:
        DataError: there is no bar.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("eval", "drawing charts") from error
    bars = [bar for group in groups for bar in group.bars]
    if not bars:
        raise DataError("a bar chart needs at least one bar")
    height = 2 * _MARGIN + _AXIS + sum(_HEADING + _ROW * len(group.bars) for group in groups)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    left = _MARGIN + _GAP + max(draw.textlength(bar.label) for bar in bars)
    right = width - _MARGIN - max(draw.textlength(f"{bar.value:.1f}") for bar in bars) - _GAP
    highest = max([bar.value for bar in bars] + [limit or 0.0, 1e-9])
    step = next(size for size in (1, 2, 5, 10, 20, 25, 50, 100, 10**9) if highest / size <= 8)

    def place(value: float) -> float:
        return left + (right - left) * max(0.0, value) / highest

    bottom = height - _MARGIN - _AXIS
    for tick in range(0, int(highest) + 1, step):
        draw.line([(place(tick), _MARGIN), (place(tick), bottom)], fill=_GRID)
        draw.text((place(tick) - draw.textlength(str(tick)) / 2, bottom + 4), str(tick), fill=_INK)
    draw.text((right + _GAP, bottom + 4), unit, fill=_INK)
    top = float(_MARGIN)
    for group in groups:
        draw.text((_MARGIN, top + _HEADING - 18), group.heading, fill=_INK)
        top += _HEADING
        for bar in group.bars:
            draw.text((left - _GAP - draw.textlength(bar.label), top + 1), bar.label, fill=_INK)
            colour = _MARKED if bar.marked else _PLAIN
            if bar.value > 0:
                draw.rectangle([(left, top + 2), (place(bar.value), top + _ROW - 3)], fill=colour)
            draw.text(
                (place(bar.value) + 4, top + 1), f"{bar.value:.1f}", fill=colour if bar.marked else _INK
            )
            top += _ROW
    if limit is not None:
        draw.line([(place(limit), _MARGIN), (place(limit), bottom)], fill=_LIMIT, width=2)
    return picture


def write_bars(groups: Sequence[BarGroup], path: Path, unit: str, limit: float | None = None) -> None:
    """Write :func:`draw_bars` as a PNG that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    stream = io.BytesIO()
    draw_bars(groups, unit, limit).save(stream, format="PNG", optimize=True)
    write_file(path, stream.getvalue())
