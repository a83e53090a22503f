"""Layouts of public data sets on this machine: a table of captions beside a folder of audio, as they are published.

What is not there is left out: AudioCaps and WavCaps are lists of links, and many are gone. None says that its clips may
be redistributed, so that ``data.permissive_only`` has to be off for all but the clips of Clotho whose licence is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from edge_tta.catalog import (
    Clip,
    inside,
    is_permissive,
    licence_name,
    number_in,
    read_metadata_csv,
    read_rows,
)
from edge_tta.errors import DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""Audio files that are looked for where a table names none."""
HELD_OUT = 50
"""One recording of this many is held out where a data set has no validation split of its own."""


class Listing(NamedTuple):
    """What a data set names."""

    clips: list[Clip]
    absent: int = 0
    """Recordings whose audio is not there."""


CLOTHO_SPLITS = {"development": "train", "validation": "val", "evaluation": "test"}
AUDIOCAPS_SPLITS = ("train", "val", "test")


def read_esc50(folder: Path, validation_fold: int = 5) -> Listing:
    """Read the ESC-50 layout (Piczak 2015): ``meta/esc50.csv`` and ``audio/``; one fold is validation.

    ESC-50 as a whole is CC BY-NC, so its clips count as not permissive here.

    Raises:
        DataError: the table cannot be read, or names a file outside the folder.
    """
    path = folder / "meta" / "esc50.csv"
    clips = []
    for line, row in read_rows(path, ("filename", "fold", "category")):
        place = f"{path}:{line}"
        fold = number_in(row, "fold", place)
        clips.append(
            Clip(
                id=Path(row["filename"]).stem,
                path=inside(folder / "audio", row["filename"], place),
                label=row["category"].replace("_", " "),
                licence="CC-BY-NC-3.0",
                source="esc50",
                split="val" if fold == validation_fold else "train",
                recording=row.get("src_file") or row["filename"],
                seconds=5.0,
            )
        )
    return Listing(clips)


def read_audiocaps(folder: Path) -> Listing:
    """Read the AudioCaps layout (Kim et al. 2019): ``train.csv``, ``val.csv``, ``test.csv`` and ``audio/``.

    Tables have the columns audiocap_id, youtube_id, start_time and caption; files are ``YOUTUBEID_START`` and lie
    in ``audio/`` or ``audio/SPLIT/``. Rows of one file are one clip with several captions.

    Raises:
        DataError: no table, one that cannot be read, or a row without caption or with a name outside the folder.
    """
    clips: dict[Path, Clip] = {}
    absent = set[str]()
    for split, path in _tables(folder, "{}.csv", AUDIOCAPS_SPLITS):
        for line, row in read_rows(path, ("audiocap_id", "youtube_id", "start_time", "caption")):
            place = f"{path}:{line}"
            caption = _caption(row["caption"], place)
            stem = f"{row['youtube_id']}_{row['start_time']}"
            file = _found((folder / "audio" / split, folder / "audio"), stem, place)
            if file is None:
                absent.add(stem)
                continue
            first = clips.get(file)
            captions = (caption,) if first is None else (*first.captions, caption)
            clips[file] = Clip(
                id=row["audiocap_id"] if first is None else first.id,
                path=file,
                label=captions[0],
                captions=captions,
                source="audiocaps",
                split=split,
                recording=row["youtube_id"],
            )
    return Listing(list(clips.values()), len(absent))


def read_clotho(folder: Path) -> Listing:
    """Read the Clotho layout (Drossos et al. 2020): ``clotho_captions_SPLIT.csv`` beside the folders ``SPLIT/``.

    Splits are development, validation and evaluation. Tables have the columns file_name and caption_1 to caption_5;
    ``clotho_metadata_SPLIT.csv``, if it is there, tells the licence and origin of each clip.

    Raises:
        DataError: no table, one that cannot be read, or a row without caption or with a name outside the folder.
    """
    columns = tuple(f"caption_{number}" for number in range(1, 6))
    clips, absent = [], 0
    for name, path in _tables(folder, "clotho_captions_{}.csv", CLOTHO_SPLITS):
        origins = _clotho_origins(folder, name)
        for line, row in read_rows(path, ("file_name", *columns)):
            place = f"{path}:{line}"
            file = inside(folder / name, row["file_name"], place)
            captions = tuple(row[column].strip() for column in columns if row[column].strip())
            _caption(captions[0] if captions else "", place)
            if not file.is_file():
                absent += 1
                continue
            origin = origins.get(row["file_name"], {})
            licence = licence_name(origin.get("license", ""))
            clips.append(
                Clip(
                    id=row["file_name"],
                    path=file,
                    label=captions[0],
                    captions=captions,
                    licence=licence,
                    permissive=is_permissive(licence),
                    attribution=origin.get("manufacturer", ""),
                    url=origin.get("sound_link", ""),
                    source="clotho",
                    split=CLOTHO_SPLITS[name],
                    recording=origin.get("sound_id") or row["file_name"],
                )
            )
    return Listing(clips, absent)


