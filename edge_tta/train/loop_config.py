"""Settings of the training loop, and the learning rate that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edge_tta.ranges import BELOW_ONE, COUNT, NOT_NEGATIVE, POSITIVE, SEED, SHARE, require_ranges


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int = 1000
    """Optimiser steps."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    final_learning_rate: float = 0.03
    """Learning rate at the last step as a share of the peak (cosine); 1 keeps it constant."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from zero."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-3
    clip_norm: float = 2.0
    """Gradients are scaled down to this norm."""
    accumulate: int = 1
    """Batches whose gradients are averaged before a step; every process takes as many."""
    average_decay: float = 0.999
    """Decay of the moving average of the weights, smaller in the first steps."""
    device: str = "auto"
    """Where to train: "auto", "cpu", "cuda", ..."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes under autocast; weights, optimiser and derivatives inside targets stay float32."""
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 0
    """Steps between validations and samples; 0 for only at the end."""
    seed: int = 0
    max_bad_steps: int = 3
    """Consecutive non-finite steps that are let pass; one more ends the run."""
    divergence_factor: float = 10.0
    """A gradient norm above this many running medians is a warning sign ..."""
    divergence_steps: int = 20
    """... and that many of them in a row end the run."""
    divergence_loss_factor: float = 3.0
    """A loss, or the unweighted error behind it, above this many times its best running median is one too; losses of
    opponents are not watched ..."""
    divergence_loss_steps: int = 200
    """... and that many of those in a row end the run."""

    def __post_init__(self) -> None:
        require_ranges(self, steps=COUNT, accumulate=COUNT, log_every=COUNT, checkpoint_every=COUNT)
        require_ranges(
            self, warmup_steps=NOT_NEGATIVE, validate_every=NOT_NEGATIVE, max_bad_steps=NOT_NEGATIVE
        )
        require_ranges(self, learning_rate=POSITIVE, final_learning_rate=SHARE, clip_norm=POSITIVE)
        require_ranges(self, betas=BELOW_ONE, weight_decay=NOT_NEGATIVE, average_decay=BELOW_ONE, seed=SEED)
        require_ranges(self, divergence_factor=POSITIVE, divergence_steps=COUNT)
        require_ranges(self, divergence_loss_factor=NOT_NEGATIVE, divergence_loss_steps=COUNT)


def learning_rate(config: LoopConfig, step: int) -> float:
    """Warm-up, then cosine to the final share; ``step`` counts from 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, config.steps)))
    return (
        config.learning_rate * warm * (config.final_learning_rate + (1 - config.final_learning_rate) * cosine)
    )
