"""Couples of noise and the data that a teacher's ODE makes of it: what reflow and one-step distillation learn from.

A couple is deterministic, so noise and data are never paired anew, not even within a batch. Guided simulation leaves
the teacher's own trajectory; *anchored optimisation* (FlashAudio, arXiv 2410.12266) holds it near: at every guided step
the null embedding, and nothing else, is moved so that the step ends nearer to the unguided trajectory, the pivot. This
is null-text inversion (Mokady et al., 2023) turned from inverting to making. Its optimum is no guidance at all, since
v(null) = v(c) is the nearest there is: iterations, learning rate and tolerance together set how much guidance is left.
``drift`` tells; a drift near zero is an expensive unguided couple.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.mean_flow import guided_teacher_velocity
from edge_tta.flow.path import Condition, euler, normal_like, per_row, predict
from edge_tta.ranges import COUNT, NOT_NEGATIVE, require_ranges, require_rising


@dataclass(frozen=True)
class Anchoring:
    """How far the null embedding is moved; the defaults are null-text inversion's, FlashAudio states none."""

    learning_rate: float = 0.01
    """Adam's, in the first step of the ODE."""
    decay: float = 0.01
    """Share of the learning rate lost with every step of the ODE."""
    iterations: int = 10
    """Most updates in a step of the ODE."""
    tolerance: float = 1e-5
    """Mean squared distance per latent value at which a row stops, in the first step of the ODE."""
    tolerance_growth: float = 2e-5
    """Added to the tolerance with every step."""

    def __post_init__(self) -> None:
        require_ranges(self, learning_rate=NOT_NEGATIVE, decay=NOT_NEGATIVE, iterations=NOT_NEGATIVE)
        require_ranges(self, tolerance=NOT_NEGATIVE, tolerance_growth=NOT_NEGATIVE)


@dataclass(frozen=True)
class Couples:
    """Noise, and what the teacher makes of it; one row per example."""

    noise: Tensor
    """float32 [B, L, C], t = 1."""
    data: Tensor
    """float32 [B, L, C], t = 0."""
    guidance: Tensor
    """float32 [B], scale of the simulation."""
    drift: Tensor
    """float32 [B], distance of the data from the unguided end over that end's norm; NaN where it is not known."""


def velocity_of(
    model: nn.Module,
    z: Tensor,
    time: Tensor,
    duration: Tensor,
    guidance: Tensor,
    condition: Condition,
    classifier_free: bool,
) -> Tensor:
    """The velocity that sampling would use, float32 [B, L, C].

    Args:
        model: generator.
        z: float32 [B, L, C] at ``time``.
        time: float32 [B].
        duration: float32 [B], length of the interval; without effect on a ``classifier_free`` model.
        guidance: float32 [B].
        condition: text and seconds.
        classifier_free: two passes of a flow-matching model; else one pass, with the scale as an input.
    """
    if classifier_free:
        return guided_teacher_velocity(model, z, time, guidance, condition)
    return predict(model, z, time, duration, guidance, condition)


def null_condition(model: nn.Module, seconds: Tensor) -> Condition:
    """The learned null condition as a condition of one token, a copy for each of ``seconds`` float32 [B].

    To the network it is what ``drop`` makes of any text, but every row can be changed for itself.

    Raises:
        ConfigError: the model has no learned null condition.
    """
    tokens, pooled = getattr(model, "null_tokens", None), getattr(model, "null_pooled", None)
    if not isinstance(tokens, Tensor) or not isinstance(pooled, Tensor):
        raise ConfigError("anchored optimisation needs a generator with a learned null condition")
    count = len(seconds)
    return Condition(
        tokens.detach().expand(count, -1, -1).clone(),
        pooled.detach().expand(count, -1).clone(),
        torch.ones(count, 1, dtype=torch.bool, device=seconds.device),
        seconds,
    )


