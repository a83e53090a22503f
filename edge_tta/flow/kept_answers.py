"""A teacher's answers to numbered batches, kept while a batch is reused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
from torch import Generator, Tensor

from edge_tta.flow.path import Condition

Answer = TypeVar("Answer")


class KeptAnswers(Generic[Answer]):
    """Answers that follow from the seed of the run and the number of the batch: a run that is taken up in the middle of
    a reuse goes on exactly, and runs of other seeds learn from other draws.

    Args:
        make: latents float32 [B, L, C], condition and source of every draw to an answer.
        seed: of the run.
    """

    def __init__(self, make: Callable[[Tensor, Condition, Generator], Answer], seed: int) -> None:
        self.make, self.seed = make, seed
        self._kept: dict[int, Answer] = {}

    def __call__(self, data: Tensor, condition: Condition, number: int) -> Answer:
        """The answer to batch ``number``, made once as long as no other batch comes."""
        if number not in self._kept:
            self._kept.clear()
            own = np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)
            self._kept[number] = self.make(data, condition, Generator().manual_seed(int(own[0])))
        return self._kept[number]
