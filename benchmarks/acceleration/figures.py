"""What the figures of the study are called, which way is better, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.acceleration.plan import FigureName
from benchmarks.acceleration.verdicts import TIME, Pooled

NOTHING = "–"
"""In cells of what was not measured."""


def in_steps(count: int) -> str:
    """A number of steps in words."""
    return f"{count} step{'s' if count > 1 else ''}"


@dataclass(frozen=True)
class Kind:
    """How a figure is called and written."""

    name: FigureName
    title: str
    better: str
    """Which way is better, in words."""
    factor: float = 1.0
    digits: int = 2

    def show(self, figure: Pooled | None) -> str:
        """Value with its interval."""
        if figure is None:
            return NOTHING
        value, low, high = (
            f"{self.factor * number:.{self.digits}f}" for number in (figure.value, figure.low, figure.high)
        )
        # A single time has no quartiles.
        return value if self.name == TIME and figure.low == figure.high else f"{value} ({low} to {high})"

    def pair(self, first: Pooled, second: Pooled) -> str:
        """Two intervals side by side."""
        one, other = (
            f"{self.factor * side.low:.{self.digits}f} to {self.factor * side.high:.{self.digits}f}"
            for side in (first, second)
        )
        return f"{one} against {other}"


TIMED = (
    "one clip at a time, sampling and decoding; median of all clips timed, with any seed, in brackets the quartiles; "
    "of older records, of their means"
)
KINDS = (
    Kind("frechet", "Fréchet distance", "lower is better"),
    Kind("frechet_limit", "Fréchet distance, unlimited clips", "lower is better"),
    Kind("kl", "KL of labels, reference to clip, nats", "lower is better"),
    Kind("top1", "Label ranked first, %", "higher is better", 100.0, 1),
    Kind("top5", "Label among five, %", "higher is better", 100.0, 1),
    Kind("text_score", "Text score", "higher is better", digits=3),
    Kind("ccds", "Conditional diversity (CCDS)", "read beside the text score: noise differs most", digits=3),
    Kind("seconds_per_clip", "Time per clip, ms", TIMED, 1000.0, 1),
)
STRAIGHTNESS = Kind("straightness", "S(z)", "lower is straighter", digits=4)
BY_NAME = {kind.name: kind for kind in (*KINDS, STRAIGHTNESS)}
PLOTTED: tuple[FigureName, ...] = ("frechet", "kl", "top5", "text_score")
