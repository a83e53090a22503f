"""Audio as a value, and its way to and from files."""

from __future__ import annotations

import io
import numbers
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import DataError, OutputError, RequestError
from edge_tta.files import write_file

SUBTYPES = {"s16": "PCM_16", "f32": "FLOAT"}
FORMATS = {".wav": "WAV", ".flac": "FLAC"}

MAX_SAMPLES = 2**28
"""Most samples of all channels that ``read_audio`` takes: 1 GiB as float32, an hour and 41 minutes of 44.1 kHz mono."""


MAX_COMMENT_BYTES = 32768
"""Longest comment in a file, UTF-8: libsndfile drops much longer ones without a word."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Finite float32 samples with their rate."""

    samples: NDArray[np.float32]
    """float32 [channels, frames], nominally in -1..1."""
    sample_rate: int
    """Hz."""

    def __post_init__(self) -> None:
        if not isinstance(self.samples, np.ndarray):
            raise RequestError(f"samples of audio must be a NumPy array, got {type(self.samples).__name__}")
        if self.samples.ndim != 2 or self.samples.dtype != np.float32 or len(self.samples) == 0:
            raise RequestError(
                f"audio must be float32 [channels, frames], got {self.samples.dtype} {self.samples.shape}"
            )
        rate = self.sample_rate
        if isinstance(rate, bool) or not isinstance(rate, numbers.Integral):
            raise RequestError(f"the sample rate of audio must be a whole number, got {type(rate).__name__}")
        if self.sample_rate < 1:
            raise RequestError(f"the sample rate of audio must be at least 1 Hz, got {self.sample_rate}")
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
        """The audio as a WAV or FLAC file; equal audio and comment give equal bytes.

        Args:
            suffix: ".wav" or ".flac".
            subtype: "s16" (rounded, 1.0 becomes 32767, clipped beyond) or "f32"; FLAC is always s16.
            comment: stored in the file's comment field (ICMT of a WAV, in UTF-8) if not empty. ``read_comment`` gives
                it back; libsndfile reads none beyond about 2 KiB from a WAV.

        Raises:
            OutputError: unknown suffix or sample format, a comment longer than ``MAX_COMMENT_BYTES``, or a rate or
                channel count the format cannot hold.
        """
        for name, value in (("suffix", suffix), ("sample format", subtype), ("comment", comment)):
            if not isinstance(value, str):
                raise OutputError(f"the {name} of a sound file must be text, got {type(value).__name__}")
        if suffix.lower() not in FORMATS:
            raise OutputError(f"cannot write '{suffix}' files; use {' or '.join(FORMATS)}")
        if subtype not in SUBTYPES:
            raise OutputError(f"unknown sample format '{subtype}'; use {' or '.join(SUBTYPES)}")
        try:
            size = len(comment.encode())
        except UnicodeEncodeError:
            raise OutputError("the comment is not valid Unicode: it holds a lone surrogate") from None
        if size > MAX_COMMENT_BYTES:
            raise OutputError(f"a comment has at most {MAX_COMMENT_BYTES} bytes, this one {size}")
        kind = FORMATS[suffix.lower()]
        stored = SUBTYPES["s16" if kind == "FLAC" else subtype]
        data: NDArray[Any] = self.samples.T
        if stored == "PCM_16":
            data = np.clip(np.round(data * 32767.0), -32768, 32767).astype(np.int16)
        # soundfile hands bytes over in callbacks, where an interrupt would be lost or end the process; signals are the
        # main thread's, so no callback runs there.
        with ThreadPoolExecutor(1, "encoding") as encoding:
            return _without_clock(encoding.submit(self._encoded, kind, stored, data, comment).result())

    def _encoded(self, kind: str, stored: str, data: NDArray[Any], comment: str) -> bytes:
        """A file of samples [frames, channels]; see ``to_bytes``."""
        import soundfile

        buffer = io.BytesIO()
        try:
            with soundfile.SoundFile(
                buffer, "w", self.sample_rate, self.channels, format=kind, subtype=stored
            ) as stream:
                if comment:
                    stream.comment = comment
                stream.write(data)
        except soundfile.LibsndfileError as error:
            raise OutputError(
                f"a {kind} file cannot hold {self.channels} channels at {self.sample_rate} Hz ({error.error_string})"
            ) from error
        return buffer.getvalue()


