"""Text features on disk: what a frozen text network has computed once serves every later run.

A shard is an npz of texts by their SHA-256, written whole or not at all. Features of other networks never mix: the
folder is named after the network's digest.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.files import make_folder, write_file

logger = logging.getLogger(__name__)

SHARD_FORMAT = "edge_tta text features 1"
"""Part of every network's digest, so that another layout or meaning of the shards is never read as this one."""
SHARD_TEXTS = 4096
"""Texts encoded before they are kept: what an interruption loses at most."""

OnEncoded = Callable[[int, int], Any]
"""Texts encoded, texts to encode."""


@dataclass(frozen=True)
class TextFeatures:
    """What the generator is told about one text."""

    tokens: NDArray[np.float16]
    """[T, width], one row a token, the last one end of sentence."""
    pooled: NDArray[np.float32]
    """[width]."""


class FeatureStore:
    """Features by text, in memory and in a folder.

    Args:
        folder: of the shards of one network; None keeps nothing on disk.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._known: dict[bytes, TextFeatures] = {}
        if folder is not None:
            for path in sorted(folder.glob("*.npz")):
                self._known |= read_shard(path)

    def encode(
        self,
        texts: Iterable[str],
        compute: Callable[[list[str]], Iterator[tuple[list[str], list[TextFeatures]]]],
        on_progress: OnEncoded | None = None,
    ) -> dict[str, TextFeatures]:
        """Features of every text; what is not known yet is computed and kept.

        Args:
            texts: any texts; repetitions cost nothing.
            compute: features of distinct texts in any order, in batches that it chooses.
            on_progress: told how many of those that have to be computed are.

        Raises:
            OutputError: the folder cannot be written.
        """
        wanted = {text: hashlib.sha256(text.encode()).digest() for text in sorted(set(texts))}
        missing = [text for text, key in wanted.items() if key not in self._known]
        done, fresh = 0, dict[bytes, TextFeatures]()
        for part, rows in compute(missing):
            fresh |= {wanted[text]: row for text, row in zip(part, rows, strict=True)}
            done += len(part)
            if len(fresh) >= SHARD_TEXTS or done == len(missing):
                if self.folder is not None:
                    write_shard(self.folder, fresh)
                self._known |= fresh
                fresh = {}
            if on_progress is not None:
                on_progress(done, len(missing))
        return {text: self._known[key] for text, key in wanted.items()}


def write_shard(folder: Path, features: dict[bytes, TextFeatures]) -> Path:
    """Keep features of some texts in one file, whole or not at all; its name follows from the texts.

    Raises:
        OutputError: the folder cannot be written.
    """
    keys = sorted(features)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        keys=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1),
        lengths=np.array([len(features[key].tokens) for key in keys]),
        tokens=np.concatenate([features[key].tokens for key in keys]),
        pooled=np.stack([features[key].pooled for key in keys]),
    )
    path = folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}.npz"
    make_folder(folder)
    write_file(path, buffer.getvalue())
    return path


def read_shard(path: Path) -> dict[bytes, TextFeatures]:
    """Features of a shard by the SHA-256 of their texts; a damaged one counts as empty, it can be made again."""
    try:
        with np.load(path, allow_pickle=False) as data:
            keys, lengths, tokens, pooled = (data[name] for name in ("keys", "lengths", "tokens", "pooled"))
        if not len(keys) == len(lengths) == len(pooled) or lengths.sum() != len(tokens):
            raise ValueError("lengths do not agree")
    except Exception as error:  # a damaged archive raises many kinds
        logger.warning("%s: damaged, its texts are encoded again (%s)", path, error)
        return {}
    ends = np.cumsum(lengths)
    return {
        key.tobytes(): TextFeatures(tokens[end - length : end], row)
        for key, length, end, row in zip(keys, lengths, ends, pooled, strict=True)
    }
