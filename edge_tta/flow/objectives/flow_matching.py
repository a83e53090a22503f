"""Flow matching: regress the network on the velocity of the straight path (Lipman et al., 2023, eq. 23)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.method import GeneratorAlone, Method
from edge_tta.flow.path import Condition, immiscible_noise, interpolate, normal_like, predict
from edge_tta.flow.times import LogitNormal, TimeSampler
from edge_tta.ranges import SHARE, require_ranges

SILENT = ("duration_in", "guidance_in")
"""Branches of the generator that see one value only. Trained on it they would answer others at random; frozen at zero
they make a flow-matching checkpoint an exact start for every method that brings them to life."""


@dataclass(frozen=True)
class FlowMatching:
    """Mean squared velocity error with null-condition dropout."""

    times: TimeSampler = field(default_factory=LogitNormal)
    null_share: float = 0.1
    """Share of rows trained without text, for classifier-free guidance."""
    immiscible: bool = False
    """Assign noise to data within the batch."""

    def __post_init__(self) -> None:
        require_ranges(self, null_share=SHARE)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train the generator alone, without the inputs that flow matching holds constant."""
        if teacher is not None:
            raise ConfigError("flow_matching takes no teacher")
        for name in SILENT:
            branch = getattr(generator, name, None)
            if branch is not None:
                branch.requires_grad_(False)
        return GeneratorAlone(
            generator,
            lambda data, condition, _, draws: self.losses(generator, data, condition, draws),
            classifier_free=True,
        )

    def losses(
        self, model: nn.Module, data: Tensor, condition: Condition, generator: Generator
    ) -> dict[str, Tensor]:
        """Scalar losses of a batch of latents float32 [B, L, C]; ``loss`` is what to minimise."""
        count = data.shape[0]
        noise = normal_like(data, generator)
        if self.immiscible:
            noise = immiscible_noise(data, noise)
        time = self.times.sample(count, generator).to(data.device)
        drop = (torch.rand(count, generator=generator) < self.null_share).to(data.device)
        z, none, one = interpolate(data, noise, time), torch.zeros_like(time), torch.ones_like(time)
        velocity = predict(model, z, time, none, one, condition, drop)
        loss = (velocity - (noise - data)).square().mean()
        return {"loss": loss, "velocity_error": loss.detach()}
