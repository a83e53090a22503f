"""One-step distillation: one full Euler step regresses on the end of the teacher's ODE.

FlashAudio (arXiv 2410.12266), eq. 13, after InstaFlow (Liu et al., 2023): min E |data - (noise - u(noise))|^2, a plain
squared error without a perceptual or adversarial term. The teacher is the reflowed model, and the start is its weights:
what one step cannot express is averaged, and a straight flow leaves little of it. The network is asked as the sampler
asks it in one step (t = 1, duration 1, the couple's guidance); other step counts are not trained and get worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.couples import Couples, Simulation
from edge_tta.flow.kept_answers import KeptAnswers
from edge_tta.flow.objectives.method import CoupleLearner, CoupleSource, Method
from edge_tta.flow.path import Condition, predict


@dataclass(frozen=True)
class OneStepDistillation:
    """Mean squared error of the data that one step makes."""

    simulation: Simulation = field(default_factory=lambda: Simulation(classifier_free=False))
    """How the teacher makes couples; by default a reflowed one, which has its guidance as an input."""

    def method(self, generator: nn.Module, teacher: nn.Module | None, seed: int = 0) -> Method:
        """Train the generator alone; couples are kept as long as the same batch comes again."""
        if teacher is None:
            raise ConfigError("one_step needs generator.teacher, or generator.couples")
        return self.learner(generator, KeptAnswers(partial(self.simulation.draw, teacher), seed))

    def learner(self, generator: nn.Module, source: CoupleSource | None = None) -> CoupleLearner:
        """Train the generator alone on couples of ``source``, or on stored ones."""
        return CoupleLearner(
            generator, lambda couples, condition, _: self.losses(generator, couples, condition), source
        )

    def losses(self, model: nn.Module, couples: Couples, condition: Condition) -> dict[str, Tensor]:
        """Scalar losses of a batch of couples; ``loss`` is what to minimise."""
        one = torch.ones_like(couples.guidance)
        velocity = predict(model, couples.noise, one, one, couples.guidance, condition)
        loss = (couples.noise - velocity - couples.data).square().mean()
        figures = {"loss": loss, "explained": 1 - loss.detach() / couples.data.var()}
        return figures if self.simulation.anchoring is None else {**figures, "drift": couples.drift.mean()}
