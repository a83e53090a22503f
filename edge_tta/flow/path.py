"""The straight path between data and noise: z_t = (1 - t) x + t eps, velocity eps - x (Lipman et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Shape [B] values so that they broadcast over [B, ...]."""
    return values.reshape(-1, *([1] * (like.dim() - 1)))


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Point z_t on the path, [B, ...], for t = 0 data, t = 1 noise, ``time`` [B]."""
    t = per_row(time, data)
    return (1 - t) * data + t * noise


def normal_like(data: Tensor, generator: torch.Generator) -> Tensor:
    """Normal draws of the shape, type and device of ``data``, from a generator of the CPU: the same on every device."""
    return torch.randn(data.shape, generator=generator).to(data)


@dataclass(frozen=True)
class Condition:
    """Everything the generator is told besides latent and times; one row per example."""

    tokens: Tensor
    """float32 [B, T, text_width]."""
    pooled: Tensor
    """float32 [B, text_width]."""
    text_mask: Tensor
    """bool [B, T], True where a token is real."""
    seconds: Tensor
    """float32 [B], duration in seconds."""
    plain: Condition | None = None
    """The same rows in the words a teacher knows, where the student is told others; None where it is told these."""

    @property
    def for_teacher(self) -> Condition:
        """The condition in the words a teacher knows."""
        return self.plain or self

    def rows(self, index: Any) -> Condition:
        """The condition of some rows (index tensor, mask or slice)."""
        parts = (self.tokens[index], self.pooled[index], self.text_mask[index], self.seconds[index])
        return Condition(*parts, None if self.plain is None else self.plain.rows(index))

    def twice(self) -> Condition:
        """Every row two times: [B, ...] -> [2 B, ...]."""
        return joined(self, self)


def joined(*parts: Condition) -> Condition:
    """Rows of several conditions one after the other; with plain words if every part has them."""

    def rows(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    plain = [part.plain for part in parts if part.plain is not None]
    return Condition(
        rows("tokens"),
        rows("pooled"),
        rows("text_mask"),
        rows("seconds"),
        joined(*plain) if len(plain) == len(parts) else None,
    )


def euler(
    velocity: Callable[[Tensor, Tensor], Tensor], z: Tensor, time: Tensor, duration: Tensor, steps: int
) -> Tensor:
    """Integrate from ``time`` to ``time - duration`` in steps of equal length.

    Args:
        velocity: z and its time float32 [B] to the velocity there, [B, L, C].
        z: float32 [B, L, C] at ``time``.
        time: float32 [B].
        duration: float32 [B].
        steps: how many.
    """
    width = duration / steps
    for step in range(steps):
        z = z - per_row(width, z) * velocity(z, time - step * width)
    return z


def predict(
    model: nn.Module,
    z: Tensor,
    time: Tensor,
    duration: Tensor,
    guidance: Tensor,
    condition: Condition,
    drop: Tensor | None = None,
) -> Tensor:
    """Average velocity u(z_t, r, t) that a generator predicts, [B, L, C].

    Args:
        model: generator.
        z: float32 [B, L, C] at ``time``.
        time: float32 [B], t.
        duration: float32 [B], t - r; 0 asks for the velocity at t.
        guidance: float32 [B], the generator's guidance input.
        condition: text and seconds of every row.
        drop: bool [B], True where the null condition takes the text's place; None for nowhere.
    """
    velocity: Tensor = model(
        z,
        time,
        duration,
        condition.tokens,
        condition.pooled,
        condition.seconds,
        guidance,
        text_mask=condition.text_mask,
        drop=drop,
    )
    return velocity


def immiscible_noise(data: Tensor, noise: Tensor) -> Tensor:
    """Permute noise within the batch so that the sum of squared distances to the data is least.

    Immiscible diffusion (Li et al., 2024), as FlashAudio uses it; exact assignment by the Hungarian method.

    Args:
        data: float32 [B, ...].
        noise: float32 [B, ...], independent normal draws.

    Returns:
        The same noise rows in another order.
    """
    from scipy.optimize import linear_sum_assignment

    distance = torch.cdist(data.flatten(1).double(), noise.flatten(1).double()).square()
    _, order = linear_sum_assignment(distance.cpu().numpy())
    return noise[torch.as_tensor(order, device=noise.device)]
