"""From a trained checkpoint to sounds: prompts and noise to latents in batches, waveforms, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.acceleration.plan import SamplerKind
from edge_tta.errors import ConfigError
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.flow.path import Condition
from edge_tta.flow.ping_pong import ping_pong
from edge_tta.flow.sampler import sample
from edge_tta.flow.straightness import flow_straightness
from edge_tta.model.checkpoint import load_model_checkpoint
from edge_tta.noise import gaussian_noise
from edge_tta.text import Tokenizer
from edge_tta.train.batches import to_device

REPETITIONS = 5
"""Timed clips, after one that is not."""
STRAIGHTNESS_STEPS = 32
"""Euler steps along which S(z) is taken."""


@dataclass(frozen=True)
class Way:
    """How a generator is sampled."""

    sampler: SamplerKind
    guidance: float


@dataclass(frozen=True)
class Order:
    """Clips to make, one a row."""

    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float

    def chunks(self, size: int) -> Iterator[Order]:
        """The same clips, at most ``size`` at a time."""
        for start in range(0, len(self.texts), size):
            rows = slice(start, start + size)
            yield Order(self.texts[rows], self.seeds[rows], self.seconds)


class Subject:
    """Text encoder, generator and decoder of a checkpoint.

    Args:
        directory: checkpoint with all parts.
        device: where to compute.

    Raises:
        ConfigError: a part is missing or damaged.
    """

    def __init__(self, directory: Path, device: torch.device) -> None:
        loaded = load_model_checkpoint(directory)
        if loaded.tokenizer is None:
            raise ConfigError(f"{directory} has no tokenizer.model")
        assert loaded.text_encoder and loaded.generator and loaded.codec
        self.audio, self.device = loaded.config.audio, device
        self.encoder, self.codec = loaded.text_encoder, loaded.codec.to(device)
        self.generator = loaded.generator.to(device)
        self.tokenizer = Tokenizer.from_bytes(loaded.tokenizer, loaded.config.text_encoder.max_tokens)
        self._features: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def condition(self, order: Order) -> Condition:
        """What the generator is told of every clip, on the device; texts are encoded once."""
        for text in order.texts:
            if text not in self._features:
                ids = torch.tensor(self.tokenizer.encode(text).ids.tolist(), dtype=torch.int64)[None]
                tokens, pooled = self.encoder(ids, torch.ones_like(ids, dtype=torch.bool))
                self._features[text] = tokens[0], pooled[0]
        rows = [self._features[text] for text in order.texts]
        lengths = torch.tensor([len(tokens) for tokens, _ in rows])
        padded = torch.nn.utils.rnn.pad_sequence([tokens for tokens, _ in rows], batch_first=True)
        condition = Condition(
            padded,
            torch.stack([pooled for _, pooled in rows]),
            torch.arange(padded.shape[1]) < lengths[:, None],
            torch.full((len(rows),), order.seconds),
        )
        moved: Condition = to_device(condition, self.device)
        return moved

    def noise(self, order: Order, stream: int = 0) -> Tensor:
        """Noise float32 [B, L, C]: of seed, stream and place alone, as on a device."""
        shape = self.audio.latent_frames(order.seconds), self.audio.latent_channels
        rows = [torch.from_numpy(gaussian_noise(seed, shape, stream)) for seed in order.seeds]
        return torch.stack(rows).to(self.device)

    def latents(self, order: Order, steps: int, way: Way) -> Tensor:
        """Latents float32 [B, L, C]."""
        noise, condition = self.noise(order), self.condition(order)
        if way.sampler == "ping-pong":
            # A stream for every step: a clip does not depend on those beside it.
            return ping_pong(
                self.generator,
                noise,
                condition,
                steps,
                lambda step: self.noise(order, stream=step),
                way.guidance,
            )
        free = way.sampler == "classifier-free"
        return sample(self.generator, noise, condition, steps, way.guidance, classifier_free=free)

    @torch.no_grad()
    def waveforms(self, latents: Tensor, seconds: float) -> list[FloatArray]:
        """One channel float32 [frames] of every latent; two channels are averaged."""
        frames = self.audio.num_samples(seconds)
        decoded = self.codec.decode(latents)[..., :frames].mean(dim=1).cpu().numpy()
        return [np.ascontiguousarray(row, dtype=np.float32) for row in decoded]

    def make(self, order: Order, steps: int, way: Way, batch: int) -> list[FloatArray]:
        """Waveforms of all clips, ``batch`` of them at a time."""
        made: list[FloatArray] = []
        for part in order.chunks(batch):
            made += self.waveforms(self.latents(part, steps, way), part.seconds)
        return made

    def seconds_per_clip(self, order: Order, steps: int, way: Way) -> list[float]:
        """Seconds from noise to waveform of single clips, text features known, after one that warms up."""
        taken = []
        for part in [part for part, _ in zip(_endless(order), range(REPETITIONS + 1), strict=False)]:
            self.condition(part)
            begun = time.perf_counter()
            self.waveforms(self.latents(part, steps, way), part.seconds)
            taken.append(time.perf_counter() - begun)
        return taken[1:]

    def straightness(self, order: Order, way: Way, batch: int) -> list[float]:
        """S(z) of every clip along its own trajectory, guided as in sampling."""
        found: list[float] = []
        for part in order.chunks(batch):
            noise = self.noise(part)
            scale = torch.full((len(part.texts),), way.guidance, device=self.device)
            free = way.sampler == "classifier-free"
            rows = flow_straightness(
                self.generator, noise, self.condition(part), scale, free, STRAIGHTNESS_STEPS
            )
            found += rows.cpu().tolist()
        return found


def _endless(order: Order) -> Iterator[Order]:
    """Single clips, over and over."""
    while order.texts:
        yield from order.chunks(1)


def device_of(name: str) -> tuple[torch.device, str]:
    """A device and the name it is recorded by; "auto" is an accelerator where there is one.

    Raises:
        ConfigError: torch knows no such device, or it is not there.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{name}': {str(error).splitlines()[0]}") from error
    return device, torch.cuda.get_device_name(device) if device.type == "cuda" else ""