def _without_clock(wav: bytes) -> bytes:
    """Zero the time of writing that libsndfile puts into the PEAK chunk of float WAV files."""
    position = 12
    while wav[:4] == b"RIFF" and position + 8 <= len(wav):
        if wav[position : position + 4] == b"PEAK":
            # After the chunk's name and size: version, then time, 4 bytes each.
            return wav[: position + 12] + bytes(4) + wav[position + 16 :]
        size = int.from_bytes(wav[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return wav


def write_audio(audio: Audio, path: str | os.PathLike[str], subtype: str = "s16", comment: str = "") -> None:
    """Write a WAV or FLAC file atomically; on any failure nothing is left behind.

    Raises:
        RequestError: ``audio`` is no ``Audio``.
        OutputError: no path, unknown suffix, missing or unwritable directory, full disk.
    """
    if not isinstance(audio, Audio):
        raise RequestError(f"what is written must be an Audio, got {type(audio).__name__}")
    try:
        target = Path(path)
    except TypeError:
        raise OutputError(f"a sound file needs a path, got {type(path).__name__}") from None
    write_file(target, audio.to_bytes(target.suffix, subtype, comment))


def read_audio(path: str | os.PathLike[str]) -> Audio:
    """Read any file libsndfile can, at its own rate and channel count.

    Raises:
        DataError: missing, unreadable, empty, longer than ``MAX_SAMPLES`` or not finite.
    """
    import soundfile

    _check_path(path)
    try:
        with soundfile.SoundFile(path) as stream:
            # A header may claim any length; the memory for it would be taken before the first sample is read.
            if stream.frames * stream.channels > MAX_SAMPLES:
                raise DataError(
                    f"{path}: claims {stream.frames} frames of {stream.channels} channels, "
                    f"at most {MAX_SAMPLES} samples are read"
                )
            samples, rate = stream.read(dtype="float32", always_2d=True), int(stream.samplerate)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as audio ({error})") from error
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise DataError(f"{path}: holds no audio, or samples that are not finite")
    return Audio(np.ascontiguousarray(samples.T), rate)


def read_comment(path: str | os.PathLike[str]) -> str:
    """Comment of a sound file, whatever its length; empty where there is none.

    Raises:
        DataError: missing, unreadable, no sound file, or a comment longer than ``MAX_COMMENT_BYTES``.
    """
    import soundfile

    _check_path(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(12)
            # libsndfile passes over lists of more than 2 KiB.
            if head[:4] == b"RIFF" and head[8:] == b"WAVE":
                return _wav_comment(stream)
        with soundfile.SoundFile(path) as sound:
            return str(sound.comment)
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: its comment cannot be read ({error})") from error


def _wav_comment(stream: BinaryIO) -> str:
    """ICMT of the INFO list among the chunks that follow (Multimedia Programming Interface and Data Specifications).

    Raises:
        ValueError: it is too long, or no UTF-8.
    """
    while len(header := stream.read(8)) == 8:
        size = int.from_bytes(header[4:], "little")
        end = stream.tell() + size + size % 2
        if header[:4] == b"LIST" and stream.read(4) == b"INFO":
            while stream.tell() + 8 <= end and len(header := stream.read(8)) == 8:
                size = int.from_bytes(header[4:], "little")
                if header[:4] == b"ICMT":
                    # Its end is marked by a zero, and filled with another one to an even length.
                    if size > MAX_COMMENT_BYTES + 2:
                        raise ValueError(f"{size} bytes, at most {MAX_COMMENT_BYTES} are read")
                    return stream.read(size).rstrip(b"\0").decode()
                stream.seek(size + size % 2, os.SEEK_CUR)
        stream.seek(end)
    return ""


def _check_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        # libsndfile would take a number for an open file.
        raise DataError(f"a sound file needs a path, got {type(path).__name__}")
