"""Spectral views of a waveform and distances between them, in numpy alone.

Everything here works on one channel at the product's sample rate. Frames are centred (the signal is padded by half
a window with zeros), windows are periodic Hann, spectra are scaled so that a full-scale sine reads 0 dB.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.ranges import COUNT, NOT_NEGATIVE, POSITIVE, require_ranges, require_rising

FloatArray = npt.NDArray[np.float32]

FLOOR_DB = -100.0
"""Level that stands for silence in every dB spectrogram of this module."""

RESOLUTIONS: tuple[tuple[int, int], ...] = ((512, 128), (1024, 256), (2048, 512))
"""Window and hop, in samples, of the multi-resolution STFT distance."""


@dataclass(frozen=True)
class MelSpec:
    """How a log-mel spectrogram is made."""

    sample_rate: int = 44100
    """Samples per second, Hz."""
    n_fft: int = 2048
    """Window length in samples."""
    hop: int = 1024
    """Step between frames in samples."""
    bands: int = 64
    """Triangular mel bands."""
    low_hz: float = 40.0
    """Lower edge of the first band, Hz."""
    high_hz: float = 16000.0
    """Upper edge of the last band, Hz."""

    def __post_init__(self) -> None:
        require_ranges(self, sample_rate=(4000, 192000), n_fft=(2, 65536), hop=COUNT, bands=COUNT)
        require_ranges(self, low_hz=NOT_NEGATIVE, high_hz=POSITIVE)
        require_rising(self, "low_hz", "high_hz", strictly=True)


def mono(samples: npt.ArrayLike) -> FloatArray:
    """One float32 channel [frames] from [frames] or [channels, frames] (mean over channels).

    Raises:
        DataError: the array is empty, has more than two axes, or holds a non-finite value.
    """
    array = np.asarray(samples, dtype=np.float32)
    if array.ndim == 2:
        array = array.mean(axis=0, dtype=np.float32)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"expected samples [frames] or [channels, frames], got shape {np.shape(samples)}")
    if not np.isfinite(array).all():
        raise DataError("samples hold a non-finite value; only finite audio can be judged")
    return array


@functools.lru_cache(maxsize=16)
def _hann(length: int) -> FloatArray:
    phase = 2.0 * np.pi * np.arange(length) / length
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def magnitude_spectrogram(samples: npt.ArrayLike, n_fft: int, hop: int) -> FloatArray:
    """Magnitudes [frames, n_fft // 2 + 1]; a full-scale sine peaks near 1.

    Args:
        samples: [frames] or [channels, frames], any finite values.
        n_fft: window length in samples, even.
        hop: step between frames in samples.
    """
    signal = mono(samples)
    padded = np.pad(signal, (n_fft // 2, n_fft // 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = _hann(n_fft)
    spectrum = np.fft.rfft(frames * window, axis=-1)
    return np.asarray(np.abs(spectrum) * (2.0 / float(window.sum())), dtype=np.float32)


def _hertz_to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))


def _mel_to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


@functools.lru_cache(maxsize=8)
def mel_filterbank(spec: MelSpec) -> FloatArray:
    """Triangular filters [n_fft // 2 + 1, bands] with peak 1, equally spaced on the O'Shaughnessy mel scale."""
    edges = np.array([spec.low_hz, spec.high_hz], dtype=np.float64)
    if not 0 <= spec.low_hz < spec.high_hz <= spec.sample_rate / 2:
        raise DataError(
            f"mel bands need 0 <= low < high <= half the sample rate, got {spec.low_hz}, {spec.high_hz}"
        )
    low, high = _hertz_to_mel(edges)
    centres = _mel_to_hertz(np.linspace(low, high, spec.bands + 2))
    bins = np.arange(spec.n_fft // 2 + 1) * (spec.sample_rate / spec.n_fft)
    rising = (bins[:, None] - centres[None, :-2]) / (centres[1:-1] - centres[:-2])
    falling = (centres[None, 2:] - bins[:, None]) / (centres[2:] - centres[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: npt.ArrayLike, sample_rate: int, spec: MelSpec | None = None) -> FloatArray:
    """Log-mel power spectrogram [frames, bands] in dB, never below ``FLOOR_DB``.

    Raises:
        DataError: the sample rate is not the one of ``spec``: resample first, distances across rates mean nothing.
    """
    spec = spec or MelSpec()
    if sample_rate != spec.sample_rate:
        raise DataError(
            f"log-mel is defined at {spec.sample_rate} Hz, got {sample_rate} Hz: resample the audio first"
        )
    power = magnitude_spectrogram(samples, spec.n_fft, spec.hop) ** 2
    mel = power @ mel_filterbank(spec)
    return np.asarray(10.0 * np.log10(np.maximum(mel, 10.0 ** (FLOOR_DB / 10.0))), dtype=np.float32)


def resample(samples: npt.ArrayLike, sample_rate: int, target_rate: int) -> FloatArray:
    """One channel [frames] at ``target_rate`` Hz.

    Raises:
        MissingExtraError: soxr is needed and absent.
    """
    signal = mono(samples)
    if sample_rate == target_rate:
        return signal
    try:
        import soxr
    except ImportError as error:
        raise MissingExtraError("eval", "resampling audio") from error
    return np.asarray(soxr.resample(signal, sample_rate, target_rate), dtype=np.float32)


def _pair(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    first, second = mono(reference), mono(estimate)
    if len(first) != len(second):
        raise DataError(f"sounds of one length are compared, got {len(first)} and {len(second)} samples")
    return first, second


def signal_to_noise(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Power of the reference over power of the difference in dB; infinite for identical signals."""
    first, second = _pair(reference, estimate)
    noise = float(np.sum((first.astype(np.float64) - second) ** 2))
    if noise == 0.0:
        return float("inf")
    return float(10.0 * np.log10(max(float(np.sum(first.astype(np.float64) ** 2)), 1e-30) / noise))


def level(samples: npt.ArrayLike) -> float:
    """Root mean square of a signal, full scale 1."""
    signal = mono(samples).astype(np.float64)
    return float(np.sqrt(np.mean(signal**2)))


def log_mel_distance(
    reference: npt.ArrayLike,
    estimate: npt.ArrayLike,
    sample_rate: int,
    *,
    match_level: bool = False,
    spec: MelSpec | None = None,
) -> float:
    """Mean absolute difference of log10 mel magnitudes (0.05 is 1 dB); cells below -80 dB count as -80 dB.

    Args:
        reference: [frames] or [channels, frames].
        estimate: same length as ``reference``.
        sample_rate: Hz, the one of ``spec``.
        match_level: scale both to a root mean square of 0.1 first, so that a mere gain costs nothing.
        spec: how the spectrogram is made; the default is the one of the tagger.
    """
    first, second = _pair(reference, estimate)
    if match_level:
        first, second = (signal * np.float32(0.1 / max(level(signal), 1e-6)) for signal in (first, second))
    views = [np.maximum(log_mel(signal, sample_rate, spec), -80.0) for signal in (first, second)]
    return float(np.mean(np.abs(views[0] - views[1]))) / 20.0


def multi_resolution_stft_distance(reference: npt.ArrayLike, estimate: npt.ArrayLike) -> float:
    """Spectral convergence plus natural-log magnitude L1, averaged over ``RESOLUTIONS``.

    Source: Yamamoto et al., Parallel WaveGAN (2020), equations 3 to 6. Magnitudes below 1e-4 of full scale are
    lifted to it before the logarithm, because differences between silences are not heard.
    """
    first, second = _pair(reference, estimate)
    distances = []
    for n_fft, hop in RESOLUTIONS:
        target, guess = (magnitude_spectrogram(signal, n_fft, hop) for signal in (first, second))
        convergence = np.linalg.norm(target - guess) / max(float(np.linalg.norm(target)), 1e-6)
        logarithmic = np.mean(np.abs(np.log(np.maximum(target, 1e-4)) - np.log(np.maximum(guess, 1e-4))))
        distances.append(float(convergence) + float(logarithmic))
    return float(np.mean(distances))


def timbre(samples: npt.ArrayLike, sample_rate: int, spec: MelSpec | None = None) -> FloatArray:
    """Mean and deviation over time of the log-mel spectrogram, relative to its loudest cell: [2 * bands], dB.

    Two takes of one recording at different offsets are close in it, two different sounds are not.
    """
    decibels = log_mel(samples, sample_rate, spec)
    decibels = np.maximum(decibels - decibels.max(), -80.0)
    return np.concatenate([decibels.mean(axis=0), decibels.std(axis=0)]).astype(np.float32)
