"""Guards that end a run before it spoils itself: non-finite steps in a row, gradients or losses that run away.

Their state is plain values, so that a resumed run judges exactly as the unbroken one would have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from edge_tta.errors import TrainingError

WINDOW = 100
"""Values of which the running median is taken."""
LEAST = 50
"""Values needed before anything is judged."""


class FiniteGuard:
    """Counts consecutive steps that were skipped because a loss or gradient was not finite.

    Args:
        limit: how many in a row are let pass.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bad = limit, 0

    def healthy(self) -> None:
        """A step was finite."""
        self.bad = 0

    def unhealthy(self) -> bool:
        """A step was not finite; True when the limit is exceeded."""
        self.bad += 1
        return self.bad > self.limit


class DivergenceGuard:
    """Watches gradient norm and loss of one optimiser.

    A loss that is weighed down as its error grows tells nothing: where ``error``, the unweighted figure, is among the
    losses, it is watched in place of ``loss``.

    Args:
        name: what messages call the optimiser.
        factor: a gradient norm above this many running medians is wild ...
        steps: ... and so many wild ones in a row are divergence.
        loss_factor: a loss above this many times the lowest running median so far is wild; 0 watches no loss.
        loss_steps: so many of those in a row are divergence.
    """

    def __init__(self, name: str, factor: float, steps: int, loss_factor: float, loss_steps: int) -> None:
        self.name = name
        self.factor, self.steps = factor, steps
        self.loss_factor, self.loss_steps = loss_factor, loss_steps
        self.norms: deque[float] = deque(maxlen=WINDOW)
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.figure = "loss"
        """Which of the losses ``losses`` holds."""
        self.lowest: float | None = None
        self.wild = self.wild_losses = 0

    def watch(self, norm: float, losses: Mapping[str, float]) -> None:
        """Judge one finite step by its gradient norm and losses.

        Raises:
            TrainingError: the run diverges.
        """
        usual = median(self.norms) if len(self.norms) >= LEAST else None
        if usual is not None and norm > self.factor * usual:
            self.wild += 1
            if self.wild >= self.steps:
                raise TrainingError(
                    f"the run diverges: gradients of '{self.name}' stayed above {self.factor:g} times their median "
                    f"{usual:.3g} for {self.wild} steps; lower loop.learning_rate"
                )
        else:
            self.wild = 0
            self.norms.append(norm)
        if self.loss_factor > 0:
            figure = "error" if "error" in losses else "loss"
            if figure != self.figure:
                # As a checkpoint of an earlier release has it, which watched the other one.
                self.figure, self.lowest, self.wild_losses = figure, None, 0
                self.losses.clear()
            self._watch_loss(losses[figure])

    def _watch_loss(self, loss: float) -> None:
        self.losses.append(loss)
        if len(self.losses) >= LEAST:
            now = median(self.losses)
            self.lowest = now if self.lowest is None else min(self.lowest, now)
        # Nothing is said about losses that may be negative: a factor means nothing there.
        if self.lowest is not None and 0 < self.loss_factor * self.lowest < loss:
            self.wild_losses += 1
            if self.wild_losses >= self.loss_steps:
                raise TrainingError(
                    f"the run diverges: the {self.figure} of '{self.name}' stayed above {self.loss_factor:g} times "
                    f"its best median {self.lowest:.3g} for {self.wild_losses} steps; lower loop.learning_rate"
                )
        else:
            self.wild_losses = 0

    def state(self) -> dict[str, Any]:
        """Plain values that ``load`` takes back."""
        return {
            "norms": list(self.norms),
            "losses": list(self.losses),
            "figure": self.figure,
            "lowest": self.lowest,
            "wild": self.wild,
            "wild_losses": self.wild_losses,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.norms = deque(state["norms"], maxlen=WINDOW)
        self.losses = deque(state["losses"], maxlen=WINDOW)
        self.figure, self.lowest = state.get("figure", "loss"), state["lowest"]
        self.wild, self.wild_losses = int(state["wild"]), int(state["wild_losses"])
