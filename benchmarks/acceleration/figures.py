"""What the figures of the study are called, which way is better, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.acceleration.plan import FigureName
from benchmarks.acceleration.verdicts import Pooled


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
            return "–"
        value, low, high = (
            f"{self.factor * number:.{self.digits}f}" for number in (figure.value, figure.low, figure.high)
        )
        return f"{value} ({low} to {high})"

    def pair(self, first: Pooled, second: Pooled) -> str:
        """Two intervals side by side."""
        one, other = (
            f"{self.factor * side.low:.{self.digits}f} to {self.factor * side.high:.{self.digits}f}"
            for side in (first, second)
        )
        return f"{one} against {other}"


KINDS = (
    Kind("frechet", "Fréchet distance", "lower is better"),
    Kind("frechet_limit", "Fréchet distance, unlimited clips", "lower is better"),
    Kind("kl", "KL of labels, reference to clip, nats", "lower is better"),
    Kind("top1", "Label ranked first, %", "higher is better", 100.0, 1),
    Kind("top5", "Label among five, %", "higher is better", 100.0, 1),
    Kind("text_score", "Text score", "higher is better", digits=3),
    Kind("ccds", "Conditional diversity (CCDS)", "read beside the text score: noise differs most", digits=3),
    Kind("seconds_per_clip", "Time per clip, ms", "one clip at a time, sampling and decoding", 1000.0, 1),
)
STRAIGHTNESS = Kind("straightness", "S(z)", "lower is straighter", digits=4)
BY_NAME = {kind.name: kind for kind in (*KINDS, STRAIGHTNESS)}
PLOTTED: tuple[FigureName, ...] = ("frechet", "kl", "top5", "text_score")
