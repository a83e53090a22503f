"""How like a stretch of another clip a clip is in its course over time: 1 is the same recording.

The score of two clips is the largest correlation, over all shifts at which the shorter one lies wholly within the
longer, of their log-mel spectrograms, each band taken about its mean over the stretch that is compared. Means are taken
out because they are the timbre, which sounds of one kind share; what is left is when what happens, which two recordings
share by chance only. Gain and equalisation change nothing, added noise and a codec little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.spectral import FloatArray, MelSpec, log_mel

SPEC = MelSpec(n_fft=4096, hop=1024, bands=32)
"""43 frames a second: a shift that is no whole number of frames is at most an eighth of a window off."""
RANGE_DB = 60.0
"""Softer than this below a clip's loudest band counts as silence: recordings differ there by their levels alone."""
_LEAST_POWER = 1e-6
"""Share of a clip's mean power below which a stretch has no course: it is silent or perfectly steady."""

Frames = npt.NDArray[np.float32]


def course(samples: FloatArray, sample_rate: int) -> Frames:
    """What is compared of a clip: log-mel spectrogram [bands, frames], dB from its loudest band.

    Raises:
        DataError: samples at another rate than ``SPEC``'s, empty or not finite.
    """
    view = log_mel(samples, sample_rate, SPEC)
    return np.ascontiguousarray(np.maximum(view - view.max(), -RANGE_DB).T)


class ReplayJudge:
    """Holds clips of one length, and compares them with others of any length.

    Args:
        clips: ``course`` of each, [bands, frames], all of one shape.

    Raises:
        DataError: no clip, or of several lengths.
    """

    def __init__(self, clips: Sequence[Frames]) -> None:
        if not clips or len({clip.shape for clip in clips}) != 1:
            raise DataError("clips of one length are compared, at least one")
        self._clips = np.stack(clips).astype(np.float64)
        self.frames = self._clips.shape[2]
        self._centred = self._clips - self._clips.mean(axis=2, keepdims=True)
        self._power = np.square(self._centred).sum(axis=(1, 2))
        self._spectra: dict[int, npt.NDArray[np.complex64]] = {}
        self._windows: dict[int, npt.NDArray[np.float64]] = {}

    def scores(self, other: Frames) -> npt.NDArray[np.float64]:
        """Replay score of every clip against another one, float64 [n], -1 to 1.

        Args:
            other: its ``course``, [bands, frames].
        """
        rows = other.astype(np.float64)
        longer = rows.shape[1] >= self.frames
        size = 1 << (rows.shape[1] + self.frames - 2).bit_length()
        if longer:
            products = self._correlate(rows, size)[:, : rows.shape[1] - self.frames + 1]
            windows = _window_power(rows[None], self.frames)
            own = self._power[:, None]
        else:
            centred = rows - rows.mean(axis=1, keepdims=True)
            # Shifts of the other within ours are shifts of ours backwards.
            shifts = self.frames - rows.shape[1] + 1
            products = self._correlate(centred, size)[:, -np.arange(shifts)]
            windows, own = self._own_windows(rows.shape[1]), np.square(centred).sum()
        floor = _LEAST_POWER * RANGE_DB**2 * min(rows.shape[1], self.frames)
        defined = (windows > floor) & (own > floor)
        cosines = products / np.sqrt(np.where(defined, windows * own, 1.0))
        return np.where(defined, cosines, 0.0).max(axis=1)

    def _correlate(self, rows: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        """Products of all our clips with another at every shift [n, size]; negative shifts lie at the end."""
        if size not in self._spectra:
            # Frequency first, for a matrix product a frequency.
            own = np.fft.rfft(self._centred, size, axis=2).conj().astype(np.complex64)
            self._spectra[size] = np.ascontiguousarray(own.transpose(2, 0, 1))
        spectrum = np.fft.rfft(rows, size, axis=1).astype(np.complex64).T[:, :, None]
        products = np.matmul(self._spectra[size], spectrum)[:, :, 0]
        return np.fft.irfft(products.T, size, axis=1)

    def _own_windows(self, frames: int) -> npt.NDArray[np.float64]:
        """Power of our stretches of a length about their means, [n, shifts]."""
        if frames not in self._windows:
            self._windows[frames] = _window_power(self._clips, frames)
        return self._windows[frames]


def _window_power(clips: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float64]:
    """Power of every stretch of so many frames about the means of its bands: [n, bands, T] to [n, T - frames + 1]."""

    def sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total = np.pad(np.cumsum(values, axis=2), ((0, 0), (0, 0), (1, 0)))
        return np.asarray(total[:, :, frames:] - total[:, :, : total.shape[2] - frames])

    power = sums(np.square(clips)) - np.square(sums(clips)) / frames
    return np.asarray(np.maximum(power, 0.0).sum(axis=1))
