"""Spectrogram pictures: one panel per sound, and sheets of labelled panels as PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.evaluate.spectral import MelSpec, log_mel
from edge_tta.files import write_file

if TYPE_CHECKING:
    from PIL import Image

# Dark to light with steadily rising lightness, so that prints and colour-blind readers keep the order of levels.
_COLOURS = np.array(
    [
        (4, 4, 18),
        (38, 14, 84),
        (94, 20, 110),
        (150, 38, 103),
        (204, 64, 72),
        (240, 112, 34),
        (250, 178, 40),
        (252, 250, 184),
    ],
    dtype=np.float64,
)
_PANEL_SPEC = MelSpec(hop=512, bands=96, high_hz=18000.0)
_MARGIN, _CAPTION_HEIGHT = 4, 14


@dataclass(frozen=True)
class Panel:
    """One sound to draw."""

    caption: str
    samples: npt.NDArray[np.float32]
    """[frames] or [channels, frames] at ``sample_rate``."""
    sample_rate: int = 44100


def spectrogram_pixels(
    samples: npt.ArrayLike,
    sample_rate: int,
    width: int,
    height: int,
    *,
    range_db: float = 80.0,
    loudest_db: float | None = None,
) -> npt.NDArray[np.uint8]:
    """Log-mel spectrogram as pixels uint8 [height, width, 3], low tones at the bottom, whole clip across the width.

    Args:
        samples: [frames] or [channels, frames].
        sample_rate: Hz.
        width: pixels over time.
        height: pixels over frequency.
        range_db: levels this far below the loudest cell are black.
        loudest_db: level of the brightest colour, to compare pictures; None for that of the loudest cell.
    """
    decibels = _panel_levels(samples, sample_rate)
    top = float(decibels.max()) if loudest_db is None else loudest_db
    shade = np.clip((decibels - top + range_db) / range_db, 0.0, 1.0)
    if decibels.max() <= -99.0:
        shade = np.zeros_like(shade)
    # Area pooling keeps short clicks visible where plain picking of frames would skip them.
    edges = np.linspace(0, len(shade), width + 1)
    columns = np.stack(
        [shade[int(a) : max(int(a) + 1, int(np.ceil(b)))].max(axis=0) for a, b in itertools.pairwise(edges)]
    )
    rows = np.linspace(_PANEL_SPEC.bands - 1, 0, height)
    picked = columns[:, np.rint(rows).astype(np.int64)].T
    place = picked * (len(_COLOURS) - 1)
    channels = [np.interp(place, np.arange(len(_COLOURS)), _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _panel_levels(samples: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float32]:
    """Levels [frames, bands] in dB of what is drawn."""
    spec = MelSpec(sample_rate, 2048, _PANEL_SPEC.hop, _PANEL_SPEC.bands, 40.0, min(18000.0, sample_rate / 2))
    return log_mel(samples, sample_rate, spec)


def loudest_cell(samples: npt.ArrayLike, sample_rate: int) -> float:
    """Level in dB of the loudest cell of a sound's picture."""
    return float(_panel_levels(samples, sample_rate).max())


def picture_png(pixels: npt.NDArray[np.uint8], colours: int = 128) -> bytes:
    """Pixels [height, width, 3] as a PNG with a palette: a third of the bytes of full colour.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("eval", "drawing spectrograms") from error
    stream = io.BytesIO()
    Image.fromarray(pixels).quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        stream, format="PNG", optimize=True
    )
    return stream.getvalue()


def draw_sheet(rows: Sequence[Sequence[Panel]], *, width: int = 200, height: int = 96) -> Image.Image:
    """A picture with one panel per cell, captions above the panels.

    Raises:
        DataError: there is no panel.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("eval", "drawing spectrograms") from error
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise DataError("a spectrogram sheet needs at least one panel")
    cell_width, cell_height = width + _MARGIN, height + _CAPTION_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, len(rows) * cell_height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            left, top = _MARGIN + x * cell_width, _MARGIN + y * cell_height
            caption = panel.caption
            while len(caption) > 1 and draw.textlength(caption) > width:
                caption = caption.rstrip("…")[:-1].rstrip() + "…"
            draw.text((left, top), caption, fill="black")
            pixels = spectrogram_pixels(panel.samples, panel.sample_rate, width, height)
            sheet.paste(Image.fromarray(pixels), (left, top + _CAPTION_HEIGHT))
    return sheet


def write_sheet(rows: Sequence[Sequence[Panel]], path: Path, *, width: int = 200, height: int = 96) -> None:
    """Write :func:`draw_sheet` as a PNG with a palette that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, picture_png(np.asarray(draw_sheet(rows, width=width, height=height))))
