"""Samplers of t, and of pairs (t, r) with r <= t."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from edge_tta.ranges import FINITE, POSITIVE, Range, require_ranges


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(mean + std * normal) (Esser et al., 2024, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0
    kind: Literal["logit-normal"] = "logit-normal"
    """Tells the samplers apart in recipes."""

    def __post_init__(self) -> None:
        require_ranges(self, mean=FINITE, std=POSITIVE)

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        return torch.sigmoid(self.mean + self.std * torch.randn(count, generator=generator))


@dataclass(frozen=True)
class Uniform:
    """t uniform in 0..1."""

    kind: Literal["uniform"] = "uniform"

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        return torch.rand(count, generator=generator)


@dataclass(frozen=True)
class MixExp:
    """Density proportional to e^(rate t) + e^(rate (1 - t)): most draws near data and near noise.

    For couples that belong together the ends are the hard part, data from noise and noise from data (Lee et al., 2024,
    "Improving the training of rectified flows"; FlashAudio, arXiv 2410.12266, "bifocal samplers", rate a = 4). The
    density is symmetric, so it does not matter which end is the noise.
    """

    rate: float = 4.0
    """Exponent a; at 4 the ends are 3.76 times as dense as the middle."""
    kind: Literal["mix-exp"] = "mix-exp"

    def __post_init__(self) -> None:
        require_ranges(self, rate=Range(0, 50, above_low=True))

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 1e-5..1 - 1e-5, by inverting the distribution function of one half of the mixture."""
        uniform = torch.rand(count, generator=generator)
        time = torch.log1p(uniform * math.expm1(self.rate)) / self.rate
        mirrored = torch.rand(count, generator=generator) < 0.5
        return torch.where(mirrored, 1 - time, time).clamp(1e-5, 1 - 1e-5)

    def density(self, time: Tensor) -> Tensor:
        """Probability density at float32 [...] in 0..1; integrates to 1."""
        halves = torch.exp(self.rate * time) + torch.exp(self.rate * (1 - time))
        return halves * (self.rate / (2 * math.expm1(self.rate)))


TimeSampler = LogitNormal | Uniform | MixExp


def sample_pairs(
    sampler: TimeSampler, count: int, equal_share: float, one_step_share: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Pairs (t, r): the larger of two draws is t; then a fixed share of random rows gets r = t.

    MeanFlow (Geng et al., 2025, section 4.3); ``equal_share`` is MeanAudio's flow mix-up ratio.

    Args:
        sampler: distribution of the single times.
        count: rows.
        equal_share: share of rows with r = t; exactly floor(share * count) rows.
        one_step_share: share of the remaining rows that become (1, 0), the pair that one-step sampling uses.
        generator: source of randomness.

    Returns:
        t and r, float32 [count] each; rows with r = t come first.
    """
    first, second = sampler.sample(count, generator), sampler.sample(count, generator)
    t, r = torch.maximum(first, second), torch.minimum(first, second)
    equal = int(equal_share * count)
    r[:equal] = t[:equal]
    whole = torch.rand(count, generator=generator) < one_step_share
    whole[:equal] = False
    t, r = torch.where(whole, torch.ones_like(t), t), torch.where(whole, torch.zeros_like(r), r)
    return t, r
