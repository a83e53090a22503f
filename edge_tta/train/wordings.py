"""Free wordings in training: what a generator is told varies more than the captions its windows were stored with.

A generator that sees the same few thousand captions in every epoch learns them by heart, and prompts worded otherwise
miss (docs/concepts/training.md has the measurement). Rows of one label are therefore told another wording at every
step, features are disturbed, and a teacher may be asked in the plain words it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator, default_rng
from torch import Tensor

from edge_tta.ranges import COUNT, NOT_NEGATIVE, SHARE, require_ranges
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.data.captions import Captioner
from edge_tta.train.latents import Batch


@dataclass(frozen=True)
class TextVariety:
    """How much the text varies; all zeros trains on the stored captions as they are."""

    wording_share: float = 0.0
    """Share of rows of one label that are told a free wording instead of their stored caption."""
    wordings: int = 80
    """Free wordings of every label, encoded before training."""
    mixing_share: float = 0.0
    """Share of these rows whose sentence vector belongs to another wording than their tokens."""
    noise: float = 0.0
    """Standard deviation of noise on tokens and sentence vector, in their own standard deviations."""
    dropped_tokens: float = 0.0
    """Share of tokens that is lost on average, the end of sentence excepted; rows differ, up to twice as much."""

    def __post_init__(self) -> None:
        require_ranges(self, wording_share=SHARE, wordings=COUNT, mixing_share=SHARE)
        require_ranges(self, noise=NOT_NEGATIVE, dropped_tokens=SHARE)

    @property
    def active(self) -> bool:
        """Whether anything varies."""
        return self.wording_share > 0 or self.noise > 0 or self.dropped_tokens > 0


class WordingPool:
    """Free wordings by label, with their features.

    Args:
        variety: how much varies.
        captioner: where wordings come from.
        labels: labels of the data.
        features: where text features are kept; the data set itself.
        seed: of the wordings drawn.
    """

    def __init__(
        self,
        variety: TextVariety,
        captioner: Captioner,
        labels: Sequence[str],
        features: CaptionFeatures,
        seed: int = 0,
    ) -> None:
        self.variety, self.features = variety, features
        rng = default_rng([seed, len(labels)])
        self.plain = {label: captioner.plain(label) for label in sorted(set(labels))}
        self.free = {
            label: tuple(captioner.free(label, rng) for _ in range(variety.wordings)) for label in self.plain
        }

    @property
    def captions(self) -> set[str]:
        """Every wording, once; ``features`` have to be given them before the first ``vary``."""
        return {*self.plain.values(), *(text for wordings in self.free.values() for text in wordings)}

    def vary(self, batch: Batch, seed: int, step: int) -> Batch:
        """The batch with the text of this step, a function of (seed, batch, step).

        The condition's ``plain`` part keeps stored captions and plain words, undisturbed. It is a function of (seed,
        batch) alone, and so are the rows that are told free wordings: a teacher's answer is kept while a batch is
        reused, and a run that is taken up in between has to get the same one.
        """
        chosen = default_rng([seed, batch.step, 2]).random(len(batch.labels)) < self.variety.wording_share
        rng = default_rng([seed, step, 1])
        told, summed_up, plain = list(batch.captions), list(batch.captions), list(batch.captions)
        for row, labels in enumerate(batch.labels):
            if not chosen[row] or len(labels) != 1 or labels[0] not in self.free:
                continue
            wordings = self.free[labels[0]]
            told[row] = summed_up[row] = wordings[int(rng.integers(len(wordings)))]
            if rng.random() < self.variety.mixing_share:
                summed_up[row] = wordings[int(rng.integers(len(wordings)))]
            plain[row] = self.plain[labels[0]]
        seconds, variety = batch.condition.seconds, self.variety
        condition = self.features.condition(tuple(told), seconds)
        pooled = torch.from_numpy(np.stack([self.features.pooled[text] for text in summed_up]))
        condition = replace(
            condition,
            # Padding would count as text that does not vary, and batches have different shares of it.
            tokens=_disturb(
                condition.tokens, condition.tokens[condition.text_mask].std(), variety.noise, rng
            ),
            pooled=_disturb(pooled, pooled.std(), variety.noise, rng),
            text_mask=_drop(condition.text_mask, variety.dropped_tokens, rng),
            plain=self.features.condition(tuple(plain), seconds),
        )
        return replace(batch, condition=condition, captions=tuple(told))


def _disturb(values: Tensor, deviation: Tensor, noise: float, rng: Generator) -> Tensor:
    if noise == 0:
        return values
    # Rows differ in how much they are disturbed, so that clean text stays within what is seen.
    scale = rng.uniform(0, 2 * noise, (len(values), *([1] * (values.dim() - 1))))
    drawn = rng.standard_normal(values.shape) * scale
    return values + torch.from_numpy(drawn.astype(np.float32)) * deviation


def _drop(mask: Tensor, share: float, rng: Generator) -> Tensor:
    if share == 0:
        return mask
    lost = torch.from_numpy(rng.random(mask.shape) < rng.uniform(0, 2 * share, (len(mask), 1)))
    ends = torch.nn.functional.one_hot(mask.sum(1) - 1, mask.shape[1]).bool()
    return mask & (~lost | ends)
