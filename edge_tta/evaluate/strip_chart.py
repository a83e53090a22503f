"""Strip charts as inline SVG: one dot per sound, rows above each other, a limit as a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.evaluate.html import Markup, element

WIDTH, ROW_HEIGHT, AXIS_HEIGHT, SIDE = 480.0, 58.0, 40.0, 14.0
"""Units of the drawing: narrow, so that its letters can be read on a phone."""


@dataclass(frozen=True, eq=False)
class Strip:
    """One row."""

    label: str
    values: npt.NDArray[np.float64]
    """[sounds]."""


@dataclass(frozen=True)
class Limit:
    """A line across the rows it is for."""

    value: float
    rows: tuple[int, ...]
    label: str


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers that span from low to high (steps of 1, 2 or 5 times a power of ten)."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, last + 1)]


def strip_chart(
    title: str,
    strips: Sequence[Strip],
    unit: str,
    *,
    limits: Sequence[Limit] = (),
    from_zero: bool = False,
) -> Markup:
    """A chart that says in words what it shows, for those who do not see it.

    Args:
        title: what is shown.
        strips: rows from top to bottom, each with at least one value.
        unit: of the axis.
        limits: lines to draw.
        from_zero: whether the axis begins at 0.
    """
    shown = np.concatenate([*(strip.values for strip in strips), [limit.value for limit in limits]])
    ticks = nice_ticks(0.0 if from_zero else float(shown.min()), float(shown.max()))
    height = len(strips) * ROW_HEIGHT + AXIS_HEIGHT

    def x(value: float) -> float:
        share = (value - ticks[0]) / (ticks[-1] - ticks[0])
        return SIDE + share * (WIDTH - 2 * SIDE)

    parts: list[Markup] = []
    bottom = height - AXIS_HEIGHT
    for tick in ticks:
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=0.0, y2=bottom, class_="grid"))
        parts.append(element("text", f"{tick:g}".replace("-", "−"), x=x(tick), y=bottom + 17, class_="tick"))
    parts.append(element("text", unit, x=WIDTH - SIDE, y=bottom + 35, class_="unit"))
    for row, strip in enumerate(strips):
        middle = row * ROW_HEIGHT + 38
        parts.append(element("text", strip.label, x=SIDE, y=row * ROW_HEIGHT + 16, class_="row"))
        parts.append(element("path", d=_dots(strip.values, x, middle), class_="dots"))
        median = x(float(np.median(strip.values)))
        parts.append(element("line", x1=median, x2=median, y1=middle - 15, y2=middle + 15, class_="median"))
    for limit in limits:
        place = x(limit.value)
        # Words on the side where there is more room.
        gap, anchor = (5.0, "start") if place < WIDTH / 2 else (-5.0, "end")
        for row in limit.rows:
            top = row * ROW_HEIGHT
            ends = {"y1": top + 20.0, "y2": top + ROW_HEIGHT - 2}
            parts.append(element("line", x1=place, x2=place, class_="limit", **ends))
            parts.append(
                element(
                    "text", limit.label, x=place + gap, y=top + 54, class_="limit-label", text_anchor=anchor
                )
            )
    drawing = element(
        "svg", element("title", title), *parts, viewBox=f"0 0 {WIDTH:g} {height:g}", role="img",
        aria_label=f"{title}. {_in_words(strips, unit)}", class_="chart",
    )  # fmt: skip
    return drawing


def _dots(values: npt.NDArray[np.float64], x: Callable[[float], float], middle: float) -> str:
    """One round dot per value, spread up and down where values are close, as a path of zero-length strokes."""
    order = np.argsort(values, kind="stable")
    pieces = []
    for place, index in enumerate(order):
        # Multiples of the golden ratio: even coverage without a random generator.
        offset = ((place * 0.6180339887) % 1.0 - 0.5) * 20
        pieces.append(f"M{x(float(values[index])):.1f} {middle + offset:.1f}h0")
    return "".join(pieces)


def _in_words(strips: Sequence[Strip], unit: str) -> str:
    rows = [
        f"{strip.label}: median {np.median(strip.values):.3g}, "
        f"from {strip.values.min():.3g} to {strip.values.max():.3g} {unit}".rstrip()
        for strip in strips
    ]
    return "; ".join(rows) + "."
