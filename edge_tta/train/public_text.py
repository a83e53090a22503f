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
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tta.audio import write_file
from edge_tta.errors import OutputError
from edge_tta.evaluate.local_weights import folder_digest
from edge_tta.model.public_t5 import FILES, MAX_TOKENS, load_t5, load_t5_tokenizer, sentence_vector
from edge_tta.train.latents import LatentSet

logger = logging.getLogger(__name__)

SHARD_FORMAT = "edge_tta text features 1"
BATCH = 64


@dataclass(frozen=True)
class TextFeatures:
    """What the generator is told about one text."""

    tokens: NDArray[np.float16]
    """[T, width], one row a token, the last one end of sentence."""
    pooled: NDArray[np.float32]
    """[width]."""


class PublicText:
    """FLAN-T5 and CLAP as text encoder of a training run.

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
        parts = [SHARD_FORMAT, folder_digest(t5, FILES), str(max_tokens)]
        widths = [int(self.encoder.config.d_model)]
        if clap is not None:
            from edge_tta.evaluate.clap import ClapEmbedder

            self.clap = ClapEmbedder(clap)
            parts.append(self.clap.digest)
            widths.append(int(self.clap.model.config.projection_dim))
        self.width = max(widths)
        """Entries of every token feature and of the pooled vector: ``text_width`` of the generator."""
        self.digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        """SHA-256 over the weights and everything else that decides the features."""
        self._cache = None if cache is None else cache / self.digest[:16]
        self._known: dict[bytes, TextFeatures] = {}
        if self._cache is not None:
            for path in sorted(self._cache.glob("*.npz")):
                self._known |= read_shard(path)

    def encode(
        self, texts: Iterable[str], on_progress: Callable[[int, int], Any] | None = None
    ) -> dict[str, TextFeatures]:
        """Features of every text; those not known yet are computed and kept.

        Args:
            texts: any texts, repetitions cost nothing.
            on_progress: called with texts done and texts in all.

        Raises:
            RequestError: an empty text, or one without letters (:func:`edge_tta.text.normalise`).
            OutputError: the cache cannot be written.
        """
        wanted = {text: hashlib.sha256(text.encode()).digest() for text in sorted(set(texts))}
        missing = [text for text, key in wanted.items() if key not in self._known]
        # Texts of one length together: nothing is padded, so a text's features never depend on its neighbours.
        ids = {text: self.tokenizer.encode(text).ids for text in missing}
        groups: dict[int, list[str]] = {}
        for text in missing:
            groups.setdefault(len(ids[text]), []).append(text)
        fresh: dict[bytes, TextFeatures] = {}
        for group in groups.values():
            for start in range(0, len(group), BATCH):
                part = group[start : start + BATCH]
                rows = self._compute(part, torch.from_numpy(np.stack([ids[text] for text in part])))
                fresh |= {wanted[text]: row for text, row in zip(part, rows, strict=True)}
                if on_progress is not None:
                    on_progress(len(fresh), len(missing))
        if fresh and self._cache is not None:
            write_shard(self._cache, fresh)
        self._known |= fresh
        return {text: self._known[key] for text, key in wanted.items()}

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

    def batch(self, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Padded features of some texts: tokens float32 [B, T, width], mask bool [B, T], pooled float32 [B, width]."""
        features = self.encode(texts)
        longest = max(len(features[text].tokens) for text in texts)
        tokens = torch.zeros(len(texts), longest, self.width)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            own = torch.from_numpy(features[text].tokens.astype(np.float32))
            tokens[row, : len(own)] = own
            mask[row, : len(own)] = True
        return tokens, mask, torch.from_numpy(np.stack([features[text].pooled for text in texts]))

    def encode_captions(
        self,
        latents: LatentSet,
        extra: Iterable[str] = (),
        on_progress: Callable[[int, int], Any] | None = None,
    ) -> None:
        """Give a set of windows the features of all its captions, as ``LatentSet.encode_captions`` does with ours."""
        captions = {*extra, *(text for record in latents.records for text in record["captions"])}
        for text, features in self.encode(captions, on_progress).items():
            latents.features[text] = features.tokens
            latents.pooled[text] = features.pooled


def _widen(features: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(features, (0, width - features.shape[-1]))


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror or error})") from error
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
