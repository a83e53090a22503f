"""Catalogs: which clips there are, what they show and under which licence."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_tta.errors import DataError

PERMISSIVE_LICENCES = ("cc0", "cc-by", "public-domain", "publicdomain", "mit", "bsd", "unlicense")
"""Beginnings of licence names whose clips may go into weights that are redistributed."""


@dataclass(frozen=True)
class Clip:
    """One recording with its labels and rights."""

    id: str
    path: Path
    label: str
    captions: tuple[str, ...] = ()
    """The clip's own captions, human or machine-made; may be empty."""
    licence: str = ""
    permissive: bool = False
    """Whether the licence allows commercial use and redistribution of derived weights."""
    attribution: str = ""
    url: str = ""
    source: str = ""
    split: str = "train"
    group: str = ""
    recording: str = ""
    """Key of the source recording: clips of one recording never lie in different splits."""
    seconds: float = 0.0
    bandwidth_hz: float = 0.0
    """99.5 % roll-off; 0 when unknown."""


def _rows(path: Path, required: Iterable[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in required if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: missing column {', '.join(missing)}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error


def _number(row: dict[str, str], column: str, path: Path) -> float:
    text = row.get(column) or "0"
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}: column {column} holds {text!r}, expected a number") from None


def _inside(folder: Path, name: str, path: Path) -> Path:
    target = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{path}: file {name!r} lies outside the folder")
    return target


def is_permissive(licence: str) -> bool:
    """Whether a licence name allows commercial use and redistribution; non-commercial variants do not."""
    name = licence.lower().replace(" ", "-")
    if any(part in name for part in ("-nc", "-nd", "-sa", "noncommercial")):
        return False
    return name.startswith(PERMISSIVE_LICENCES)


def read_metadata_csv(folder: Path) -> list[Clip]:
    """Read a folder with a ``metadata.csv``: columns ``file`` and ``label``, ``word`` or ``caption``, others optional.

    ``word`` is what recordings of speech have for a label: the word that is said.

    Raises:
        DataError: the table is missing, lacks a column or names a file outside the folder.
    """
    path = folder / "metadata.csv"
    clips = []
    for row in _rows(path, ("file",)):
        label = row.get("label") or row.get("word") or row.get("caption") or ""
        if not label:
            raise DataError(f"{path}: {row['file']} has neither label, word nor caption")
        licence = row.get("licence") or row.get("license") or ""
        declared = row.get("licence_class") or ""
        captions = tuple(row[column] for column in ("caption", "caption_title") if row.get(column))
        clips.append(
            Clip(
                id=row.get("id") or row["file"],
                path=_inside(folder, row["file"], path),
                label=label,
                captions=captions,
                licence=licence,
                permissive=declared == "permissive" if declared else is_permissive(licence),
                attribution=row.get("attribution") or "",
                url=row.get("url") or "",
                source=row.get("source") or "",
                split=row.get("split") or "train",
                group=row.get("group") or "",
                recording=row.get("recording_key") or row.get("id") or row["file"],
                seconds=_number(row, "duration", path),
                bandwidth_hz=_number(row, "bandwidth_hz", path),
            )
        )
    return clips


def read_esc50(folder: Path, validation_fold: int = 5) -> list[Clip]:
    """Read the ESC-50 layout: ``meta/esc50.csv`` and ``audio/``; one fold is validation.

    ESC-50 as a whole is CC BY-NC, so its clips count as not permissive here.
    """
    path = folder / "meta" / "esc50.csv"
    return [
        Clip(
            id=Path(row["filename"]).stem,
            path=_inside(folder / "audio", row["filename"], path),
            label=row["category"].replace("_", " "),
            licence="CC-BY-NC-3.0",
            source="esc50",
            split="val" if int(_number(row, "fold", path)) == validation_fold else "train",
            recording=row.get("src_file") or row["filename"],
            seconds=5.0,
        )
        for row in _rows(path, ("filename", "fold", "category"))
    ]


def read_audiocaps(table: Path, audio: Path) -> list[Clip]:
    """Read AudioCaps' table (audiocap_id, youtube_id, start_time, caption) beside local ``YOUTUBEID_START.wav`` files.

    Files that are not there are left out: AudioCaps is a list of links, and many are gone.
    """
    clips = []
    for row in _rows(table, ("audiocap_id", "youtube_id", "start_time", "caption")):
        file = _inside(audio, f"{row['youtube_id']}_{row['start_time']}.wav", table)
        if file.is_file():
            recording = row["youtube_id"]
            clips.append(
                Clip(row["audiocap_id"], file, row["caption"], (row["caption"],), recording=recording)
            )
    return clips


def read_clotho(table: Path, audio: Path) -> list[Clip]:
    """Read Clotho's table (file_name, caption_1 … caption_5) beside its audio folder; absent files are left out."""
    columns = tuple(f"caption_{number}" for number in range(1, 6))
    clips = []
    for row in _rows(table, ("file_name", *columns)):
        file = _inside(audio, row["file_name"], table)
        if file.is_file():
            captions = tuple(row[column] for column in columns if row[column])
            clips.append(Clip(row["file_name"], file, captions[0], captions, recording=row["file_name"]))
    return clips


def select(clips: Iterable[Clip], *conditions: Callable[[Clip], bool]) -> list[Clip]:
    """Clips that meet every condition, in their order."""
    return [clip for clip in clips if all(condition(clip) for condition in conditions)]


def permissive(clip: Clip) -> bool:
    """Condition: may go into redistributed weights."""
    return clip.permissive


def in_split(split: str) -> Callable[[Clip], bool]:
    """Condition: belongs to a split."""
    return lambda clip: clip.split == split


def bandwidth_at_least(hertz: float) -> Callable[[Clip], bool]:
    """Condition: reaches a bandwidth; clips of unknown bandwidth pass."""
    return lambda clip: clip.bandwidth_hz == 0 or clip.bandwidth_hz >= hertz


def catalog_digest(clips: Iterable[Clip]) -> str:
    """SHA-256 over ids, labels, splits, captions and the bytes of the files in order: the key of what is cached from a
    catalog, wherever its folder lies.

    Raises:
        DataError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for clip in clips:
        try:
            with clip.path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{clip.path}: cannot be read ({error.strerror or error})") from error
        told = (clip.id, clip.label, clip.split, *clip.captions, content)
        digest.update(json.dumps(told).encode() + b"\n")
    return digest.hexdigest()
