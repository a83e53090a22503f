"""Decoding of any WAV, FLAC, Ogg Vorbis or Opus file to mono float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import DataError, MissingExtraError

MAX_SECONDS = 3600.0
"""Longer files are refused: a broken header must not allocate the machine away."""


def seconds_of(path: Path) -> float:
    """Length of a file by its header, without decoding it.

    Raises:
        DataError: not there, unreadable, empty or too long; the message names the file.
    """
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: is not there")
    try:
        with soundfile.SoundFile(path) as stream:
            frames, rate = stream.frames, stream.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be decoded ({error})") from error
    if frames == 0:
        raise DataError(f"{path}: holds no audio")
    if frames > MAX_SECONDS * rate:
        raise DataError(f"{path}: longer than {MAX_SECONDS:.0f} s")
    return float(frames / rate)


def decode_mono(
    path: Path, sample_rate: int, *, max_seconds: float | None = None, extra: str = "train"
) -> NDArray[np.float32]:
    """Decode a file to mono at a rate.

    Args:
        path: audio file libsndfile can read.
        sample_rate: wanted rate, Hz.
        max_seconds: read no more than this from the beginning; None for the whole file.
        extra: what brings the resampler; named where it is missing.

    Returns:
        float32 [N], channels averaged, finite.

    Raises:
        DataError: unreadable, empty, too long or not finite; the message names the file.
        MissingExtraError: the resampler is needed and absent.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as stream:
            rate = stream.samplerate
            if max_seconds is None and stream.frames > MAX_SECONDS * rate:
                raise DataError(f"{path}: longer than {MAX_SECONDS:.0f} s")
            frames = -1 if max_seconds is None else int(max_seconds * rate)
            samples = stream.read(frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be decoded ({error})") from error
    if len(samples) == 0:
        raise DataError(f"{path}: holds no audio")
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds NaN or infinite samples")
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if rate != sample_rate:
        try:
            import soxr
        except ImportError as error:
            raise MissingExtraError(extra, "resampling") from error
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ").astype(np.float32)
    return mono
