"""Reflow: flow matching on couples that a teacher has simulated, which straightens the flow.

Liu et al., "Flow straight and fast", 2023; FlashAudio (arXiv 2410.12266), eq. 5 and 12: the teacher's guided velocity
makes the data, so guidance is built in and the result is sampled in one pass.

On a straight line the average velocity over any interval is the velocity itself. The network is therefore shown every
duration that a sampler may ask for, from 0 to the whole interval, with one and the same target, and the scale of the
simulation as its guidance. A teacher trained by flow matching knows the duration 0 and the scale 1 alone: its answer
to others is whatever the constant inputs have left in those branches. After reflow the exported network is right as it
is, at duration 1 in one step and at 1 / n in n.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.couples import Couples, Simulation
from edge_tta.flow.kept_answers import KeptAnswers
from edge_tta.flow.objectives.method import CoupleLearner, CoupleSource, Method
from edge_tta.flow.path import Condition, interpolate, predict
from edge_tta.flow.times import MixExp, TimeSampler
from edge_tta.ranges import SHARE, require_ranges


@dataclass(frozen=True)
class Reflow:
    """Mean squared velocity error on the straight lines between simulated couples."""

    times: TimeSampler = field(default_factory=MixExp)
    simulation: Simulation = field(default_factory=Simulation)
    """How the teacher makes couples."""
    whole_share: float = 0.25
    """Share of rows whose duration reaches from t to the data, as in the last step, and the only one, of sampling."""
    instantaneous_share: float = 0.25
    """Share of rows with duration 0: a reflowed model may be a teacher again, and its straightness is measured so."""

    def __post_init__(self) -> None:
        require_ranges(self, whole_share=SHARE, instantaneous_share=SHARE)
        if (total := self.whole_share + self.instantaneous_share) > 1:
            raise ConfigError(f"whole_share and instantaneous_share add up to {total:g}, more than 1")

    def method(self, generator: nn.Module, teacher: nn.Module | None, seed: int = 0) -> Method:
        """Train the generator alone; couples are kept as long as the same batch comes again."""
        if teacher is None:
            raise ConfigError("reflow needs generator.teacher, or generator.couples")
        return self.learner(generator, KeptAnswers(partial(self.simulation.draw, teacher), seed))

    def learner(self, generator: nn.Module, source: CoupleSource | None = None) -> CoupleLearner:
        """Train the generator alone on couples of ``source``, or on stored ones."""
        return CoupleLearner(
            generator,
            lambda couples, condition, draws: self.losses(generator, couples, condition, draws),
            source,
        )

    def draw_durations(self, time: Tensor, generator: Generator) -> Tensor:
        """Durations float32 [B] for times of the CPU: nothing, a uniform part, or all that is left to t = 0."""
        part, kind = (torch.rand(len(time), generator=generator) for _ in range(2))
        part = part.masked_fill(kind < self.whole_share, 1.0)
        return time * part.masked_fill(kind >= 1 - self.instantaneous_share, 0.0)

    def losses(
        self, model: nn.Module, couples: Couples, condition: Condition, generator: Generator
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of couples; ``loss`` is what to minimise.

        ``drift`` is there for anchored couples: near 0 they were made without guidance, at a higher price.
        """
        drawn = self.times.sample(len(couples.noise), generator)
        time = drawn.to(couples.noise.device)
        duration = self.draw_durations(drawn, generator).to(couples.noise.device)
        z = interpolate(couples.data, couples.noise, time)
        predicted = predict(model, z, time, duration, couples.guidance, condition)
        target = couples.noise - couples.data
        loss = (predicted - target).square().mean()
        figures = {"loss": loss, "explained": 1 - loss.detach() / target.var()}
        return figures if self.simulation.anchoring is None else {**figures, "drift": couples.drift.mean()}