def anchored_step(
    model: nn.Module,
    z: Tensor,
    pivot: Tensor,
    time: Tensor,
    width: float,
    guidance: Tensor,
    condition: Condition,
    null: Condition,
    settings: Anchoring,
    index: int,
) -> tuple[Tensor, Condition]:
    """One guided Euler step whose null condition is moved towards the pivot; rows do not see each other.

    Args:
        model: flow-matching generator; its weights get no gradient.
        z: float32 [B, L, C] at ``time``.
        pivot: float32 [B, L, C], the unguided trajectory at ``time - width``.
        time: float32 [B].
        width: of the step.
        guidance: float32 [B].
        condition: text and seconds.
        null: null condition of every row, from ``null_condition`` or the step before.
        settings: of the optimisation.
        index: of the step in the ODE, from 0.

    Returns:
        float32 [B, L, C] at ``time - width``, and the null condition that led there.
    """
    still, one, scale = torch.zeros_like(time), torch.ones_like(time), per_row(guidance, z)
    with torch.no_grad():
        conditional = velocity_of(model, z, time, still, one, condition, classifier_free=False)
    parts = [null.tokens.clone().requires_grad_(), null.pooled.clone().requires_grad_()]
    rate = settings.learning_rate * max(0.0, 1 - settings.decay * index)
    tolerance = settings.tolerance + settings.tolerance_growth * index
    optimiser = torch.optim.Adam(parts, rate)

    def guided() -> Tensor:
        text = Condition(parts[0], parts[1], null.text_mask, null.seconds)
        empty = velocity_of(model, z, time, still, one, text, classifier_free=False)
        return z - width * (scale * conditional + (1 - scale) * empty)

    active = torch.ones_like(time, dtype=torch.bool)
    for _ in range(settings.iterations):
        with torch.enable_grad():
            distance = (guided() - pivot).square().flatten(1).mean(dim=1)
            gradients = torch.autograd.grad(distance.sum(), parts)
        active = active & (distance.detach() > tolerance)
        if not bool(active.any()):
            break
        before = [part.detach().clone() for part in parts]
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient
        optimiser.step()
        with torch.no_grad():
            # Adam's momentum would go on moving rows that have arrived.
            for part, old in zip(parts, before, strict=True):
                part.copy_(torch.where(per_row(active, part), part, old))
    with torch.no_grad():
        end = guided()
    return end, Condition(parts[0].detach(), parts[1].detach(), null.text_mask, null.seconds)


@dataclass(frozen=True)
class Simulation:
    """How a teacher makes couples: Euler steps on a uniform grid from noise to data."""

    steps: int = 24
    """Euler steps."""
    min_guidance: float = 3.0
    """Guidance scales are drawn uniformly from this ..."""
    max_guidance: float = 3.0
    """... to this; FlashAudio has one scale."""
    classifier_free: bool = True
    """Guide by two passes: a teacher trained by flow matching. False: the scale is an input of the teacher, which is
    then asked as the sampler asks it; a reflowed teacher."""
    anchoring: Anchoring | None = None
    """Anchored optimisation of the null embedding; about 30 passes a step in place of two. None: plain guidance."""

    def __post_init__(self) -> None:
        require_ranges(self, steps=COUNT, min_guidance=NOT_NEGATIVE, max_guidance=NOT_NEGATIVE)
        require_rising(self, "min_guidance", "max_guidance")
        if self.anchoring is not None and not self.classifier_free:
            raise ConfigError("anchoring needs classifier_free, it moves the null embedding")

    def draw_guidance(self, count: int, generator: Generator) -> Tensor:
        """Guidance scales float32 [count] on the CPU."""
        span = self.max_guidance - self.min_guidance
        return self.min_guidance + span * torch.rand(count, generator=generator)

    @torch.no_grad()
    def run(
        self,
        teacher: nn.Module,
        noise: Tensor,
        condition: Condition,
        guidance: Tensor,
        measure_drift: bool = False,
    ) -> Couples:
        """Simulate couples; deterministic.

        Args:
            teacher: frozen generator.
            noise: float32 [B, L, C].
            condition: text and seconds.
            guidance: float32 [B].
            measure_drift: simulate the unguided trajectory as well; anchored couples have it anyway.

        Raises:
            ConfigError: anchoring with a teacher that has no null condition.
        """
        condition = condition.for_teacher
        width, count = 1 / self.steps, len(noise)
        over, one = noise.new_full((count,), width), noise.new_ones(count)
        # Flow matching knows the duration 0 alone.
        span = torch.zeros_like(over) if self.classifier_free else over

        def guided(z: Tensor, time: Tensor) -> Tensor:
            return velocity_of(teacher, z, time, over, guidance, condition, self.classifier_free)

        def unguided(z: Tensor, time: Tensor) -> Tensor:
            return velocity_of(teacher, z, time, span, one, condition, False)

        z, pivot = noise, None
        # Couples are made once and learnt from often: they are not rounded to bf16 on the way.
        with torch.autocast(noise.device.type, enabled=False):
            if self.anchoring is not None:
                pivot, null = noise, null_condition(teacher, condition.seconds)
                for step in range(self.steps):
                    time = one - step * width
                    pivot = euler(unguided, pivot, time, over, 1)
                    z, null = anchored_step(
                        teacher, z, pivot, time, width, guidance, condition, null, self.anchoring, step
                    )
            else:
                z = euler(guided, noise, one, one, self.steps)
                if measure_drift:
                    pivot = euler(unguided, noise, one, one, self.steps)
        if pivot is None:
            return Couples(noise, z, guidance, torch.full_like(guidance, torch.nan))
        drift = (z - pivot).flatten(1).norm(dim=1) / pivot.flatten(1).norm(dim=1)
        return Couples(noise, z, guidance, drift)

    def draw(self, teacher: nn.Module, like: Tensor, condition: Condition, generator: Generator) -> Couples:
        """Couples of fresh noise, shaped like latents [B, L, C] on their device."""
        noise = normal_like(like, generator)
        return self.run(teacher, noise, condition, self.draw_guidance(len(like), generator).to(like.device))
