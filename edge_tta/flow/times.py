"""Samplers of t, and of pairs (t, r) with r <= t."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(mean + std * normal) (Esser et al., 2024, section 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        return torch.sigmoid(self.mean + self.std * torch.randn(count, generator=generator))


@dataclass(frozen=True)
class Uniform:
    """t uniform in 0..1."""

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        return torch.rand(count, generator=generator)


TimeSampler = LogitNormal | Uniform


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
