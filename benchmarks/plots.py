"""Line charts as PNG with Pillow: panels side by side, a legend below, the same bytes for the same data."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.files import write_file

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Told apart by colour-blind readers and in print: hue, lightness and the shape of the marks all change.
COLOURS = (
    (38, 70, 140), (200, 80, 30), (30, 130, 90), (150, 50, 130), (90, 90, 90), (190, 140, 0), (20, 140, 180),
    (180, 40, 60),
)  # fmt: skip
_SHAPES = ("circle", "square", "triangle")
_PANEL_WIDTH, _PANEL_HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM, _LINE_HEIGHT = 52, 10, 22, 34, 14
_FINE = 3
"""Lines are drawn this much larger and reduced, which smooths them."""
_GREY, _LIGHT = (60, 60, 60), (225, 225, 225)


@dataclass(frozen=True)
class Series:
    """One line."""

    name: str
    points: tuple[tuple[float, float], ...]
    intervals: tuple[tuple[float, float], ...]
    """Low and high end at every point, or nothing."""


@dataclass(frozen=True)
class Chart:
    """One panel."""

    title: str
    across: str
    """What runs from left to right."""
    series: tuple[Series, ...]
    ticks: tuple[tuple[float, str], ...]
    """Marks from left to right; found if there are none."""
    logarithmic: bool
    """Upward; values that are not above 0 are left out."""
    marks: float
    """Size of the marks at points; 0 for none."""
    from_zero: bool = False
    """Begin upward at 0, so that heights may be compared as lengths; not with ``logarithmic``."""


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return (self._scaled(value) - self._scaled(self.low)) / (
            self._scaled(self.high) - self._scaled(self.low)
        )

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def ticks(self) -> list[float]:
        """About five round values inside."""
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            decades = math.log10(self.high / self.low)
            fine = (1, 1.5, 2, 3, 4, 6, 8) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
            values = [digit * 10.0**power for power in range(first, last + 1) for digit in fine]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
            values = [
                step * number
                for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
            ]
        return [value for value in values if self.low <= value <= self.high]


def _axis(values: Sequence[float], logarithmic: bool, from_zero: bool = False) -> _Axis:
    low, high = min(values), max(values)
    if logarithmic:
        return _Axis(low / 1.1, high * 1.1, True)
    if from_zero and high > 0:
        return _Axis(0.0, 1.05 * high, False)
    margin = 0.05 * (high - low) or max(abs(high) * 0.1, 1e-6)
    return _Axis(low - margin, high + margin, False)


def draw_charts(charts: Sequence[Chart], columns: int = 2) -> Image.Image:
    """A picture with one panel per chart; one legend where all have the same lines, else one in every panel.

    Raises:
        DataError: there is no chart.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("eval", "drawing charts") from error
    if not charts:
        raise DataError("a picture needs at least one chart")
    names = {tuple(series.name for series in chart.series) for chart in charts}
    common = len(names) == 1 and len(charts) > 1
    longest = max(map(len, names))
    legend = _LINE_HEIGHT * (-(-longest // columns) if common else longest) + 6
    rows = -(-len(charts) // columns)
    cell_height = _PANEL_HEIGHT + (0 if common else legend)
    size = columns * _PANEL_WIDTH, rows * cell_height + (legend if common else 0)
    lines = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    pen = ImageDraw.Draw(lines)
    corners = [
        (number % columns * _PANEL_WIDTH, number // columns * cell_height) for number in range(len(charts))
    ]
    frames = [_draw_lines(pen, chart, corner) for chart, corner in zip(charts, corners, strict=True)]
    keys = _legend_places(charts, corners, rows * cell_height if common else None, columns)
    for (left, top), number, _ in keys:
        _stroke(pen, [(left, top + 5), (left + 22, top + 5)], number)
        _mark(pen, (left + 11, top + 5), number, 1.0)
    picture = lines.resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for chart, corner, frame in zip(charts, corners, frames, strict=True):
        _draw_text(draw, chart, corner, frame)
    for (left, top), _, name in keys:
        draw.text((left + 28, top), fit(draw, name, _PANEL_WIDTH - 50), fill="black")
    return picture


def write_charts(charts: Sequence[Chart], path: Path, columns: int = 2) -> None:
    """Write :func:`draw_charts` as a PNG that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    stream = io.BytesIO()
    draw_charts(charts, columns).save(stream, format="PNG", optimize=True)
    write_file(path, stream.getvalue())


_Frame = tuple[_Axis, _Axis]
_Point = tuple[float, float]


def _draw_lines(pen: ImageDraw.ImageDraw, chart: Chart, corner: tuple[int, int]) -> _Frame | None:
    """Grid and lines of a panel; None where there is nothing to draw."""
    allowed = 0.0 if chart.logarithmic else -math.inf
    ends = [
        end
        for series in chart.series
        for end in (*(value for _, value in series.points), *(e for pair in series.intervals for e in pair))
        if end > allowed
    ]
    if not ends:
        return None
    places = [place for series in chart.series for place, _ in series.points] + [x for x, _ in chart.ticks]
    frame = _axis(places, False), _axis(ends, chart.logarithmic, chart.from_zero)
    for value in frame[1].ticks():
        _stroke(pen, [_point(corner, frame, x, value) for x in (frame[0].low, frame[0].high)], None)
    for number, series in enumerate(chart.series):
        shown = [(x, y) for x, y in series.points if y > allowed]
        _stroke(pen, [_point(corner, frame, x, y) for x, y in shown], number)
        for (x, _), (low, high) in zip(series.points, series.intervals, strict=False):
            ends_shown = [max(low, frame[1].low), high]
            if high > allowed:
                _stroke(pen, [_point(corner, frame, x, end) for end in ends_shown], number, 1)
        for x, y in shown if chart.marks else ():
            _mark(pen, _point(corner, frame, x, y), number, chart.marks)
    return frame


def _draw_text(
    draw: ImageDraw.ImageDraw, chart: Chart, corner: tuple[int, int], frame: _Frame | None
) -> None:
    """Title, axis and its numbers."""
    left, top = corner
    draw.text((left + _LEFT, top + 4), fit(draw, chart.title, _PANEL_WIDTH - _LEFT - _RIGHT), fill="black")
    box = left + _LEFT, top + _TOP, left + _PANEL_WIDTH - _RIGHT, top + _PANEL_HEIGHT - _BOTTOM
    draw.line([(box[0], box[1]), (box[0], box[3]), (box[2], box[3])], fill=_GREY)
    if frame is None:
        draw.text((box[0] + 8, box[1] + 8), "not measured", fill=_GREY)
        return
    for value in frame[1].ticks():
        text = f"{value:.6g}"
        _, y = _point(corner, frame, frame[0].low, value)
        draw.text((box[0] - 5 - draw.textlength(text), y - 6), text, fill=_GREY)
    for x, text in chart.ticks or [(value, f"{value:.6g}") for value in frame[0].ticks()]:
        place, _ = _point(corner, frame, x, frame[1].low)
        draw.text((place - draw.textlength(text) / 2, box[3] + 3), text, fill=_GREY)
    draw.text((box[2] - draw.textlength(chart.across), box[3] + 16), chart.across, fill=_GREY)


def _legend_places(
    charts: Sequence[Chart], corners: Sequence[tuple[int, int]], common: int | None, columns: int
) -> list[tuple[tuple[int, int], int, str]]:
    """Corner, number and name of every line of the legends; ``common`` is the top of the one for all."""
    if common is not None:
        names = [series.name for series in charts[0].series]
        return [
            ((10 + number % columns * _PANEL_WIDTH, common + number // columns * _LINE_HEIGHT), number, name)
            for number, name in enumerate(names)
        ]
    return [
        ((left + _LEFT, top + _PANEL_HEIGHT + number * _LINE_HEIGHT), number, series.name)
        for chart, (left, top) in zip(charts, corners, strict=True)
        for number, series in enumerate(chart.series)
    ]


def _point(corner: tuple[int, int], frame: _Frame, x: float, y: float) -> _Point:
    """Pixel of a value."""
    width, height = _PANEL_WIDTH - _LEFT - _RIGHT, _PANEL_HEIGHT - _TOP - _BOTTOM
    return (
        corner[0] + _LEFT + width * frame[0].place(x),
        corner[1] + _TOP + height * (1 - frame[1].place(y)),
    )


def _stroke(pen: ImageDraw.ImageDraw, points: Sequence[_Point], number: int | None, width: int = 2) -> None:
    """A line through pixels; without a number one of the grid."""
    colour = _LIGHT if number is None else COLOURS[number % len(COLOURS)]
    if len(points) > 1:
        fine = [(x * _FINE, y * _FINE) for x, y in points]
        pen.line(fine, fill=colour, width=_FINE if number is None else width * _FINE, joint="curve")


def _mark(pen: ImageDraw.ImageDraw, point: _Point, number: int, size: float) -> None:
    x, y, r = point[0] * _FINE, point[1] * _FINE, 4 * size * _FINE
    colour, shape = COLOURS[number % len(COLOURS)], _SHAPES[number // len(COLOURS) % len(_SHAPES)]
    if shape == "circle":
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    elif shape == "square":
        pen.rectangle([x - r, y - r, x + r, y + r], fill=colour)
    else:
        pen.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill=colour)


def fit(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """Text cut to a width, without the accents that Pillow's own font lacks."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    while len(text) > 1 and draw.textlength(text) > width:
        text = text.rstrip(".")[:-1].rstrip() + "..."
    return text
