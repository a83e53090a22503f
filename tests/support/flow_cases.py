"""What tests of training methods share: seeded draws, conditions and networks of edge-tiny, a flow in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_tta.flow.couples import Anchoring, Simulation
from edge_tta.flow.objectives.alpha_flow import AlphaFlow
from edge_tta.flow.objectives.arc import Arc
from edge_tta.flow.objectives.dmd2 import Dmd2
from edge_tta.flow.objectives.flow_matching import FlowMatching
from edge_tta.flow.objectives.improved_mean_flow import ImprovedMeanFlow
from edge_tta.flow.objectives.integrated_flow import IntegratedFlow
from edge_tta.flow.objectives.mean_flow import MeanFlow
from edge_tta.flow.objectives.one_step import OneStepDistillation
from edge_tta.flow.objectives.reflow import Reflow
from edge_tta.flow.path import Condition
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset

TINY = preset("edge-tiny").generator
ANCHORED = Simulation(steps=2, anchoring=Anchoring(iterations=0))
"""Couples with an anchored null embedding that takes no updates."""
METHODS = [
    (FlowMatching(), False),
    (MeanFlow(equal_share=0.5), False),
    (MeanFlow(equal_share=0.5), True),
    (AlphaFlow(anneal_end=2), False),
    (AlphaFlow(anneal_end=2), True),
    (AlphaFlow(anneal_start=-2, anneal_end=0), False),
    (AlphaFlow(anneal_start=-2, anneal_end=0), True),
    (ImprovedMeanFlow(), False),
    (ImprovedMeanFlow(), True),
    (IntegratedFlow(), True),
    (Reflow(simulation=Simulation(steps=2)), True),
    (Reflow(simulation=ANCHORED), True),
    (OneStepDistillation(Simulation(steps=2, classifier_free=False)), True),
    (Arc(), False),
    (Arc(penalty_weight=1.0), True),
    (Dmd2(), True),
    (Dmd2(steps=3, adversarial_weight=0.0), True),
]
"""Every training method, and whether it has a teacher."""


def generator_of(seed: int) -> torch.Generator:
    """Random source of the CPU."""
    return torch.Generator().manual_seed(seed)


def condition_of(count: int, width: int = TINY.text_width, same: bool = False) -> Condition:
    """Random text of three tokens for every row, or the same for all, and two seconds."""
    make = generator_of(1)
    tokens, pooled = torch.randn(count, 3, width, generator=make), torch.randn(count, width, generator=make)
    if same:
        tokens, pooled = tokens[:1].repeat(count, 1, 1), pooled[:1].repeat(count, 1)
    return Condition(tokens, pooled, torch.ones(count, 3, dtype=torch.bool), torch.full((count,), 2.0))


def latents_of(count: int, length: int = 12, seed: int = 5) -> Tensor:
    """Standard normal latents [count, length, channels]."""
    return torch.randn(count, length, TINY.latent_channels, generator=generator_of(seed))


def network(seed: int = 0) -> Generator:
    """A tiny generator none of whose weights is zero: the branches that start silent speak too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Generator(TINY)
        for weight in model.parameters():
            if not weight.any():
                nn.init.normal_(weight, std=0.2)
    return model


class GaussianFlow(nn.Module):
    """Exact average velocity between N(0, 1) noise and N(mean, std^2) data, whatever the text.

    The path's marginals are Gaussian, so the flow maps z_t = m_t + s_t y for a fixed normal y, with m_t = (1 - t) mean
    and s_t = sqrt((1 - t)^2 std^2 + t^2); the average velocity is (z_t - z_r) / (t - r), and the velocity its limit.
    """

    def __init__(self, mean: float = 1.0, std: float = 0.4) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def place(self, time: Tensor, y: Tensor) -> Tensor:
        """z_t of the normal y."""
        return (1 - time) * self.mean + self.spread(time) * y

    def spread(self, time: Tensor) -> Tensor:
        """s_t."""
        return torch.sqrt((1 - time) ** 2 * self.std**2 + time**2)

    def forward(self, latent: Tensor, time: Tensor, duration: Tensor, *_: Tensor, **__: object) -> Tensor:
        """Average velocity over ``duration``, as a generator answers."""
        t, d = time[:, None, None], duration[:, None, None]
        y = (latent - (1 - t) * self.mean) / self.spread(t)
        slope = (t - (1 - t) * self.std**2) / self.spread(t)
        secant = (self.spread(t) - self.spread(t - d)) / d.clamp(min=1e-3)
        return torch.where(d > 0, secant, slope) * y - self.mean
