"""Catalogs: which clips there are, what they show and under which licence. Training and evaluation read the same."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_tta.errors import DataError

METADATA_FILE = "metadata.csv"

SPLITS = ("train", "val", "test")
"""Parts of a catalog; nothing is learnt from "test"."""

PERMISSIVE_LICENCES = ("cc0", "cc-by", "public-domain", "publicdomain", "mit", "bsd", "unlicense")
"""Beginnings of licence names whose clips may go into weights that are redistributed."""

_CREATIVE_COMMONS = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/(?P<kind>licenses|publicdomain)/(?P<code>[a-z+-]+)"
    r"(?:/(?P<version>[0-9.]+(?:/(?!deed|legalcode)[a-z]+)?))?(?:/(?:deed|legalcode)[^/?#]*)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
"""Address of a licence: its code, its version with the country of a ported one, and the page of either."""


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


def read_rows(
    path: Path, required: Iterable[str], encoding: str = "utf-8-sig"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with their line numbers; what a short row lacks is "".

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="", encoding=encoding) as stream:
            reader = csv.DictReader(stream, restval="")
            missing = [column for column in required if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: missing column {', '.join(missing)}")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error


def number_in(row: dict[str, str], column: str, place: str) -> float:
    """A finite number of a row, 0 where there is none.

    Raises:
        DataError: another text; ``place`` tells where.
    """
    text = row.get(column) or "0"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}: column {column} holds {text!r}, expected a number")
    return value


def inside(folder: Path, name: str, place: str) -> Path:
    """Path of a file that a table names.

    Raises:
        DataError: no name, or one that leaves the folder; ``place`` tells where.
    """
    if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{place}: file {name!r} is no path inside the folder; it is empty or lies outside")
    return folder / name


def licence_name(text: str) -> str:
    """Name of a licence that is given as the address of its text at Creative Commons; other texts as they are."""
    found = _CREATIVE_COMMONS.fullmatch(text.strip())
    if found is None:
        return text.strip()
    code, version = found["code"].upper(), found["version"]
    # The dedication of 2009 and before lies among the licences.
    if found["kind"].lower() == "publicdomain" or code == "PUBLICDOMAIN":
        return "CC0" if code == "ZERO" else "public-domain"
    return "-".join(("CC", code, *(version.upper().split("/") if version else ())))


def is_permissive(licence: str) -> bool:
    """Whether a licence allows commercial use and redistribution; non-commercial variants do not.

    Args:
        licence: its name, or its address at Creative Commons.
    """
    name = licence_name(licence).lower().replace(" ", "-")
    if any(part in name for part in ("-nc", "-nd", "-sa", "noncommercial")):
        return False
    return name.startswith(PERMISSIVE_LICENCES)


def is_known_licence(licence: str) -> bool:
    """Whether a licence is permissive, or not permissive and of Creative Commons: of others nothing is known."""
    return is_permissive(licence) or licence_name(licence).lower().startswith(("cc-", "cc "))


def read_metadata_csv(folder: Path) -> list[Clip]:
    """Read a folder with a ``metadata.csv``: columns ``file`` and ``label``, ``word`` or ``caption``, others optional.

    ``word`` is what recordings of speech have for a label: the word that is said.

    Without a ``split`` a clip is for training, without a ``recording_key`` it is a recording of its own.

    Raises:
        DataError: the table is missing, lacks a column or names a file outside the folder, or a clip has no label or
            an unknown split.
    """
    path = folder / METADATA_FILE
    clips = []
    for line, row in read_rows(path, ("file",)):
        place = f"{path}:{line}"
        file = inside(folder, row["file"], place)
        label = row.get("label") or row.get("word") or row.get("caption") or ""
        if not label:
            raise DataError(f"{place}: {row['file']} has neither label, word nor caption")
        split = row.get("split") or "train"
        if split not in SPLITS:
            raise DataError(
                f"{place}: split {split!r} is unknown; use {', '.join(SPLITS)}, or leave it empty for train"
            )
        licence = row.get("licence") or row.get("license") or ""
        declared = row.get("licence_class") or ""
        captions = tuple(row[column] for column in ("caption", "caption_title") if row.get(column))
        clips.append(
            Clip(
                id=row.get("id") or row["file"],
                path=file,
                label=label,
                captions=captions,
                licence=licence,
                permissive=declared == "permissive" if declared else is_permissive(licence),
                attribution=row.get("attribution") or "",
                url=row.get("url") or "",
                source=row.get("source") or "",
                split=split,
                group=row.get("group") or "",
                recording=row.get("recording_key") or row.get("id") or row["file"],
                seconds=number_in(row, "duration", place),
                bandwidth_hz=number_in(row, "bandwidth_hz", place),
            )
        )
    return clips


def select(clips: Iterable[Clip], *conditions: Callable[[Clip], bool]) -> list[Clip]:
    """Clips that meet every condition, in their order."""
    return [clip for clip in clips if all(condition(clip) for condition in conditions)]


def permissive(clip: Clip) -> bool:
    """Condition: may go into redistributed weights."""
    return clip.permissive


def in_split(*splits: str) -> Callable[[Clip], bool]:
    """Condition: belongs to one of some splits."""
    return lambda clip: clip.split in splits


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
