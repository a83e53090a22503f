"""Who made the clips that a model learnt from: the list that travels with its weights.

Licences such as CC-BY ask for the author's name and a link. Tables of clips have gaps, so this fills what follows from
other columns, and names what is left in place of passing over it.

    python -m edge_tta.train.attributions SOUNDS -o MODEL/ATTRIBUTIONS.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_tta.catalog import METADATA_FILE, licence_name, read_metadata_csv, read_rows
from edge_tta.errors import DataError, EdgeTTAError
from edge_tta.files import write_file

COLUMNS = ("id", "source", "label", "title", "licence", "attribution", "url", "evidence")
"""Of the list; ``evidence`` is where the licence is stated."""
FREESOUND = re.compile(r"freesound\.org/people/([^/]+)/")
FREE_OF_DUTIES = ("cc0", "public", "unlicense")
"""Beginnings of licences that ask for no author."""


def attributions(folder: Path, permissive_only: bool = True) -> tuple[str, list[str]]:
    """The list of all training clips of a folder, as CSV, and what it lacks.

    Args:
        folder: has a ``metadata.csv`` as training reads it. ``repo``, ``commit``, ``path_in_repo``
            and ``licence_evidence`` fill gaps where they are there.
        permissive_only: as ``data.permissive_only`` of a recipe.

    Raises:
        DataError: the table cannot be read, or none of its clips is used.
    """
    table = folder / METADATA_FILE
    rows = (row for _, row in read_rows(table, ("file",)))
    used = [
        row
        for clip, row in zip(read_metadata_csv(folder), rows, strict=True)
        if clip.split == "train" and (clip.permissive or not permissive_only)
    ]
    if not used:
        raise DataError(f"{table} has no clip that a model may learn from")
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    lacking = []
    for row in used:
        entry = _entry(row)
        writer.writerow(entry)
        missing = [column for column in ("attribution", "url") if not entry[column]]
        if missing and not licence_name(entry["licence"]).lower().startswith(FREE_OF_DUTIES):
            lacking.append(f"{entry['id']} ({entry['licence']}): no {' and no '.join(missing)}")
    return text.getvalue(), lacking


def _entry(row: dict[str, str]) -> dict[str, str]:
    """A clip's line; what a table leaves out is taken from where the clip was found."""
    entry = {column: (row.get(column) or "").strip() for column in COLUMNS}
    entry["id"] = entry["id"] or (row.get("file") or "").strip()
    entry["evidence"] = (row.get("licence_evidence") or "").strip()
    uploader = FREESOUND.search(entry["url"])
    if not entry["attribution"] and uploader:
        entry["attribution"] = uploader[1]
    repository, commit, path = ((row.get(name) or "").strip() for name in ("repo", "commit", "path_in_repo"))
    # Some tables have a remark of the author's there.
    if not entry["url"].startswith("http") and repository and commit and path:
        entry["url"] = f"https://github.com/{repository}/blob/{commit}/{path.replace(' ', '%20')}"
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; what the list lacks is told on standard error."""
    top = argparse.ArgumentParser(
        prog="python -m edge_tta.train.attributions", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("folder", type=Path, help="with metadata.csv")
    top.add_argument(
        "--all-licences", action="store_true", help="clips of any licence, not permissive ones only"
    )
    top.add_argument("-o", "--output", type=Path, required=True, help="list to write")
    options = top.parse_args(arguments)
    try:
        text, lacking = attributions(options.folder, not options.all_licences)
        write_file(options.output, text.encode())
    except EdgeTTAError as error:
        sys.stderr.write(f"attributions: {error}\n")
        return error.exit_code
    for line in lacking:
        sys.stderr.write(f"attributions: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
