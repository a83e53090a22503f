"""Cached training examples of the generator: latents of assembled windows, and the text features of their captions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor

from edge_tta.config import AudioSpec, ModelConfig, dict_digest
from edge_tta.errors import DataError
from edge_tta.flow.path import Condition
from edge_tta.model.codec import Codec
from edge_tta.train.caption_features import CaptionFeatures, whole_shape
from edge_tta.train.data.windows import WindowBuilder

NUM_CAPTIONS = 4
"""Wordings drawn for every window; training picks one at a time."""
AUDIBLE_SECONDS = 0.3
"""A sound of which a window has less left after its cut is not named."""


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
    seed: Sequence[int],
    on_progress: Callable[[int, int], Any] | None = None,
) -> None:
    """Assemble, encode and store ``count`` windows as ``path.npz`` data; window i depends on (*seed, i) alone.

    Posterior means are stored unstandardised in float16, as frames of the codec: standardisation belongs to its
    statistics, stacking to the model that is trained.
    """
    latents, lengths, records = [], [], []
    for index in range(count):
        window = builder.draw(default_rng([*seed, index]), NUM_CAPTIONS)
        waveform = torch.from_numpy(pad_to_hop(window.samples, audio.hop))[None, None]
        mean = codec.encoder(waveform.expand(1, audio.channels, -1)).mean[0]
        latents.append(mean.numpy().astype(np.float16))
        lengths.append(len(latents[-1]))
        seconds = len(window.samples) / audio.sample_rate
        record = {"labels": window.labels, "captions": window.captions, "seconds": seconds}
        if window.alone:
            record |= {"begins": window.begins, "alone": window.alone}
        records.append(record)
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


def windows_in(shard: Path) -> int:
    """How many windows a shard holds.

    Raises:
        DataError: it cannot be read.
    """
    return len(_read(shard, "lengths")[0])


def seconds_in(shard: Path) -> list[float]:
    """Length of every window of a shard.

    Raises:
        DataError: it cannot be read.
    """
    return [record["seconds"] for record in _records(shard, _read(shard, "records")[0])]


def _records(shard: Path, stored: NDArray[Any]) -> list[dict[str, Any]]:
    try:
        records: list[dict[str, Any]] = json.loads(bytes(stored).decode())
    except ValueError as error:
        raise DataError(f"{shard}: damaged records ({error})") from error
    return records


def _read(shard: Path, *names: str) -> list[NDArray[Any]]:
    """Arrays of a shard."""
    try:
        with np.load(shard, allow_pickle=False) as data:
            return [data[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{shard}: {error}") from error


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
        count: the first so many windows are used; None for all.
        source: digest of what the windows were drawn from; empty where the shards do not say.

    Raises:
        DataError: no shards, one that cannot be read, or a window shorter than a latent frame.
    """

    def __init__(
        self,
        shards: list[Path],
        latent_mean: Tensor,
        latent_std: Tensor,
        model: ModelConfig,
        count: int | None = None,
        source: str = "",
    ) -> None:
        super().__init__()
        if not shards:
            raise DataError("no latent shards; build them first")
        self.audio, self.mean, self.std = model.audio, latent_mean, latent_std
        self.stack = model.codec.stack
        pieces, lengths = [], []
        self.records: list[dict[str, Any]] = []
        for shard in shards:
            values, own, records = _read(shard, "latents", "lengths", "records")
            pieces.append(values)
            lengths.append(own)
            self.records += _records(shard, records)
        self.latents = np.concatenate(pieces)
        self.lengths, self.records = np.concatenate(lengths)[:count], self.records[:count]
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        # Windows of a codec whose frames were not stacked may end in half a frame, which is left out.
        self.lengths = self.lengths // self.stack
        if not self.lengths.all():
            raise DataError(f"some windows are shorter than a latent frame of {self.stack} of the codec's")
        self.by_length = np.argsort(self.lengths, kind="stable")
        self.digest = dict_digest({"source": source, "windows": len(self)}) if source else ""
        """SHA-256 of which windows these are, wherever they were encoded; empty where that is not known."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def captions(self) -> set[str]:
        """Every caption, once; ``encode`` has to be given them before a batch is drawn."""
        return {
            text
            for record in self.records
            for wordings in (record["captions"], *record.get("alone", ()))
            for text in wordings
        }

    def batch(self, seed: int, step: int, frames: int, max_frames: int | None = None) -> Batch:
        """A batch as a function of (seed, step): windows of neighbouring lengths, cut to the shortest of them.

        A mixture of which the cut leaves one sound is told as that sound alone.

        Args:
            seed: seed of the run.
            step: training step.
            frames: latent frames in the batch, about.
            max_frames: longest window used; longer ones are cut at the start of the window.
        """
        rng = default_rng([seed, step])
        pool, length, count = self._part(rng, frames, max_frames)
        chosen = rng.choice(pool, min(count, len(pool)), replace=False)
        taken = length * self.stack
        rows = np.stack([self.latents[self.offsets[i] : self.offsets[i] + taken] for i in chosen])
        cut = length * self.audio.hop / self.audio.sample_rate
        seconds = torch.tensor([min(cut, self.records[i]["seconds"]) for i in chosen], dtype=torch.float32)
        told = [heard(self.records[i], cut) for i in chosen]
        captions = tuple(wordings[int(rng.integers(len(wordings)))] for _, wordings in told)
        latents = (torch.from_numpy(rows.astype(np.float32)) - self.mean) / self.std
        latents = latents.reshape(len(chosen), length, -1)
        labels = tuple(tuple(own) for own, _ in told)
        return Batch(latents, self.condition(captions, seconds), labels, captions, step)

    def _part(
        self, rng: Generator, frames: int, max_frames: int | None
    ) -> tuple[NDArray[np.int64], int, int]:
        """Windows of neighbouring lengths, the length they are cut to, and how many of them make a batch.

        Windows in the order of their lengths are parted anew for every batch, so that the same ones do not always meet.
        A part holds a few batches and is drawn as often as it is long: all windows weigh the same, however short.
        """
        start, share = int(rng.integers(len(self))), float(rng.random())
        low = 0
        while True:
            length = int(self.lengths[self.by_length[low]])
            if max_frames is not None:
                length = min(length, max_frames)
            # Kernels and compilers keep what they have built by shape: few shapes train much faster than many.
            length = whole_shape(length)
            count = max(4, round(frames / length))
            high = low + max(count, round(share * 4 * count))
            if high > len(self) - count:
                high = len(self)
            if start < high:
                return self.by_length[low:high], length, count
            low, share = high, 1.0


def heard(record: dict[str, Any], seconds: float) -> tuple[list[str], list[str]]:
    """Labels and wordings of a window of which only the first ``seconds`` are taken.

    Shards of earlier releases do not say when the sounds of a mixture begin; these are told whole.
    """
    audible = [
        index for index, begin in enumerate(record.get("begins", ())) if begin + AUDIBLE_SECONDS <= seconds
    ]
    if len(audible) != 1:
        return record["labels"], record["captions"]
    return [record["labels"][audible[0]]], record["alone"][audible[0]]
