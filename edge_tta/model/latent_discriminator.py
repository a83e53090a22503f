"""Discriminators of latents, grown from a flow-matching generator.

The first blocks of a flow model know at every noise level what sound under a text looks like; a head over time turns
their hidden states into scores (adversarial diffusion distillation; ARC, Novack et al., 2025, arXiv 2505.08175, section
3: 75 % of the blocks). Nothing here is exported, so plain convolutions serve.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.model.generator import Generator

HEAD_STAGES = 4
"""Halvings of the length before the scores: one score for every 16 frames begun."""


def plain_generator(network: nn.Module) -> Generator:
    """The generator inside a compiled one, or the generator itself.

    Raises:
        TypeError: it is no generator.
    """
    found = getattr(network, "_orig_mod", network)
    if not isinstance(found, Generator):
        raise TypeError(f"a discriminator grows from a Generator, not from {type(found).__name__}")
    return found


def blocks_kept(generator: Generator, share: float) -> int:
    """Number of blocks, joint ones first, that make up ``share`` of all; at least one.

    Raises:
        ValueError: the share is not in 0..1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"depth_share must be above 0 and at most 1, got {share}")
    total = len(generator.joint_blocks) + len(generator.audio_blocks)
    return max(1, math.floor(share * total + 0.5))


@contextmanager
def without_weight_gradients(module: nn.Module) -> Iterator[None]:
    """Passes inside lead gradients to their inputs only: a judge that is not learning costs half as much to undo."""
    learning = [weight for weight in module.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in learning:
            weight.requires_grad_(True)


class ScoreHead(nn.Module):
    """Strided convolutions over time, float32 [B, L, width] -> scores [B, ceil(L / 16)], for any L from 1.

    The convolutions have kernel 3 and padding 1, so that the shortest sounds still leave one score.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # Groups of at least eight channels: after four halvings a group may be one frame long.
        groups = math.gcd(width, max(1, min(32, width // 8)))
        layers: list[nn.Module] = []
        for _ in range(HEAD_STAGES):
            layers += [
                nn.Conv1d(width, width, 3, stride=2, padding=1),
                nn.GroupNorm(groups, width),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores in float32, higher for real."""
        scores: Tensor = self.out(self.layers(hidden.transpose(1, 2)))
        return scores[:, 0].float()


class _NoModulation(nn.Module):
    """Stands where the generator modulates its last hidden states: they are normalised and nothing else."""

    def forward(self, condition: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
        zero = condition.new_zeros(())
        return zero, zero


def grow_trunk(source: Generator, share: float) -> Generator:
    """Trainable copy of a generator's embeddings and first blocks; it returns normalised hidden states [B, L, width].

    Later blocks, output layers and the null condition are left out: they would only be carried along.
    """
    kept = blocks_kept(source, share)
    trunk = copy.deepcopy(source).requires_grad_(True)
    joint = len(trunk.joint_blocks)
    trunk.joint_blocks = trunk.joint_blocks[:kept]
    trunk.audio_blocks = trunk.audio_blocks[: max(0, kept - joint)]
    trunk.out_modulation = _NoModulation()  # type: ignore[assignment]
    trunk.audio_out = nn.Identity()  # type: ignore[assignment]
    del trunk.null_tokens, trunk.null_pooled
    return trunk


class LatentDiscriminator(nn.Module):
    """Scores of noisy latents under a text, from a trunk of its own.

    Args:
        source: generator to grow from; it is copied and stays as it is.
        share: share of its blocks that are taken.

    Raises:
        TypeError: ``source`` is no generator.
        ValueError: the share is not in 0..1.
    """

    def __init__(self, source: nn.Module, share: float = 0.75) -> None:
        super().__init__()
        generator = plain_generator(source)
        self.trunk = grow_trunk(generator, share)
        self.head = ScoreHead(generator.config.width)

    def hidden(
        self,
        latent: Tensor,
        time: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Normalised hidden states after the last block, [B, L, width]."""
        states: Tensor = self.trunk(
            latent,
            time,
            torch.zeros_like(time),
            tokens,
            pooled,
            seconds,
            torch.ones_like(time),
            text_mask=text_mask,
        )
        return states

    def forward(
        self,
        latent: Tensor,
        time: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Judge noisy latents; the arguments are those of ``Generator.forward`` with duration 0 and guidance 1.

        Args:
            latent: float32 [B, L, C] at ``time``.
            time: float32 [B], t in 0..1.
            tokens: float32 [B, T, text_width].
            pooled: float32 [B, text_width].
            seconds: float32 [B].
            text_mask: bool [B, T], True where a token is real.

        Returns:
            Scores float32 [B, P], P = ceil(L / 16), higher for real.
        """
        scores: Tensor = self.head(self.hidden(latent, time, tokens, pooled, seconds, text_mask))
        return scores


class JudgingGenerator(nn.Module):
    """A flow-matching network with a score head on its own hidden states: DMD2's fake score and its classifier.

    Args:
        source: generator that is copied.
        share: share of its blocks below the head.

    Raises:
        TypeError: ``source`` is no generator.
        ValueError: the share is not in 0..1.
    """

    def __init__(self, source: nn.Module, share: float = 0.75) -> None:
        super().__init__()
        self.generator = copy.deepcopy(plain_generator(source)).requires_grad_(True)
        self.head = ScoreHead(self.generator.config.width)
        self._kept = blocks_kept(self.generator, share)

    def forward(
        self,
        latent: Tensor,
        time: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        seconds: Tensor,
        guidance: Tensor,
        text_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Velocity and verdict in one pass; the arguments are those of ``Generator.forward`` with duration 0.

        Returns:
            Instantaneous velocity [B, L, C] and scores float32 [B, P], P = ceil(L / 16), higher for real.
        """
        caught: list[Tensor] = []

        def catch(_: nn.Module, __: object, output: Tensor | tuple[Tensor, Tensor]) -> None:
            caught.append(output[0] if isinstance(output, tuple) else output)

        block = [*self.generator.joint_blocks, *self.generator.audio_blocks][self._kept - 1]
        handle = block.register_forward_hook(catch)
        try:
            velocity: Tensor = self.generator(
                latent,
                time,
                torch.zeros_like(time),
                tokens,
                pooled,
                seconds,
                guidance,
                text_mask=text_mask,
            )
        finally:
            handle.remove()
        return velocity, self.head(F.layer_norm(caught[0], caught[0].shape[-1:], eps=1e-6))
