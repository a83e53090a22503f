"""Improved distribution matching distillation: a one-step or few-step generator whose sounds are distributed as a
flow-matching teacher's, at no couples of noise and data.

DMD2 (Yin et al., "Improved distribution matching distillation for fast image synthesis", 2024, arXiv 2405.14867). Two
flow models answer for a noised generated latent z_t = (1 - t) x + t eps: the frozen teacher, guided, knows the real
distribution, and a copy of it that keeps learning the generated one by flow matching knows the fake distribution. With
velocities v a clean estimate is x^ = z_t - t v, and scores follow from it as s = ((1 - t) x^ - z_t) / t^2. The gradient
of KL(fake || real) with respect to x (DMD, Yin et al., 2023, arXiv 2311.18828, eq. 7 and 8, without the factor 1 - t
of the score, which only weighs times) is

    g = (x^_fake - x^_real) / mean |x - x^_real| = t (v_real - v_fake) / mean |x - x^_real|,

the mean over frames and channels of a row. It is applied as half the mean of (x - stop(x - g))^2. What DMD2 adds:

- no regression on couples (section 4.1);
- two time scales: the fake score takes several steps for each of the generator's (section 4.2);
- a classifier on the fake score's hidden states tells noised real from noised generated latents; the generator learns
  from it too, and so from real data beyond the teacher's errors (section 4.3);
- several steps: the generator is trained on what it meets at sampling, its own jumps renoised (section 4.4 and 4.5).

The guidance scale of the teacher is given to generator and fake score as their input. The fake score is trained at the
same pass as its classifier. Where the generator is told other words than the teacher knows, teacher and fake score are
asked in the plain ones: what is matched is the distribution of sounds that the plain words have.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.mean_flow import guided_teacher_velocity
from edge_tta.flow.objectives.method import GENERATOR, Method, SamplerName
from edge_tta.flow.path import Condition, interpolate, normal_like, per_row
from edge_tta.flow.ping_pong import denoise
from edge_tta.flow.times import TimeSampler, Uniform
from edge_tta.model.latent_discriminator import JudgingGenerator, without_weight_gradients
from edge_tta.ranges import COUNT, NOT_NEGATIVE, SHARE, Range, require_ranges, require_rising
from edge_tta.times import ping_pong_grid

FAKE_SCORE = "fake_score"
"""Name of the fake-score network and its optimiser."""


def matching_gradient(data: Tensor, z: Tensor, time: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Direction from the real distribution to the fake one at generated latents, g of the module's text.

    Args:
        data: float32 [B, L, C], generated latents x.
        z: float32 [B, L, C], the same noised to ``time``.
        time: float32 [B].
        real: [B, L, C], velocity of the real distribution at z.
        fake: [B, L, C], velocity of the generated distribution at z.

    Returns:
        float32 [B, L, C].
    """
    t = per_row(time, z)
    distance = (data - (z - t * real.float())).abs().flatten(1).mean(dim=1)
    return t * (real.float() - fake.float()) / per_row(distance.clamp(min=1e-4), z)


def matching_loss(data: Tensor, gradient: Tensor) -> Tensor:
    """Scalar whose gradient with respect to ``data`` float32 [B, L, C] is ``gradient`` over the number of values."""
    return 0.5 * (data - (data - gradient).detach()).square().mean()


