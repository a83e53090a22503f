"""Which public networks a model is told its texts by, kept beside its weights as ``text_source.json``.

A model with a text encoder of its own has no such file: its text encoder lies in the same folder. The features of
public networks are only as good as those networks are the same, so the file names them by their digests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge_tta.config import from_dict, to_dict
from edge_tta.errors import ConfigError
from edge_tta.files import write_file

FILE = "text_source.json"


@dataclass(frozen=True)
class TextSource:
    """A FLAN-T5, with a CLAP beside it or without one."""

    t5_sha256: str
    """Over the files of its folder (``edge_tta.model.public_t5.FILES``)."""
    max_tokens: int
    """Longest text in its tokens, end of sentence included."""
    clap_sha256: str = ""
    """Over the files of CLAP's folder; empty where the sentence vector is made from the tokens of T5."""


def save_text_source(directory: Path, source: TextSource) -> None:
    """Write the file.

    Raises:
        OutputError: the folder cannot be written.
    """
    text = json.dumps(to_dict(source), sort_keys=True, indent=1) + "\n"
    write_file(directory / FILE, text.encode())


def read_text_source(directory: Path) -> TextSource | None:
    """The public networks of a checkpoint; None where it has a text encoder of its own, or nothing yet.

    Raises:
        ConfigError: the file is malformed.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    try:
        return from_dict(TextSource, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error
