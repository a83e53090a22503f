"""Adversarial relativistic-contrastive post-training: few steps without a teacher's answers.

ARC (Novack et al., "Fast text-to-audio generation with adversarial post-training", 2025, arXiv 2505.08175, section 3).
The generator jumps from any time t to clean latents, x^ = z_t - t u(z_t, 0, t). A discriminator D grown from the flow
model sees real and generated latents of one prompt c, brought to one noise level s with one noise, and scores realness:

    discriminator   softplus(-(D(real, c) - D(fake, c))) + w softplus(-(D(real, c) - D(real, P[c])))
    generator       softplus(D(real, c) - D(fake, c))

The first pair is relativistic (Jolicoeur-Martineau, 2018): a fake is compared with the real sound of its own prompt.
The second term is contrastive: real sound must score higher under its own prompt than under another one, which keeps
generated sound to its prompt without classifier-free guidance. Differences are taken per score and then averaged.
P is a permutation of the batch that gives no item its own caption, or one that reads the same in plain words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.flow.log_snr import LogSnrUniform, ShiftedLogitNormal
from edge_tta.flow.objectives.method import GENERATOR, Method, SamplerName
from edge_tta.flow.path import Condition, interpolate, joined, normal_like
from edge_tta.flow.ping_pong import denoise
from edge_tta.flow.times import LogitNormal, Uniform
from edge_tta.model.latent_discriminator import LatentDiscriminator, without_weight_gradients
from edge_tta.ranges import COUNT, NOT_NEGATIVE, SHARE, Range, require_ranges

DISCRIMINATOR = "discriminator"
"""Name of the discriminator and its optimiser."""

ArcTimes = LogSnrUniform | ShiftedLogitNormal | LogitNormal | Uniform


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic loss of the discriminator, scalar: falls when real scores [B, P] rise above fake ones [B, P]."""
    return F.softplus(fake - real).mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic loss of the generator in its form that does not saturate, scalar: falls when fake scores rise."""
    return F.softplus(real - fake).mean()


def contrastive_loss(real: Tensor, mismatched: Tensor, valid: Tensor) -> Tensor:
    """Loss of real sound under a wrong prompt, scalar; zero when no row is valid.

    Args:
        real: scores [B, P] under the right prompt.
        mismatched: scores [B, P] under another.
        valid: bool [B], False where the other prompt is the same after all.
    """
    rows = F.softplus(mismatched - real).mean(dim=1)
    return (rows * valid).sum() / valid.sum().clamp(min=1)


def text_classes(condition: Condition) -> Tensor:
    """Number of the text of every row, int64 [B] on the CPU: equal where all features of the plain words are equal.

    Disturbed features of one caption, and free wordings of one label, are one text.
    """
    condition = condition.for_teacher
    tokens = condition.tokens * condition.text_mask[..., None]
    # Pooled vectors first: rows are told apart by their first difference.
    rows = torch.cat([condition.pooled, tokens.flatten(1)], dim=1)
    return torch.unique(rows.cpu(), dim=0, return_inverse=True)[1]


def derange(classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random permutation that maps no row to one of its own class, as far as that is possible.

    Rows are lined up class by class in random order and the line is turned by at least the size of the largest class,
    and at most the size of all others. Where one class holds more than half of the rows, as few rows as possible, all
    of that class, stay with their own.

    Args:
        classes: int64 [B].
        generator: source of randomness.

    Returns:
        Permutation int64 [B], and bool [B], True where row and partner are of different classes.
    """
    count = classes.shape[0]
    largest = int(torch.bincount(classes).max())
    order = torch.randperm(int(classes.max()) + 1, generator=generator)[classes]
    mixed = torch.randperm(count, generator=generator)
    line = mixed[torch.argsort(order[mixed], stable=True)]
    turn = largest
    if 2 * largest < count:
        turn = int(torch.randint(largest, count - largest + 1, (), generator=generator))
    partner = torch.empty_like(line)
    partner[line] = line.roll(-turn)
    return partner, classes[partner] != classes


def judge(discriminator: nn.Module, latent: Tensor, time: Tensor, condition: Condition) -> Tensor:
    """Scores float32 [B, P] of noisy latents [B, L, C]."""
    scores: Tensor = discriminator(
        latent, time, condition.tokens, condition.pooled, condition.seconds, text_mask=condition.text_mask
    )
    return scores


