"""Prompt lists to evaluate with: a CSV of prompts and the labels a clip made from each should show."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edge_tta.errors import DataError


@dataclass(frozen=True)
class Prompt:
    """One prompt."""

    text: str
    labels: tuple[str, ...]
    """One label, or two for a prompt that asks for two sounds at once."""
    suite: str
    """Group that is reported together, such as "plain" or "reworded"."""


def find_prompts(source: Path | str) -> Path:
    """File of a prompt list: one of our own by name ("labels", "paraphrases", "digits"), or the path as it is."""
    path = Path(source)
    own = Path(str(resources.files("edge_tta.evaluate") / "prompts" / f"{path.name}.csv"))
    return own if len(path.parts) == 1 and not path.exists() and own.is_file() else path


def read_prompts(path: Path | str) -> tuple[Prompt, ...]:
    """Prompts of a CSV with the columns ``prompt``, ``label`` (or ``labels``, two joined by ``;``) and ``suite``.

    ``suite`` is optional and then named after the file.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row has no prompt, not one or two labels, or
            more cells than there are columns.
    """
    path = Path(path)
    prompts = []
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or ()
            column = next((name for name in ("labels", "label") if name in columns), None)
            if "prompt" not in columns or column is None:
                raise DataError(
                    f"{path}: the columns 'prompt' and 'label' are needed, got {', '.join(columns)}"
                )
            for number, row in enumerate(reader, start=2):
                if None in row:
                    raise DataError(f"{path}:{number}: more cells than columns; quote what holds a comma")
                labels = tuple(part.strip() for part in (row[column] or "").split(";") if part.strip())
                text = (row["prompt"] or "").strip()
                if not text or len(labels) not in (1, 2):
                    raise DataError(
                        f"{path}:{number}: one prompt and one or two labels are needed, got {row}"
                    )
                prompts.append(Prompt(text, labels, (row.get("suite") or path.stem).strip()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not prompts:
        raise DataError(f"{path}: no prompt")
    return tuple(prompts)
