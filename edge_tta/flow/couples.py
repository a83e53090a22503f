"""Couples of noise and the data that a teacher's ODE makes of it: what reflow and one-step distillation learn from.

A couple is deterministic, so noise and data are never paired anew, not even within a batch. Guided simulation leaves
the teacher's own trajectory; *anchored optimisation* (FlashAudio, arXiv 2410.12266) holds it near: at every guided step
the null embedding, and nothing else, is moved so that the step ends nearer to the unguided trajectory, the pivot. This
is null-text inversion (Mokady et al., 2023) turned from inverting to making. Its optimum is no guidance at all, since
v(null) = v(c) is the nearest there is: iterations, learning rate and tolerance together set how much guidance is left.
``drift`` tells; a drift near zero is an expensive unguided couple.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Generator, Tensor, nn

from edge_tta.config import to_dict
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.flow.objectives.mean_flow import guided_teacher_velocity
from edge_tta.flow.path import Condition, normal_like, per_row
from edge_tta.model.checkpoint import write_atomically


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
        if (
            self.iterations < 0
            or min(self.learning_rate, self.decay, self.tolerance, self.tolerance_growth) < 0
        ):
            raise ConfigError("anchoring: no setting may be negative")


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
    found: Tensor = model(
        z,
        time,
        duration,
        condition.tokens,
        condition.pooled,
        condition.seconds,
        guidance,
        text_mask=condition.text_mask,
    )
    return found


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
        if self.steps < 1:
            raise ConfigError(f"simulation: steps {self.steps} is out of range: it must be at least 1")
        if not 0 <= self.min_guidance <= self.max_guidance:
            raise ConfigError(
                f"simulation: guidance from {self.min_guidance:g} to {self.max_guidance:g} is no range of scales"
            )
        if self.anchoring is not None and not self.classifier_free:
            raise ConfigError("simulation: anchoring needs classifier_free, it moves the null embedding")

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
        anchoring, width, count = self.anchoring, 1 / self.steps, len(noise)
        z = pivot = noise
        null = None if anchoring is None else null_condition(teacher, condition.seconds)
        over, one = noise.new_full((count,), width), noise.new_ones(count)
        has_pivot = measure_drift or anchoring is not None
        # Couples are made once and learnt from often: they are not rounded to bf16 on the way.
        with torch.autocast(noise.device.type, enabled=False):
            for step in range(self.steps):
                time = noise.new_full((count,), 1 - step / self.steps)
                if has_pivot:
                    # Flow matching knows the duration 0 alone.
                    span = torch.zeros_like(over) if self.classifier_free else over
                    pivot = pivot - width * velocity_of(teacher, pivot, time, span, one, condition, False)
                if anchoring is not None and null is not None:
                    z, null = anchored_step(
                        teacher, z, pivot, time, width, guidance, condition, null, anchoring, step
                    )
                else:
                    z = z - width * velocity_of(
                        teacher, z, time, over, guidance, condition, self.classifier_free
                    )
        distance = (z - pivot).flatten(1).norm(dim=1) / pivot.flatten(1).norm(dim=1)
        return Couples(noise, z, guidance, distance if has_pivot else torch.full_like(distance, torch.nan))

    def draw(self, teacher: nn.Module, like: Tensor, condition: Condition, generator: Generator) -> Couples:
        """Couples of fresh noise, shaped like latents [B, L, C] on their device."""
        noise = normal_like(like, generator)
        return self.run(teacher, noise, condition, self.draw_guidance(len(like), generator).to(like.device))

    def by_number(self, teacher: nn.Module) -> Callable[[Tensor, Condition, int], Couples]:
        """Couples of numbered batches, shaped like their latents, kept as long as the same batch comes again."""
        kept: dict[int, Couples] = {}

        def couples(like: Tensor, condition: Condition, number: int) -> Couples:
            if number not in kept:
                kept.clear()
                # The number alone decides the draws, so that a run resumed in the middle of a reuse goes on exactly.
                own = Generator().manual_seed(2**40 + number)
                kept[number] = self.draw(teacher, like, condition, own)
            return kept[number]

        return couples


@dataclass(frozen=True)
class StoredCouples:
    """Couples of one length, and what they were made for."""

    couples: Couples
    captions: tuple[str, ...]
    seconds: Tensor
    """float32 [B], duration in seconds."""


def digest_of(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors on the CPU, hexadecimal; the order does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_couple_shard(
    path: Path,
    teacher: nn.Module,
    simulation: Simulation,
    batches: Iterable[tuple[Sequence[str], Tensor, Condition]],
    seed: int,
) -> None:
    """Simulate couples and store them as one safetensors file: whole, or not at all.

    Latents are stored in float16. The noise is rounded before the simulation, so that it is exactly where the ODE
    began; batch i depends on (seed, i) alone.

    Args:
        path: file to write.
        teacher: frozen generator.
        simulation: how couples are made.
        batches: captions, latents [B, L, C] of which only shape and device count, and condition.
        seed: of the noise and the guidance scales.

    Raises:
        DataError: no batches.
        OutputError: the file cannot be written.
    """
    made: list[StoredCouples] = []
    for index, (captions, like, condition) in enumerate(batches):
        own = Generator().manual_seed(seed * 2**20 + index)
        noise = normal_like(like, own).half().float()
        guidance = simulation.draw_guidance(len(like), own).to(like.device)
        # A teacher that has its guidance as an input need not know the scale 1 of the pivot.
        couples = simulation.run(teacher, noise, condition, guidance, simulation.classifier_free)
        made.append(StoredCouples(couples, tuple(captions), condition.seconds))
    if not made:
        raise DataError(f"{path}: no batches to make couples for")
    weights = {name: weight.detach().cpu() for name, weight in teacher.state_dict().items()}
    records = [
        {"caption": caption, "seconds": seconds}
        for batch in made
        for caption, seconds in zip(batch.captions, batch.seconds.tolist(), strict=True)
    ]
    document = {
        "records": records,
        "simulation": to_dict(simulation),
        "seed": seed,
        "teacher_sha256": digest_of(weights),
    }
    parts = [batch.couples for batch in made]
    tensors = {
        "noise": torch.cat([part.noise.flatten(0, 1) for part in parts]).half().cpu(),
        "data": torch.cat([part.data.flatten(0, 1) for part in parts]).half().cpu(),
        "lengths": torch.tensor([part.noise.shape[1] for part in parts for _ in part.noise]),
        "guidance": torch.cat([part.guidance for part in parts]).cpu(),
        "drift": torch.cat([part.drift for part in parts]).cpu(),
        "document": torch.frombuffer(bytearray(json.dumps(document).encode()), dtype=torch.uint8),
    }
    tensors["sha256"] = torch.frombuffer(bytearray.fromhex(digest_of(tensors)), dtype=torch.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def read_couple_shard(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and document of a shard.

    Raises:
        DataError: the file is missing, cut short, damaged, or no shard of couples.
    """
    try:
        tensors = load(path.read_bytes())
        found = tensors.pop("sha256")
        whole = bytes(found.numpy()).hex() == digest_of(tensors)
        document = json.loads(bytes(tensors["document"].numpy())) if whole else {}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no shard of couples ({error}); build it again") from error
    if not whole:
        raise DataError(f"{path}: its digest does not match, the file is damaged; build it again")
    return tensors, document