@dataclass(frozen=True)
class Dmd2:
    """Distribution matching with two time scales and a classifier."""

    times: TimeSampler = field(default_factory=Uniform)
    """Distribution of noise levels, for matching, fake score and classifier; laid over the range below."""
    min_time: float = 0.02
    max_time: float = 0.98
    fake_steps: int = 5
    """Steps of the fake score for one of the generator."""
    min_guidance: float = 4.0
    """Guidance scales are drawn uniformly from this ..."""
    max_guidance: float = 4.0
    """... to this."""
    steps: int = 1
    """Jumps of the ping-pong sampler that the generator is trained for, on its log-SNR grid."""
    depth_share: float = 0.75
    """Share of the fake score's blocks below the classifier."""
    adversarial_weight: float = 5e-3
    """Weight of the classifier's verdict in the generator's loss; 0 leaves the classifier out."""
    classifier_weight: float = 1e-2
    """Weight of the classifier in the fake score's loss."""

    def __post_init__(self) -> None:
        require_ranges(self, min_time=SHARE, max_time=SHARE, fake_steps=COUNT, steps=COUNT)
        require_rising(self, "min_time", "max_time", strictly=True)
        require_ranges(self, min_guidance=NOT_NEGATIVE, max_guidance=NOT_NEGATIVE)
        require_rising(self, "min_guidance", "max_guidance")
        require_ranges(self, depth_share=Range(0, 1, above_low=True))
        require_ranges(self, adversarial_weight=NOT_NEGATIVE, classifier_weight=NOT_NEGATIVE)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Train generator and fake score, which starts as a copy of the teacher.

        Raises:
            ConfigError: no teacher.
        """
        if teacher is None:
            raise ConfigError("dmd2 needs generator.teacher, a flow-matching generator")
        return Dmd2Method(self, generator, teacher, JudgingGenerator(teacher, self.depth_share))

    def draw_times(self, like: Tensor, draws: torch.Generator) -> Tensor:
        """Noise levels float32 [B] of latents [B, L, C]."""
        drawn = self.times.sample(like.shape[0], draws).to(like.device)
        return self.min_time + (self.max_time - self.min_time) * drawn

    def draw_guidance(self, like: Tensor, draws: torch.Generator) -> Tensor:
        """Guidance scales float32 [B] of latents [B, L, C]."""
        span = self.max_guidance - self.min_guidance
        return (self.min_guidance + span * torch.rand(like.shape[0], generator=draws)).to(like.device)

    def generated(
        self,
        generator: nn.Module,
        like: Tensor,
        condition: Condition,
        guidance: Tensor,
        draws: torch.Generator,
    ) -> Tensor:
        """Generated latents float32 [B, L, C] of the shape of ``like``, with gradients through the last jump alone.

        Sampling is followed up to a jump drawn for the whole batch, so that inputs are those of inference.
        """
        grid = ping_pong_grid(self.steps)[:-1]
        last = int(torch.randint(self.steps, (), generator=draws))
        z, rows = normal_like(like, draws), like.shape[0]
        times = [torch.full((rows,), time, device=like.device) for time in grid]
        with torch.no_grad():
            for now, then in itertools.pairwise(times[: last + 1]):
                data = denoise(generator, z, now, condition, guidance)
                z = interpolate(data, normal_like(like, draws), then)
        return denoise(generator, z, times[last], condition, guidance)

    def fake_losses(
        self,
        generator: nn.Module,
        fake_score: nn.Module,
        real: Tensor,
        condition: Condition,
        draws: torch.Generator,
    ) -> dict[str, Tensor]:
        """Losses of fake score and classifier; ``real`` float32 [B, L, C] are latents of real sound."""
        guidance = self.draw_guidance(real, draws)
        with torch.no_grad():
            data = self.generated(generator, real, condition, guidance, draws)
        condition = condition.for_teacher
        count, time, noise = real.shape[0], self.draw_times(real, draws), normal_like(real, draws)
        z = interpolate(data, noise, time)
        if self.adversarial_weight == 0:
            velocity, _ = _answer(fake_score, z, time, condition, guidance)
            error = (velocity.float() - (noise - data)).square().mean()
            return {"loss": error, "velocity_error": error.detach()}
        z = torch.cat([z, interpolate(real, normal_like(real, draws), time)])
        velocity, scores = _answer(fake_score, z, time.repeat(2), condition.twice(), guidance.repeat(2))
        error = (velocity[:count].float() - (noise - data)).square().mean()
        classifier = F.softplus(scores[:count]).mean() + F.softplus(-scores[count:]).mean()
        return {
            "loss": error + self.classifier_weight * classifier,
            "velocity_error": error.detach(),
            "classifier": classifier.detach(),
        }

    def generator_losses(
        self,
        generator: nn.Module,
        teacher: nn.Module,
        fake_score: nn.Module,
        like: Tensor,
        condition: Condition,
        draws: torch.Generator,
    ) -> dict[str, Tensor]:
        """Losses of the generator; of ``like`` float32 [B, L, C] only the shape counts.

        ``mismatch`` is the mean absolute gradient: how far real and fake estimates are apart, in units of how far the
        generated latents are from the real estimate.
        """
        guidance = self.draw_guidance(like, draws)
        data = self.generated(generator, like, condition, guidance, draws)
        condition = condition.for_teacher
        time = self.draw_times(like, draws)
        z = interpolate(data, normal_like(like, draws), time)
        real = guided_teacher_velocity(teacher, z.detach(), time, guidance, condition)
        # One pass serves both: its velocity is taken as a constant, its verdict leads back to the generated latents.
        with without_weight_gradients(fake_score), torch.set_grad_enabled(self.adversarial_weight > 0):
            fake, scores = _answer(fake_score, z, time, condition, guidance)
        gradient = matching_gradient(data.detach(), z.detach(), time, real, fake.detach())
        loss = matching_loss(data, gradient)
        found = {"mismatch": gradient.abs().mean()}
        if self.adversarial_weight > 0:
            adversarial = F.softplus(-scores).mean()
            loss = loss + self.adversarial_weight * adversarial
            found["adversarial"] = adversarial.detach()
        return {"loss": loss, **found}


def _answer(
    fake_score: nn.Module, z: Tensor, time: Tensor, condition: Condition, guidance: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocity [B, L, C] and scores [B, P] of the fake-score network."""
    velocity, scores = fake_score(
        z,
        time,
        condition.tokens,
        condition.pooled,
        condition.seconds,
        guidance,
        text_mask=condition.text_mask,
    )
    return velocity, scores


class Dmd2Method:
    """DMD2 at work: the fake score steps at every step, the generator at the last of every ``fake_steps``."""

    classifier_free: bool = False

    def __init__(
        self, objective: Dmd2, generator: nn.Module, teacher: nn.Module, fake_score: nn.Module
    ) -> None:
        self.objective, self.generator, self.teacher = objective, generator, teacher
        self.fake_score = fake_score
        self.sampler: SamplerName = "euler" if objective.steps == 1 else "ping-pong"

    def modules(self) -> dict[str, nn.Module]:
        """The fake score with its classifier; the teacher is frozen and read anew at every start."""
        return {FAKE_SCORE: self.fake_score}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Fake score, then generator."""
        return {FAKE_SCORE: list(self.fake_score.parameters()), GENERATOR: list(self.generator.parameters())}

    def due(self, group: str, step: int) -> bool:
        """Two time scales."""
        return group == FAKE_SCORE or (step + 1) % self.objective.fake_steps == 0

    def losses(
        self, group: str, data: Tensor, condition: Condition, number: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one network."""
        if group == FAKE_SCORE:
            return self.objective.fake_losses(self.generator, self.fake_score, data, condition, generator)
        return self.objective.generator_losses(
            self.generator, self.teacher, self.fake_score, data, condition, generator
        )
