"""Text features of captions, encoded once and kept in memory: what windows and couples are conditioned on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tta.flow.path import Condition
from edge_tta.train.text_conditioner import TextConditioner
from edge_tta.train.text_features import OnEncoded

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

    def encode(
        self, text: TextConditioner, captions: Iterable[str], on_progress: OnEncoded | None = None
    ) -> None:
        """Compute and keep the features of captions that are not known yet.

        Args:
            text: what computes them.
            captions: any number, repeated or not.
            on_progress: see ``TextConditioner.encode``.
        """
        missing = set(captions) - set(self.features)
        for caption, features in text.encode(missing, on_progress).items():
            self.features[caption], self.pooled[caption] = features.tokens, features.pooled

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