class CoupleSet:
    """Couples of all shards in memory.

    Args:
        shards: files written by ``build_couple_shard``.

    Raises:
        DataError: no shards, or one that cannot be read.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        if not shards:
            raise DataError("no shards of couples; build them first")
        read = [read_couple_shard(path) for path in shards]
        self.records = [record for _, document in read for record in document["records"]]
        self.noise, self.data, self.lengths, self.guidance, self.drift = (
            torch.cat([tensors[name] for tensors, _ in read])
            for name in ("noise", "data", "lengths", "guidance", "drift")
        )
        self.offsets = (self.lengths.cumsum(0) - self.lengths).tolist()

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Sequence[int]) -> StoredCouples:
        """Chosen couples of one length, whole: the ODE of a longer latent is not that of its beginning."""
        length = int(self.lengths[indices[0]])
        spans = [slice(self.offsets[index], self.offsets[index] + length) for index in indices]
        noise, data = (
            torch.stack([part[span] for span in spans]).float() for part in (self.noise, self.data)
        )
        chosen = torch.tensor(indices)
        couples = Couples(noise, data, self.guidance[chosen], self.drift[chosen])
        records = [self.records[index] for index in indices]
        seconds = torch.tensor([record["seconds"] for record in records], dtype=torch.float32)
        return StoredCouples(couples, tuple(record["caption"] for record in records), seconds)

    def batch(self, seed: int, step: int, frames: int) -> StoredCouples:
        """Couples of equal length, about ``frames`` latent frames together, as a function of (seed, step)."""
        rng = default_rng([seed, step])
        lengths = self.lengths.numpy()
        length = int(lengths[rng.integers(len(lengths))])
        pool = np.flatnonzero(lengths == length)
        count = max(1, min(len(pool), round(frames / length)))
        return self.rows(rng.choice(pool, count, replace=False).tolist())