def read_wavcaps(folder: Path) -> Listing:
    """Read the WavCaps layout (Mei et al. 2023): ``json_files/SOURCE/*.json`` and the audio of each source.

    A JSON file is ``{"data": [{"id", "caption", "duration", ...}]}``. Audio is ``ID.flac`` in ``audio/SOURCE/``,
    ``SOURCE/`` or ``SOURCE_flac/``. The set has no validation split: one recording of fifty is held out, by its id.

    Raises:
        DataError: no JSON file, one that is none of WavCaps', or an entry with a name outside the folder.
    """
    paths = [path for path in sorted(folder.glob("json_files/*/*.json")) if path.parent.name != "blacklist"]
    if not paths:
        raise DataError(f"{folder}: no json_files/SOURCE/*.json of WavCaps")
    clips, absent = [], 0
    for path in paths:
        source = path.parent.name
        folders = (folder / "audio" / source, folder / source, folder / f"{source}_flac")
        for number, entry in enumerate(_entries(path)):
            place = f"{path}: entry {number}"
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), (str, int)):
                raise DataError(f"{place} has no id")
            caption = _caption(str(entry.get("caption") or ""), place)
            # The ids of AudioSet's part are names of files.
            name = str(entry["id"]).removesuffix(".wav")
            file = _found(folders, name, place)
            if file is None:
                absent += 1
                continue
            recording = f"{source}/{name}"
            held = int.from_bytes(hashlib.sha256(recording.encode()).digest()[:4], "big") % HELD_OUT == 0
            seconds = number_in({"duration": str(entry.get("duration") or "")}, "duration", place)
            clips.append(
                Clip(
                    id=recording,
                    path=file,
                    label=caption,
                    captions=(caption,),
                    attribution=str(entry.get("author") or ""),
                    url=str(entry.get("href") or ""),
                    source=f"wavcaps/{source}",
                    split="val" if held else "train",
                    recording=recording,
                    seconds=seconds,
                )
            )
    return Listing(clips, absent)


LAYOUTS: dict[str, Callable[[Path], Listing]] = {
    "metadata": lambda folder: Listing(read_metadata_csv(folder)),
    "esc50": read_esc50,
    "audiocaps": read_audiocaps,
    "clotho": read_clotho,
    "wavcaps": read_wavcaps,
}
"""Readers by the name that ``data.layout`` takes."""


def _tables(folder: Path, pattern: str, splits: Iterable[str]) -> list[tuple[str, Path]]:
    """Splits whose table is there, with its path.

    Raises:
        DataError: none is.
    """
    paths = {split: folder / pattern.format(split) for split in splits}
    there = [(split, path) for split, path in paths.items() if path.is_file()]
    if not there:
        raise DataError(f"{folder}: none of {', '.join(path.name for path in paths.values())} is there")
    return there


def _caption(text: str, place: str) -> str:
    if not text.strip():
        raise DataError(f"{place}: no caption")
    return text.strip()


def _found(folders: Iterable[Path], stem: str, place: str) -> Path | None:
    """The first audio file of a name."""
    for folder in folders:
        for suffix in SUFFIXES:
            file = inside(folder, stem + suffix, place)
            if file.is_file():
                return file
    return None


def _entries(path: Path) -> list[Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}") from error
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path}: no list 'data' of WavCaps")
    return entries


def _clotho_origins(folder: Path, split: str) -> dict[str, dict[str, str]]:
    path = folder / f"clotho_metadata_{split}.csv"
    if not path.is_file():
        return {}
    # Published in Latin-1.
    return {row["file_name"]: row for _, row in read_rows(path, ("file_name", "license"), "latin-1")}
