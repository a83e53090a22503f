"""What a run leaves for people: sample sounds with a sheet of their spectrograms, and tensorboard scalars."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import MissingExtraError
from edge_tta.evaluate.spectrogram import Panel, write_sheet
from edge_tta.train.progress import Progress


def write_examples(
    directory: Path, names: list[str], waveforms: list[NDArray[np.float32]], sample_rate: int
) -> None:
    """Write one WAV per sound and one ``spectrograms.png`` with all of them.

    Args:
        directory: created if missing.
        names: captions, also made into file names.
        waveforms: float32 [channels, frames] each.
        sample_rate: Hz.
    """
    import soundfile

    directory.mkdir(parents=True, exist_ok=True)
    panels = []
    for number, (name, waveform) in enumerate(zip(names, waveforms, strict=True)):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        clipped = np.clip(waveform, -1.0, 1.0)
        soundfile.write(directory / f"{number:02d}-{slug}.wav", clipped.T, sample_rate, subtype="PCM_16")
        panels.append(Panel(name, clipped[0], sample_rate))
    write_sheet(
        [panels[start : start + 4] for start in range(0, len(panels), 4)], directory / "spectrograms.png"
    )


class Scalars:
    """Tensorboard scalars of a run."""

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("train", "tensorboard logging") from error
        self._writer: Any = SummaryWriter(str(directory))

    def __call__(self, progress: Progress) -> None:
        """Record one report of the loop."""
        for name, value in progress.values.items():
            self._writer.add_scalar(name, value, progress.step)
        if progress.seconds_per_step > 0:
            self._writer.add_scalar("seconds_per_step", progress.seconds_per_step, progress.step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
