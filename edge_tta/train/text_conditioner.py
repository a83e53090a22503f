"""What turns captions into the features a generator is told: the protocol, and the compact text encoder behind it.

The other implementation is :class:`edge_tta.train.public_text.PublicText`. Everything that trains a generator asks for
features by caption and does not know which of them answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edge_tta.flow.couple_store import weights_digest
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.text import Tokenizer
from edge_tta.train.text_features import SHARD_FORMAT, FeatureStore, OnEncoded, TextFeatures

BATCH = 128
"""Captions that the compact encoder takes in a pass."""


class TextConditioner(Protocol):
    """Features of texts; frozen, so equal texts have equal features."""

    @property
    def width(self) -> int:
        """Entries of every token feature and of the pooled vector: ``text_width`` of the generator."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of everything that decides the features."""
        ...

    def encode(self, texts: Iterable[str], on_progress: OnEncoded | None = None) -> dict[str, TextFeatures]:
        """Features of every text, each computed once.

        Args:
            texts: any texts; repetitions cost nothing.
            on_progress: told how many of those that have to be computed are.

        Raises:
            RequestError: an empty text, or one without letters (:func:`edge_tta.text.normalise`).
        """
        ...


class CompactText:
    """The compact text encoder of a checkpoint with its tokenizer, on the CPU.

    Args:
        encoder: in evaluation mode.
        tokenizer: serialised SentencePiece model.
        cache: folder for features; None computes them anew every time.

    Raises:
        BundleError: the tokenizer cannot be read.
    """

    def __init__(self, encoder: TextEncoder, tokenizer: bytes, cache: Path | None = None) -> None:
        self.encoder = encoder
        self.tokenizer = Tokenizer(tokenizer, encoder.config.max_tokens)
        self.digest = hashlib.sha256(weights_digest(encoder).encode() + tokenizer).hexdigest()
        """See ``TextConditioner``."""
        kept = hashlib.sha256(f"{SHARD_FORMAT}\0{self.digest}".encode()).hexdigest()
        self._store = FeatureStore(None if cache is None else cache / kept[:16])

    @property
    def width(self) -> int:
        """See ``TextConditioner``."""
        return self.encoder.config.width

    def encode(self, texts: Iterable[str], on_progress: OnEncoded | None = None) -> dict[str, TextFeatures]:
        """See ``TextConditioner``.

        Raises:
            OutputError: the cache cannot be written.
        """
        return self._store.encode(texts, self._computed, on_progress)

    @torch.no_grad()
    def _computed(self, texts: list[str]) -> Iterator[tuple[list[str], list[TextFeatures]]]:
        ids = {text: self.tokenizer.encode(text).ids.tolist() for text in texts}
        ordered = sorted(texts, key=lambda text: len(ids[text]))
        for start in range(0, len(ordered), BATCH):
            group = ordered[start : start + BATCH]
            tokens, pooled = self.encoder(*pad_ids([ids[text] for text in group]))
            yield (
                group,
                [
                    TextFeatures(
                        tokens[row, : len(ids[text])].numpy().astype(np.float16), pooled[row].numpy()
                    )
                    for row, text in enumerate(group)
                ],
            )


def pad_ids(ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids int64 [B, T] and mask bool [B, T] of token lists of different lengths."""
    longest = max(map(len, ids))
    padded = torch.zeros(len(ids), longest, dtype=torch.int64)
    mask = torch.zeros(len(ids), longest, dtype=torch.bool)
    for row, item in enumerate(ids):
        padded[row, : len(item)] = torch.tensor(item)
        mask[row, : len(item)] = True
    return padded, mask
