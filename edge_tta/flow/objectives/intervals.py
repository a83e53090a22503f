"""What objectives on intervals [r, t] share: how their rows are drawn, and how errors are weighed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from edge_tta.flow.path import immiscible_noise, interpolate, normal_like
from edge_tta.flow.times import LogitNormal, TimeSampler, sample_pairs
from edge_tta.ranges import POSITIVE, SHARE, Range, require_ranges


class IntervalRows(NamedTuple):
    """One batch of training rows; those with r = t come first."""

    z: Tensor
    """float32 [B, L, C], z_t."""
    velocity: Tensor
    """float32 [B, L, C], eps - x."""
    time: Tensor
    """float32 [B], t."""
    duration: Tensor
    """float32 [B], t - r."""
    guidance: Tensor
    """float32 [B]; 1 where the text is dropped."""
    drop: Tensor
    """bool [B], True where the null condition takes the text's place."""
    equal: int
    """How many rows have r = t."""


@dataclass(frozen=True)
class IntervalObjective:
    """Settings of every objective on intervals with guidance as an input."""

    times: TimeSampler = field(default_factory=lambda: LogitNormal(-0.4, 1.0))
    """Distribution of the ends of the intervals."""
    equal_share: float = 0.5
    """Flow mix-up ratio: share of rows with r = t."""
    one_step_share: float = 0.0
    """Share of the other rows pinned to (t, r) = (1, 0)."""
    null_share: float = 0.1
    """Share of rows trained without text; their target is the plain velocity."""
    max_guidance: float = 6.0
    """Guidance scales are drawn log-uniformly from 1 to this."""
    unguided_share: float = 0.1
    """Share of rows with guidance scale exactly 1."""
    floor: float = 1e-3
    """Constant c of the adaptive weight, which grows as an error falls to it."""
    immiscible: bool = False
    """Assign noise to data within the batch."""

    def __post_init__(self) -> None:
        require_ranges(self, equal_share=SHARE, one_step_share=SHARE, null_share=SHARE, unguided_share=SHARE)
        require_ranges(self, max_guidance=Range(1), floor=POSITIVE)

    def draw_guidance(self, count: int, generator: Generator) -> Tensor:
        """Guidance scales float32 [count]."""
        scale = self.max_guidance ** torch.rand(count, generator=generator)
        return scale.masked_fill(torch.rand(count, generator=generator) < self.unguided_share, 1.0)

    def draw(self, data: Tensor, generator: Generator) -> IntervalRows:
        """Rows of a batch of latents float32 [B, L, C]."""
        count, device = data.shape[0], data.device
        noise = normal_like(data, generator)
        if self.immiscible:
            noise = immiscible_noise(data, noise)
        pairs = sample_pairs(self.times, count, self.equal_share, self.one_step_share, generator)
        time, start = (part.to(device) for part in pairs)
        drop = (torch.rand(count, generator=generator) < self.null_share).to(device)
        guidance = self.draw_guidance(count, generator).to(device).masked_fill(drop, 1.0)
        z = interpolate(data, noise, time)
        equal = int(self.equal_share * count)
        return IntervalRows(z, noise - data, time, time - start, guidance, drop, equal)


def adaptive_losses(error: Tensor, equal: int, power: float, floor: float) -> dict[str, Tensor]:
    """Mean of errors float32 [B] weighed by 1 / (error + floor)^power (Mean Flows, section 4.3), and what to log.

    ``error`` is the unweighted mean: at power 1 the weighted loss itself hardly moves. ``interval_error`` is that of
    the rows after the first ``equal``.
    """
    weight = (error.detach() + floor) ** -power
    whole = error.detach()[equal:].mean() if equal < len(error) else error.new_zeros(())
    return {"loss": (weight * error).mean(), "error": error.detach().mean(), "interval_error": whole}