@dataclass(frozen=True)
class Arc:
    """Adversarial relativistic-contrastive post-training of a flow-matching generator."""

    generator_times: ArcTimes = field(default_factory=LogSnrUniform)
    """Distribution of the times the generator jumps from; the range of the sampler's grid."""
    discriminator_times: ArcTimes = field(default_factory=lambda: ShiftedLogitNormal(-6.0, 6.0, 0.35))
    """Distribution of the noise levels of the comparison; leans to cleaner latents, median t = 0.26."""
    contrastive_weight: float = 1.0
    """Weight of the contrastive term."""
    null_share: float = 0.1
    """Share of rows that the generator makes without text, in its own step only; they are judged under their text."""
    guidance: float = 1.0
    """Guidance input of the generator in training, and so at sampling."""
    depth_share: float = 0.75
    """Share of the flow model's blocks that the discriminator grows from."""
    discriminator_steps: int = 1
    """Steps of the discriminator for one of the generator."""
    penalty_weight: float = 0.0
    """Weight of the approximate R1 and R2 penalties; 0 leaves them and their two passes out."""
    penalty_sigma: float = 0.05
    """Standard deviation of the perturbation whose effect on the scores is penalised."""

    def __post_init__(self) -> None:
        require_ranges(self, contrastive_weight=NOT_NEGATIVE, null_share=SHARE, guidance=NOT_NEGATIVE)
        require_ranges(self, depth_share=Range(0, 1, above_low=True), discriminator_steps=COUNT)
        require_ranges(self, penalty_weight=NOT_NEGATIVE, penalty_sigma=NOT_NEGATIVE)

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Grow the discriminator from the teacher, or from the generator as it stands, and train the two."""
        source = generator if teacher is None else teacher
        return ArcMethod(self, generator, LatentDiscriminator(source, self.depth_share))

    def denoised(
        self,
        generator: nn.Module,
        data: Tensor,
        condition: Condition,
        draws: torch.Generator,
        drop: Tensor | None,
    ) -> Tensor:
        """Clean latents that the generator makes of noisy data, float32 [B, L, C]."""
        time = self.generator_times.sample(data.shape[0], draws).to(data.device)
        noisy = interpolate(data, normal_like(data, draws), time)
        return denoise(generator, noisy, time, condition, torch.full_like(time, self.guidance), drop)

    def discriminator_losses(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        data: Tensor,
        condition: Condition,
        draws: torch.Generator,
    ) -> dict[str, Tensor]:
        """Losses of the discriminator on latents float32 [B, L, C]; one pass, three rows per item, five with R1 and R2.

        ``gap`` is the mean score of real latents less that of fake ones.
        """
        with torch.no_grad():
            fake = self.denoised(generator, data, condition, draws, drop=None)
        level = self.discriminator_times.sample(data.shape[0], draws).to(data.device)
        noise = normal_like(data, draws)
        real_noisy, fake_noisy = interpolate(data, noise, level), interpolate(fake, noise, level)
        partner, valid = (part.to(data.device) for part in derange(text_classes(condition), draws))
        other = condition.rows(partner)
        # Seconds belong to the sound: only the text is exchanged.
        wrong = Condition(other.tokens, other.pooled, other.text_mask, condition.seconds)
        latents, texts = [real_noisy, fake_noisy, real_noisy], [condition, condition, wrong]
        if self.penalty_weight > 0:
            latents += [part + self.penalty_sigma * normal_like(part, draws) for part in latents[:2]]
            texts += [condition, condition]
        scores = judge(discriminator, torch.cat(latents), level.repeat(len(latents)), joined(*texts))
        real_scores, fake_scores, wrong_scores, *moved = scores.chunk(len(latents))
        relativistic = discriminator_loss(real_scores, fake_scores)
        contrastive = contrastive_loss(real_scores, wrong_scores, valid)
        loss = relativistic + self.contrastive_weight * contrastive
        found = {"relativistic": relativistic.detach(), "contrastive": contrastive.detach()}
        if moved:
            penalty = approximate_penalty((real_scores, fake_scores), (moved[0], moved[1]))
            loss = loss + self.penalty_weight * penalty
            found["penalty"] = penalty.detach()
        return {"loss": loss, **found, "gap": (real_scores - fake_scores).detach().mean()}

    def generator_losses(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        data: Tensor,
        condition: Condition,
        draws: torch.Generator,
    ) -> dict[str, Tensor]:
        """Loss of the generator on latents float32 [B, L, C]; the discriminator's weights gather no gradients."""
        drop = (torch.rand(data.shape[0], generator=draws) < self.null_share).to(data.device)
        fake = self.denoised(generator, data, condition, draws, drop)
        level = self.discriminator_times.sample(data.shape[0], draws).to(data.device)
        noise = normal_like(data, draws)
        with torch.no_grad():
            real_scores = judge(discriminator, interpolate(data, noise, level), level, condition)
        with without_weight_gradients(discriminator):
            fake_scores = judge(discriminator, interpolate(fake, noise, level), level, condition)
        error = (fake - data).detach().square().mean()
        return {"loss": generator_loss(real_scores, fake_scores), "squared_error": error}


def approximate_penalty(scores: tuple[Tensor, Tensor], moved: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared change of real (R1) and fake (R2) scores under a small perturbation of what is judged, scalar.

    Stands for the squared gradient norms of R3GAN (Huang et al., 2024) without second derivatives, as in Seaweed-APT
    (Lin et al., 2025, arXiv 2501.08316, section 3.4).
    """
    return torch.stack([(new - old).square().mean() for old, new in zip(scores, moved, strict=True)]).mean()


class ArcMethod:
    """ARC at work: by default both optimisers step at every step, on the same batch, the discriminator first.

    Published code alternates and counts both kinds of steps: 100 of its steps are 50 of these. Both learn at the loop's
    one rate.
    """

    sampler: SamplerName = "ping-pong"
    classifier_free: bool = False

    def __init__(self, objective: Arc, generator: nn.Module, discriminator: nn.Module) -> None:
        self.objective, self.generator, self.discriminator = objective, generator, discriminator

    def modules(self) -> dict[str, nn.Module]:
        """The discriminator."""
        return {DISCRIMINATOR: self.discriminator}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Discriminator, then generator."""
        return {
            DISCRIMINATOR: list(self.discriminator.parameters()),
            GENERATOR: list(self.generator.parameters()),
        }

    def due(self, group: str, step: int) -> bool:
        """The generator at the last of every ``discriminator_steps`` steps."""
        return group == DISCRIMINATOR or (step + 1) % self.objective.discriminator_steps == 0

    def losses(
        self, group: str, data: Tensor, condition: Condition, number: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of one side."""
        losses = (
            self.objective.discriminator_losses if group == DISCRIMINATOR else self.objective.generator_losses
        )
        return losses(self.generator, self.discriminator, data, condition, generator)
