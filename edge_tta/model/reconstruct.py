"""A sound through the codec and back, to hear what the codec loses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tta.audio import Audio, read_audio, write_audio
from edge_tta.config import AudioSpec
from edge_tta.errors import ConfigError, DataError, MissingExtraError
from edge_tta.model.checkpoint import load_model_checkpoint
from edge_tta.model.codec import Codec

MAX_SECONDS = 120.0
"""Longer sounds are refused: the codec sees the whole sound at once."""


def reconstruct_file(source: Path, output: Path, checkpoint: Path) -> Audio:
    """Encode and decode one file.

    Args:
        source: any file libsndfile reads; resampled and mixed to what the codec takes.
        output: ".wav" or ".flac" file to write.
        checkpoint: model checkpoint directory that holds the codec.

    Returns:
        What was written: as long as the source, at the codec's rate.

    Raises:
        ConfigError: the checkpoint is missing or damaged.
        DataError: the source cannot be read, or is longer than 120 s.
        OutputError: the output cannot be written.
        MissingExtraError: the source has another rate and soxr is not installed.
    """
    codec, spec = _load(Path(checkpoint))
    audio = read_audio(Path(source))
    if audio.seconds > MAX_SECONDS:
        raise DataError(f"{source}: {audio.seconds:.0f} s long, at most {MAX_SECONDS:.0f} s are allowed")
    samples = reconstruct(codec, fit(audio, spec, Path(source)), spec)
    # The codec may overshoot a little where the source is at full scale.
    written = Audio(np.clip(samples, -1.0, 1.0), spec.sample_rate)
    write_audio(written, Path(output))
    return written


def open_codec(checkpoint: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from one channel float32 [N] at the codec's rate to its reconstruction [N].

    Raises:
        ConfigError: the checkpoint is missing or damaged.
    """
    codec, spec = _load(Path(checkpoint))

    def through(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        planes = np.tile(np.asarray(samples, dtype=np.float32)[None], (spec.channels, 1))
        return reconstruct(codec, planes, spec)[0]

    return through


def _load(checkpoint: Path) -> tuple[Codec, AudioSpec]:
    loaded = load_model_checkpoint(checkpoint, parts=("codec",))
    if loaded.codec is None:
        raise ConfigError(f"{checkpoint} has no codec")
    return loaded.codec, loaded.config.audio


def fit(audio: Audio, spec: AudioSpec, source: Path) -> NDArray[np.float32]:
    """Samples float32 [spec.channels, N] at the codec's rate."""
    samples = audio.samples
    if audio.channels != spec.channels:
        samples = np.tile(samples.mean(axis=0, keepdims=True, dtype=np.float32), (spec.channels, 1))
    if audio.sample_rate != spec.sample_rate:
        try:
            import soxr
        except ImportError as error:
            raise MissingExtraError("train", f"resampling {source}") from error
        samples = soxr.resample(samples.T, audio.sample_rate, spec.sample_rate, quality="HQ").T
    return np.ascontiguousarray(samples, dtype=np.float32)


def reconstruct(codec: Codec, samples: NDArray[np.float32], spec: AudioSpec) -> NDArray[np.float32]:
    """Through encoder (posterior mean) and decoder; float32 [channels, N] to the same shape."""
    frames = samples.shape[1]
    padded = np.pad(samples, ((0, 0), (0, -frames % spec.hop)))
    with torch.no_grad():
        waveform = codec.decode(codec.encode(torch.from_numpy(padded)[None]))[0]
    decoded: NDArray[np.float32] = waveform[:, :frames].numpy()
    return decoded
