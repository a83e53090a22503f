"""Pictures of onsets: waveform and spectrogram of the original above those of the reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_tta.errors import MissingExtraError
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.spectrogram import picture_png
from edge_tta.evaluate.transients import Onset
from edge_tta.files import write_file

if TYPE_CHECKING:
    from PIL import Image

BEFORE_SECONDS, AFTER_SECONDS = 0.03, 0.06
"""What is drawn around an onset."""
WIDTH, WAVE_HEIGHT, PICTURE_HEIGHT, CAPTION, MARGIN = 270, 64, 64, 14, 6
WINDOW, HOP, RANGE_DB = 256, 32, 70.0
"""Of the spectrograms, in samples: a window of 6 ms shows what lies before an onset."""
COLUMNS = 4


def write_transient_sheet(onsets: Sequence[Onset], path: Path, sample_rate: int) -> None:
    """Write the sheet as PNG, four onsets side by side.

    Args:
        onsets: in the order of the sheet.
        path: PNG to write.
        sample_rate: Hz.

    Raises:
        OutputError: the file cannot be written.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("eval", "drawing onsets") from error
    cell = CAPTION + 2 * (WAVE_HEIGHT + PICTURE_HEIGHT) + 2 * MARGIN
    rows = -(-len(onsets) // COLUMNS)
    size = (COLUMNS * (WIDTH + MARGIN) + MARGIN, rows * cell + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, onset in enumerate(onsets):
        left, top = MARGIN + number % COLUMNS * (WIDTH + MARGIN), MARGIN + number // COLUMNS * cell
        caption = f"{onset.label}: {onset.before[0]:.0f} to {onset.before[1]:.0f} dB before"
        draw.text((left, top), caption, fill="black")
        top += CAPTION
        peak = max(float(np.abs(_around(onset, signal, sample_rate)).max()) for signal in _signals(onset))
        loudest = max(float(_levels(_around(onset, s, sample_rate)).max()) for s in _signals(onset))
        for signal in _signals(onset):
            shown = _around(onset, signal, sample_rate)
            sheet.paste(_wave(shown / max(peak, 1e-9)), (left, top))
            sheet.paste(Image.fromarray(_picture(shown, loudest)), (left, top + WAVE_HEIGHT))
            top += WAVE_HEIGHT + PICTURE_HEIGHT + MARGIN // 2
    write_file(path, picture_png(np.asarray(sheet)))


def _signals(onset: Onset) -> tuple[FloatArray, FloatArray]:
    return onset.original, onset.reconstruction


def _around(onset: Onset, signal: FloatArray, sample_rate: int) -> FloatArray:
    """What is drawn of a signal, with silence where the clip has ended."""
    start = onset.sample - round(BEFORE_SECONDS * sample_rate)
    length = round((BEFORE_SECONDS + AFTER_SECONDS) * sample_rate)
    shown = np.zeros(length, dtype=np.float32)
    first = max(0, start)
    piece = signal[first : start + length]
    shown[first - start : first - start + len(piece)] = piece
    return shown


def _wave(signal: FloatArray) -> Image.Image:
    """Lowest and highest sample of every column, with a line at the onset."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, WAVE_HEIGHT), (245, 244, 240))
    draw = ImageDraw.Draw(picture)
    place = round(WIDTH * BEFORE_SECONDS / (BEFORE_SECONDS + AFTER_SECONDS))
    draw.line([(place, 0), (place, WAVE_HEIGHT)], fill=(200, 80, 60))
    middle, half = WAVE_HEIGHT / 2, WAVE_HEIGHT / 2 - 2
    for column, piece in enumerate(np.array_split(signal, WIDTH)):
        low, high = (middle - half * float(end) for end in (piece.max(), piece.min()))
        draw.line([(column, low), (column, high)], fill=(36, 82, 122))
    return picture


def _levels(signal: FloatArray) -> npt.NDArray[np.float64]:
    """Levels in dB [frames, bins] of a short-time spectrum."""
    padded = np.pad(signal.astype(np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    return np.asarray(20.0 * np.log10(np.maximum(np.abs(np.fft.rfft(frames, axis=1)), 1e-6)))


def _picture(signal: FloatArray, loudest: float) -> npt.NDArray[np.uint8]:
    """Spectrogram in shades of one colour, uint8 [height, width, 3], linear in frequency, low tones at the bottom."""
    levels = _levels(signal)
    shade = np.clip((levels - loudest + RANGE_DB) / RANGE_DB, 0.0, 1.0)
    columns = np.linspace(0, len(shade) - 1, WIDTH).round().astype(np.int64)
    bins = np.linspace(shade.shape[1] - 1, 0, PICTURE_HEIGHT).round().astype(np.int64)
    picked = shade[columns][:, bins].T[..., None]
    dark, light = np.array([12.0, 16.0, 40.0]), np.array([255.0, 230.0, 150.0])
    return np.asarray(dark + picked * (light - dark)).round().astype(np.uint8)
