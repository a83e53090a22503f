"""Shares as stacked bars, a PNG with Pillow: the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.plots import COLOURS, fit
from edge_tta.errors import DataError, MissingExtraError
from edge_tta.files import write_file

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_WIDTH, _LEFT, _RIGHT, _TOP = 800, 230, 110, 44
_ROW, _THICKNESS = 26, 18
_SMALLEST_LABEL = 0.06
"""Shares below this have no room for their number."""


@dataclass(frozen=True)
class Bar:
    """One row."""

    name: str
    parts: tuple[float, ...]
    """What is shared, in the order of the legend; at least 0, not all 0."""
    label: str
    """Beside the row: what the whole is."""


def draw_bars(title: str, names: Sequence[str], bars: Sequence[Bar]) -> Image.Image:
    """A picture of rows of equal length, each divided by its parts.

    Raises:
        DataError: no row, or one whose parts are not those of the legend or share nothing.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("eval", "drawing charts") from error
    if not bars:
        raise DataError("a picture needs at least one bar")
    for bar in bars:
        if len(bar.parts) != len(names) or min(bar.parts) < 0 or sum(bar.parts) <= 0:
            raise DataError(f"bar '{bar.name}' cannot be divided into {', '.join(names)}")
    picture = Image.new("RGB", (_WIDTH, _TOP + _ROW * len(bars) + 6), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((8, 4), fit(draw, title, _WIDTH - 16), fill="black")
    _draw_legend(draw, names)
    for row, bar in enumerate(bars):
        _draw_bar(draw, bar, _TOP + row * _ROW)
    return picture


def write_bars(title: str, names: Sequence[str], bars: Sequence[Bar], path: Path) -> None:
    """Write :func:`draw_bars` as a PNG that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    stream = io.BytesIO()
    draw_bars(title, names, bars).save(stream, format="PNG", optimize=True)
    write_file(path, stream.getvalue())


def _draw_legend(draw: ImageDraw.ImageDraw, names: Sequence[str]) -> None:
    left = float(_LEFT)
    for number, name in enumerate(names):
        draw.rectangle((left, 25, left + 11, 36), fill=COLOURS[number % len(COLOURS)])
        draw.text((left + 16, 24), name, fill="black")
        left += 34 + draw.textlength(name)


def _draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, top: int) -> None:
    name = fit(draw, bar.name, _LEFT - 16)
    draw.text((_LEFT - 8 - draw.textlength(name), top + 3), name, fill="black")
    full, whole, before = _WIDTH - _LEFT - _RIGHT, sum(bar.parts), 0.0
    for number, part in enumerate(bar.parts):
        ends = [_LEFT + full * value / whole for value in (before, before + part)]
        before += part
        # A box at least one pixel wide would show what is not there.
        if round(ends[1]) <= round(ends[0]):
            continue
        draw.rectangle(
            (round(ends[0]), top, round(ends[1]) - 1, top + _THICKNESS), fill=COLOURS[number % len(COLOURS)]
        )
        if part / whole >= _SMALLEST_LABEL:
            text = f"{100 * part / whole:.0f} %"
            draw.text((sum(ends) / 2 - draw.textlength(text) / 2, top + 3), text, fill="white")
    draw.text((_LEFT + full + 8, top + 3), fit(draw, bar.label, _RIGHT - 12), fill="black")
