"""Real clips to judge against: the rows of a ``metadata.csv`` folder and their audio."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_tta.errors import DataError, MissingExtraError
from edge_tta.evaluate.spectral import FloatArray, resample

METADATA_FILE = "metadata.csv"
REQUIRED_COLUMNS = ("file", "label", "split")
SPOKEN_LABEL = "word"
"""Column of recordings of speech that stands for the label."""
REFERENCE_PER_LABEL = 24
"""Training clips of a label that enter the reference, so that no label outweighs the others."""


@dataclass(frozen=True)
class Clip:
    """One labelled recording."""

    path: Path
    label: str
    split: str
    source: str
    """Collection the clip comes from; empty where the metadata does not say."""
    recording: str
    """Recording the clip was cut from: clips of one recording belong on one side of any split."""


def read_clips(directory: Path | str, splits: Iterable[str] | None = None) -> tuple[Clip, ...]:
    """Rows of ``directory/metadata.csv``, in file order; recordings of speech may have a ``word`` for a label.

    Args:
        directory: folder with ``metadata.csv``; the ``file`` column is relative to it.
        splits: values of the ``split`` column to keep; None keeps all.

    Raises:
        DataError: no such file, a missing column, a path that leaves the folder, or no row left.
    """
    root = Path(directory)
    path = root / METADATA_FILE
    wanted = None if splits is None else set(splits)
    clips = []
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or ()
            label = SPOKEN_LABEL if SPOKEN_LABEL in columns and "label" not in columns else "label"
            missing = [name for name in REQUIRED_COLUMNS if name not in columns and name != "label"]
            missing += [] if label in columns else ["label"]
            if missing:
                raise DataError(
                    f"{path}: column {missing[0]!r} is missing; {', '.join(REQUIRED_COLUMNS)} are needed"
                )
            for number, row in enumerate(reader, start=2):
                if wanted is not None and row["split"] not in wanted:
                    continue
                relative = Path(row["file"] or "")
                if not row["file"] or relative.is_absolute() or ".." in relative.parts:
                    raise DataError(f"{path}:{number}: file {row['file']!r} is not a path inside the folder")
                recording = row.get("recording_key") or row["file"]
                clips.append(
                    Clip(root / relative, row[label], row["split"], row.get("source") or "", recording)
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not clips:
        raise DataError(
            f"{path}: no clip" + ("" if wanted is None else f" of split {', '.join(sorted(wanted))}")
        )
    return tuple(clips)


def load_clip(path: Path, sample_rate: int, *, max_seconds: float = 12.0) -> FloatArray:
    """The first ``max_seconds`` of a clip as one channel [frames] at ``sample_rate``.

    Raises:
        DataError: the file is missing, empty or not audio.
        MissingExtraError: soundfile or soxr is not installed.
    """
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtraError("eval", "reading audio files") from error
    try:
        with soundfile.SoundFile(path) as handle:
            rate = handle.samplerate
            samples = handle.read(int(max_seconds * rate), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable audio file ({error})") from error
    if len(samples) == 0:
        raise DataError(f"{path}: holds no audio")
    return resample(samples.T, rate, sample_rate)


def balanced(clips: Sequence[Clip], labels: set[str], generator: np.random.Generator) -> list[Clip]:
    """At most ``REFERENCE_PER_LABEL`` clips of each label, drawn at random, label by label."""
    chosen: list[Clip] = []
    for label in sorted(labels):
        mine = [clip for clip in clips if clip.label == label]
        picked = sorted(generator.permutation(len(mine))[:REFERENCE_PER_LABEL])
        chosen += [mine[i] for i in picked]
    return chosen
