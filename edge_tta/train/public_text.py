"""Text conditions of the papers: FLAN-T5 token features and a CLAP text vector, from local folders, kept on disk.

MeanAudio conditions on the tokens of a FLAN-T5 encoder (Chung et al. 2022, https://arxiv.org/abs/2210.11416) and on one
CLAP text vector. Both networks are large and frozen, so every caption is encoded once and its features are kept.

Differences from the papers, all of them because the device must compute the same: captions are normalised as prompts
are (:func:`edge_tta.text.normalise`), tokens are not padded to a fixed length but masked, and the CLAP vector is scaled
to entries of about unit variance. Where token features and CLAP vectors differ in width, the narrower ones are filled
up with zeros: for the linear layers that read them, that is the same as layers of their own widths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.local_weights import folder_digest
from edge_tta.model.public_t5 import (
    FILES,
    MAX_TOKENS,
    load_t5,
    load_t5_tokenizer,
    read_json,
    sentence_vector,
    t5_shape,
)
from edge_tta.model.text_source import TextSource
from edge_tta.ranges import require_ranges
from edge_tta.train.text_features import SHARD_FORMAT, FeatureStore, OnEncoded, TextFeatures

BATCH = 64


@dataclass(frozen=True)
class PublicTextConfig:
    """Public networks that turn captions into features, in place of the checkpoint's text encoder."""

    t5: str = ""
    """Folder of a FLAN-T5 (or another T5 with SentencePiece) in Hugging Face layout."""
    clap: str = ""
    """Folder of a CLAP whose text vector is the sentence vector; without one it is made from the tokens of T5."""
    max_tokens: int = MAX_TOKENS
    """Longest caption in T5's tokens."""

    def __post_init__(self) -> None:
        require_ranges(self, max_tokens=(2, 512))

    def folders(self) -> tuple[Path, Path | None]:
        """Folders of T5 and CLAP.

        Raises:
            ConfigError: no T5 is given.
        """
        if not self.t5:
            raise ConfigError(
                "give generator.public_text.t5, a folder with a FLAN-T5 (--set generator.public_text.t5=PATH)"
            )
        return Path(self.t5), Path(self.clap) if self.clap else None


def with_public_text(model: ModelConfig, settings: PublicTextConfig) -> ModelConfig:
    """A model of the same shape that is told its texts by public networks, from their settings' files alone.

    Raises:
        ConfigError: no T5 is given.
        DataError: a settings file is missing or not of its kind.
    """
    t5, clap = settings.folders()
    text = t5_shape(t5, settings.max_tokens)
    if clap is not None:
        path = clap / "config.json"
        width = read_json(path).get("projection_dim")
        if not isinstance(width, int):
            raise DataError(f"{path}: not that of a CLAP, projection_dim is {width!r}")
        text = replace(text, width=max(text.width, width))
    generator = replace(model.generator, text_width=text.width)
    return replace(model, name=f"{model.name}-t5", text_encoder=text, generator=generator)


class PublicText:
    """FLAN-T5 and CLAP as what conditions a training run; see ``TextConditioner``.

    Args:
        t5: folder in Hugging Face layout with ``config.json``, weights and ``spiece.model``.
        cache: folder for features; None computes them anew every time.
        clap: folder of a CLAP checkpoint; without one the pooled vector is the mean of the T5 tokens scaled to length
            sqrt(width), which is what an exported T5 encoder gives (``export.t5_encoder``).
        max_tokens: longest text in tokens.

    Raises:
        DataError: a folder or file is missing or damaged.
        MissingExtraError: transformers is not installed.
    """

    def __init__(
        self, t5: Path, cache: Path | None = None, clap: Path | None = None, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.encoder = load_t5(t5)
        self.tokenizer = load_t5_tokenizer(t5, max_tokens)
        self.clap: Any = None
        self.source = TextSource(folder_digest(t5, FILES), max_tokens)
        """What a checkpoint says about these networks."""
        parts = [SHARD_FORMAT, self.source.t5_sha256, str(max_tokens)]
        widths = [int(self.encoder.config.d_model)]
        if clap is not None:
            from edge_tta.evaluate.clap import ClapEmbedder

            self.clap = ClapEmbedder(clap)
            self.source = replace(self.source, clap_sha256=self.clap.digest)
            parts.append(self.clap.digest)
            widths.append(int(self.clap.model.config.projection_dim))
        self.width = max(widths)
        """See ``TextConditioner``."""
        self.digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        """See ``TextConditioner``."""
        self._store = FeatureStore(None if cache is None else cache / self.digest[:16])

    def encode(self, texts: Iterable[str], on_progress: OnEncoded | None = None) -> dict[str, TextFeatures]:
        """See ``TextConditioner``; what is not known yet is computed and kept.

        Raises:
            OutputError: the cache cannot be written.
        """
        return self._store.encode(texts, self._computed, on_progress)

    def _computed(self, texts: list[str]) -> Iterator[tuple[list[str], list[TextFeatures]]]:
        for part in self._batches(texts):
            ids = torch.from_numpy(np.stack([self.tokenizer.encode(text).ids for text in part]))
            yield part, self._compute(part, ids)

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        """Texts of one length together: nothing is padded, so a text's features never depend on its neighbours."""
        groups: dict[int, list[str]] = {}
        for text in texts:
            groups.setdefault(len(self.tokenizer.encode(text).ids), []).append(text)
        for group in groups.values():
            for start in range(0, len(group), BATCH):
                yield group[start : start + BATCH]

    @torch.no_grad()
    def _compute(self, texts: list[str], ids: Tensor) -> list[TextFeatures]:
        hidden: Tensor = self.encoder(input_ids=ids).last_hidden_state.float()
        if self.clap is None:
            pooled = sentence_vector(hidden)
        else:
            vectors = self.clap.embed_text([self.tokenizer.encode(text).text for text in texts])
            pooled = torch.from_numpy(vectors) * vectors.shape[1] ** 0.5
        tokens = _widen(hidden, self.width).numpy().astype(np.float16)
        return [
            TextFeatures(tokens[row], vector)
            for row, vector in enumerate(_widen(pooled, self.width).numpy().astype(np.float32))
        ]


def _widen(features: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(features, (0, width - features.shape[-1]))
