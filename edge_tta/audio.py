"""Audio as a value, and its way to and from files."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import DataError, OutputError, RequestError

SUBTYPES = {"s16": "PCM_16", "f32": "FLOAT"}
FORMATS = {".wav": "WAV", ".flac": "FLAC"}


@dataclass(frozen=True, eq=False)
class Audio:
    """Finite float32 samples with their rate."""

    samples: NDArray[np.float32]
    """float32 [channels, frames], nominally in -1..1."""
    sample_rate: int
    """Hz."""

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            raise RequestError(
                f"audio must be float32 [channels, frames], got {self.samples.dtype} {self.samples.shape}"
            )
        if not np.isfinite(self.samples).all():
            raise RequestError("audio holds NaN or infinite samples")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[0])

    @property
    def frames(self) -> int:
        """Samples per channel."""
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate

    @property
    def peak(self) -> float:
        """Largest absolute sample."""
        return float(np.abs(self.samples).max()) if self.samples.size else 0.0

    def to_bytes(self, suffix: str = ".wav", subtype: str = "s16", comment: str = "") -> bytes:
        """The audio as a WAV or FLAC file.

        Args:
            suffix: ".wav" or ".flac".
            subtype: "s16" or "f32"; FLAC is always s16.
            comment: stored in the file's comment field if not empty.

        Raises:
            OutputError: unknown suffix or sample format.
        """
        import soundfile

        if suffix.lower() not in FORMATS:
            raise OutputError(f"cannot write '{suffix}' files; use {' or '.join(FORMATS)}")
        if subtype not in SUBTYPES:
            raise OutputError(f"unknown sample format '{subtype}'; use {' or '.join(SUBTYPES)}")
        kind = FORMATS[suffix.lower()]
        stored = SUBTYPES["s16" if kind == "FLAC" else subtype]
        data: NDArray[Any] = self.samples.T
        if stored == "PCM_16":
            data = np.clip(np.round(data * 32767.0), -32768, 32767).astype(np.int16)
        buffer = io.BytesIO()
        with soundfile.SoundFile(
            buffer, "w", self.sample_rate, self.channels, format=kind, subtype=stored
        ) as stream:
            if comment:
                stream.comment = comment
            stream.write(data)
        return buffer.getvalue()


def write_audio(audio: Audio, path: Path, subtype: str = "s16", comment: str = "") -> None:
    """Write a WAV or FLAC file atomically; on any failure nothing is left behind.

    Raises:
        OutputError: unknown suffix, missing or unwritable directory, full disk.
    """
    write_file(path, audio.to_bytes(path.suffix, subtype, comment))


def write_file(path: Path, data: bytes) -> None:
    """Write bytes to a temporary sibling, flush to disk and rename over ``path``.

    Raises:
        OutputError: one line with path and reason.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory")
    part = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        try:
            with part.open("wb") as stream:
                _write_all(stream, data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.ENOENT: f"the directory {path.parent} does not exist",
            errno.EACCES: "permission denied",
            errno.EROFS: "the file system is read-only",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write {path}: {reason}") from error


def _write_all(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())


def read_audio(path: Path) -> Audio:
    """Read any file libsndfile can, at its own rate and channel count.

    Raises:
        DataError: missing, unreadable, empty or not finite.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as audio ({error})") from error
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise DataError(f"{path}: holds no audio, or samples that are not finite")
    return Audio(np.ascontiguousarray(samples.T), int(rate))
