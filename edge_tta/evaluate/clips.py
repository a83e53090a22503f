"""Real clips to judge against: the rows of a ``metadata.csv`` folder and their audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from edge_tta.catalog import METADATA_FILE, Clip, in_split, read_metadata_csv, select
from edge_tta.decode import decode_mono
from edge_tta.errors import DataError
from edge_tta.evaluate.spectral import FloatArray

REFERENCE_PER_LABEL = 24
"""Training clips of a label that enter the reference, so that no label outweighs the others."""


def read_clips(directory: Path | str, splits: Iterable[str] | None = None) -> tuple[Clip, ...]:
    """Clips of ``directory/metadata.csv`` in file order, by the rules of training (``read_metadata_csv``).

    Args:
        directory: folder with ``metadata.csv``; the ``file`` column is relative to it.
        splits: splits to keep; None keeps all.

    Raises:
        DataError: as ``read_metadata_csv``, or no clip is left.
    """
    root = Path(directory)
    clips = read_metadata_csv(root)
    if splits is not None:
        wanted = tuple(splits)
        clips = select(clips, in_split(*wanted))
    if not clips:
        of = "" if splits is None else f" of split {', '.join(sorted(wanted))}"
        raise DataError(f"{root / METADATA_FILE}: no clip{of}")
    return tuple(clips)


def load_clip(path: Path, sample_rate: int, *, max_seconds: float = 12.0) -> FloatArray:
    """The first ``max_seconds`` of a clip as one channel [frames] at ``sample_rate``.

    Raises:
        DataError: the file is missing, empty or not audio.
        MissingExtraError: soxr is needed and not installed.
    """
    return decode_mono(path, sample_rate, max_seconds=max_seconds, extra="eval")


def balanced(clips: Sequence[Clip], labels: set[str], generator: np.random.Generator) -> list[Clip]:
    """At most ``REFERENCE_PER_LABEL`` clips of each label, drawn at random, label by label."""
    chosen: list[Clip] = []
    for label in sorted(labels):
        mine = [clip for clip in clips if clip.label == label]
        picked = sorted(generator.permutation(len(mine))[:REFERENCE_PER_LABEL])
        chosen += [mine[i] for i in picked]
    return chosen
