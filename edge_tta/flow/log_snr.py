"""Times spread over the logarithm of the signal-to-noise ratio, for adversarial post-training.

On the straight path z_t = (1 - t) x + t eps the amplitude ratio of signal and noise is (1 - t) / t; with its logarithm
lambda, t = sigmoid(-lambda). ARC (Novack et al., 2025, arXiv 2505.08175, sections 3 and 4) trains and samples between
lambda = -6, almost pure noise, and lambda = 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from edge_tta.ranges import FINITE, NOT_NEGATIVE, SHARE, require_ranges, require_rising
from edge_tta.times import HIGHEST_LOG_SNR, LOWEST_LOG_SNR


@dataclass(frozen=True)
class LogSnrUniform:
    """lambda uniform in low..high, t = sigmoid(-lambda); a share of the rows gets t = 1 exactly."""

    low: float = LOWEST_LOG_SNR
    high: float = HIGHEST_LOG_SNR
    one_step_share: float = 0.1
    """Share of rows at t = 1, where every sampling starts: the interval alone never reaches it."""
    kind: Literal["log-snr-uniform"] = "log-snr-uniform"
    """Tells the samplers apart in recipes."""

    def __post_init__(self) -> None:
        require_ranges(self, low=FINITE, high=FINITE, one_step_share=SHARE)
        require_rising(self, "low", "high", strictly=True)

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        value = self.low + (self.high - self.low) * torch.rand(count, generator=generator)
        whole = torch.rand(count, generator=generator) < self.one_step_share
        return torch.sigmoid(-value).masked_fill(whole, 1.0)


@dataclass(frozen=True)
class ShiftedLogitNormal:
    """lambda = low + (high - low) sigmoid(shift + spread * normal), t = sigmoid(-lambda).

    A logit-normal density laid over a log-SNR interval; a positive shift leans to clean latents, where details are.
    """

    low: float = LOWEST_LOG_SNR
    high: float = HIGHEST_LOG_SNR
    shift: float = 0.0
    spread: float = 1.0
    kind: Literal["shifted-logit-normal"] = "shifted-logit-normal"

    def __post_init__(self) -> None:
        require_ranges(self, low=FINITE, high=FINITE, shift=FINITE, spread=NOT_NEGATIVE)
        require_rising(self, "low", "high", strictly=True)

    def sample(self, count: int, generator: Generator) -> Tensor:
        """float32 [count] in 0..1."""
        place = torch.sigmoid(self.shift + self.spread * torch.randn(count, generator=generator))
        return torch.sigmoid(-(self.low + (self.high - self.low) * place))
