"""Cached training examples of the generator: latents of assembled windows, and the text features of their captions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from torch import Tensor

from edge_tta.config import AudioSpec, ModelConfig
from edge_tta.errors import DataError
from edge_tta.flow.path import Condition
from edge_tta.model.codec import Codec
from edge_tta.train.caption_features import CaptionFeatures, whole_shape
from edge_tta.train.data.windows import WindowBuilder

NUM_CAPTIONS = 4
"""Wordings drawn for every window; training picks one at a time."""


def pad_to_hop(samples: NDArray[np.float32], hop: int) -> NDArray[np.float32]:
    """Zero-pad float32 [N] at the end to a multiple of ``hop``."""
    return np.pad(samples, (0, -len(samples) % hop))


@torch.no_grad()
def build_latent_shard(
    path: Path,
    builder: WindowBuilder,
    codec: Codec,
    audio: AudioSpec,
    count: int,
    seed: int,
    on_progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Assemble, encode and store ``count`` windows as ``path.npz`` data; window i depends on (seed, i) alone.

    Posterior means are stored unstandardised in float16, as frames of the codec: standardisation belongs to its
    statistics, stacking to the model that is trained.
    """
    latents, lengths, records = [], [], []
    for index in range(count):
        window = builder.draw(default_rng([seed, index]), NUM_CAPTIONS)
        waveform = torch.from_numpy(pad_to_hop(window.samples, audio.hop))[None, None]
        mean = codec.encoder(waveform.expand(1, audio.channels, -1)).mean[0]
        latents.append(mean.numpy().astype(np.float16))
        lengths.append(len(latents[-1]))
        seconds = len(window.samples) / audio.sample_rate
        records.append({"labels": window.labels, "captions": window.captions, "seconds": seconds})
        if on_progress is not None:
            on_progress(index + 1, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".tmp-{os.getpid()}")
    try:
        with part.open("wb") as stream:
            np.savez(
                stream,
                latents=np.concatenate(latents),
                lengths=np.array(lengths),
                records=np.frombuffer(json.dumps(records).encode(), dtype=np.uint8),
            )
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class Batch:
    """Latents of equal length with their conditions."""

    latents: Tensor
    """float32 [B, L, C], standardised."""
    condition: Condition
    labels: tuple[tuple[str, ...], ...]
    captions: tuple[str, ...]
    step: int
    """Step the batch was drawn for."""


class LatentSet(CaptionFeatures):
    """Windows of all shards in memory, with text features of every distinct caption.

    Args:
        shards: files written by ``build_latent_shard``.
        latent_mean: float32 [C], the codec's statistics.
        latent_std: float32 [C].
        model: what a latent frame lasts, and how many of the codec's it holds.

    Raises:
        DataError: no shards, one that cannot be read, or a window shorter than a latent frame.
    """

    def __init__(
        self, shards: list[Path], latent_mean: Tensor, latent_std: Tensor, model: ModelConfig
    ) -> None:
        super().__init__()
        if not shards:
            raise DataError("no latent shards; build them first")
        self.audio, self.mean, self.std = model.audio, latent_mean, latent_std
        self.stack = model.codec.stack
        pieces, lengths, self.records = [], [], []
        for shard in shards:
            try:
                with np.load(shard, allow_pickle=False) as data:
                    pieces.append(data["latents"])
                    lengths.append(data["lengths"])
                    self.records += json.loads(bytes(data["records"]).decode())
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{shard}: {error}") from error
        self.latents = np.concatenate(pieces)
        self.lengths = np.concatenate(lengths)
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        # Windows of a codec whose frames were not stacked may end in half a frame, which is left out.
        self.lengths = self.lengths // self.stack
        if not self.lengths.all():
            raise DataError(f"some windows are shorter than a latent frame of {self.stack} of the codec's")
        self.by_length = np.argsort(self.lengths, kind="stable")

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def captions(self) -> set[str]:
        """Every caption, once; ``encode`` has to be given them before a batch is drawn."""
        return {text for record in self.records for text in record["captions"]}

    def batch(self, seed: int, step: int, frames: int, max_frames: int | None = None) -> Batch:
        """A batch as a function of (seed, step): windows of neighbouring lengths, cut to the shortest of them.

        Args:
            seed: seed of the run.
            step: training step.
            frames: latent frames in the batch, about.
            max_frames: longest window used; longer ones are cut at the start of the window.
        """
        rng = default_rng([seed, step])
        start = int(rng.integers(len(self)))
        length = int(self.lengths[self.by_length[start]])
        if max_frames is not None:
            length = min(length, max_frames)
        # Kernels and compilers keep what they have built by shape: few shapes train much faster than many.
        length = whole_shape(length)
        count = max(4, round(frames / length))
        # Neighbours in length within a few times the batch, so that the same windows do not always meet.
        low = min(start, max(0, len(self) - count))
        pool = self.by_length[low : min(len(self), low + 4 * count)]
        chosen = rng.choice(pool, min(count, len(pool)), replace=False)
        length = whole_shape(min(length, int(self.lengths[chosen].min())))
        taken = length * self.stack
        rows = np.stack([self.latents[self.offsets[i] : self.offsets[i] + taken] for i in chosen])
        captions = tuple(
            self.records[i]["captions"][int(rng.integers(len(self.records[i]["captions"])))] for i in chosen
        )
        cut = length * self.audio.hop / self.audio.sample_rate
        seconds = torch.tensor([min(cut, self.records[i]["seconds"]) for i in chosen], dtype=torch.float32)
        latents = (torch.from_numpy(rows.astype(np.float32)) - self.mean) / self.std
        latents = latents.reshape(len(chosen), length, -1)
        labels = tuple(tuple(self.records[i]["labels"]) for i in chosen)
        return Batch(latents, self.condition(captions, seconds), labels, captions, step)
