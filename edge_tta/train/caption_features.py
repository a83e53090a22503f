"""Text features of captions, encoded once and kept in memory: what windows and couples are conditioned on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tta.flow.path import Condition
from edge_tta.model.text_encoder import TextEncoder

SHAPE_STEP = 8
"""Batches longer than two of these are cut to multiples of it, and texts padded to them."""


def whole_shape(length: int) -> int:
    """A length in latent frames cut to one of the few shapes that training uses."""
    return length - length % SHAPE_STEP if length > 2 * SHAPE_STEP else length


class CaptionFeatures:
    """Features by caption; token features are kept in float16."""

    def __init__(self) -> None:
        self.features: dict[str, NDArray[np.float16]] = {}
        """[T, width] of every caption."""
        self.pooled: dict[str, NDArray[np.float32]] = {}
        """[width] of every caption."""

    @torch.no_grad()
    def encode(
        self,
        encoder: TextEncoder,
        tokenize: Callable[[str], list[int]],
        captions: Iterable[str],
        batch: int = 128,
    ) -> None:
        """Compute and keep the features of captions that are not known yet.

        Args:
            encoder: text encoder, on the CPU.
            tokenize: text to ids, the last one being end of sentence.
            captions: any number, repeated or not.
            batch: captions in a pass.
        """
        missing = sorted(set(captions) - set(self.features))
        ids = {text: tokenize(text) for text in missing}
        missing.sort(key=lambda text: len(ids[text]))
        for start in range(0, len(missing), batch):
            group = missing[start : start + batch]
            tokens, pooled = encoder(*pad_ids([ids[text] for text in group]))
            for row, text in enumerate(group):
                self.features[text] = tokens[row, : len(ids[text])].numpy().astype(np.float16)
                self.pooled[text] = pooled[row].numpy()

    def condition(self, captions: tuple[str, ...], seconds: Tensor) -> Condition:
        """Padded text features of encoded captions, and durations float32 [B] in seconds."""
        longest = max(len(self.features[text]) for text in captions)
        longest += -longest % SHAPE_STEP
        width = next(iter(self.pooled.values())).shape[0]
        tokens = np.zeros((len(captions), longest, width), dtype=np.float32)
        mask = np.zeros((len(captions), longest), dtype=bool)
        for row, text in enumerate(captions):
            features = self.features[text]
            tokens[row, : len(features)] = features
            mask[row, : len(features)] = True
        pooled = np.stack([self.pooled[text] for text in captions])
        return Condition(torch.from_numpy(tokens), torch.from_numpy(pooled), torch.from_numpy(mask), seconds)


def pad_ids(ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids int64 [B, T] and mask bool [B, T] of token lists of different lengths."""
    longest = max(map(len, ids))
    padded = torch.zeros(len(ids), longest, dtype=torch.int64)
    mask = torch.zeros(len(ids), longest, dtype=torch.bool)
    for row, item in enumerate(ids):
        padded[row, : len(item)] = torch.tensor(item)
        mask[row, : len(item)] = True
    return padded, mask
