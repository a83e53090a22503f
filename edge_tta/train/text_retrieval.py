"""Judging a text encoder: does a prompt land next to the right label, beside how its teacher fares?

Every label is the mean embedding of its events in the caption grammar; a prompt of the paraphrase suite, which nothing
is trained on, is right when that of its own label is the nearest by cosine.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edge_tta.model.text_encoder import TextEncoder
from edge_tta.text import Tokenizer, normalise
from edge_tta.train.data.captions import Captioner
from edge_tta.train.teacher import Teacher
from edge_tta.train.text_conditioner import pad_ids

Encode = Callable[[list[str]], Tensor]
"""Texts to float32 [N, width] of length 1."""


@dataclass(frozen=True)
class Retrieval:
    """How well prompts find their labels."""

    ranks: NDArray[np.int64]
    """int64 [N]: labels nearer to the prompt than its own."""
    embedded: Tensor
    """float32 [N, width]: the prompts."""

    def share_within(self, count: int) -> float:
        """Share of prompts whose own label is among the nearest ``count``."""
        return float((self.ranks < count).mean())


def paraphrase_prompts() -> list[tuple[str, str]]:
    """Label and prompt of the packaged paraphrase suite; used to judge, never to train."""
    path = resources.files("edge_tta.evaluate").joinpath("prompts", "paraphrases.csv")
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [(row["label"], row["prompt"]) for row in rows]


def misspell(text: str, rng: Generator) -> str:
    """One slip of the fingers: two letters swapped, or one lost or doubled, inside a word of four or more.

    A text without such a word is returned as it is.
    """
    words = text.split(" ")
    places = [index for index, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return text
    place = places[int(rng.integers(len(places)))]
    word = words[place]
    # The first letter stays: slips there are rare, and people hardly read past them.
    at = int(rng.integers(1, len(word) - 1))
    slip = int(rng.integers(3))
    if slip == 0:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif slip == 1:
        word = word[:at] + word[at + 1 :]
    else:
        word = word[:at] + word[at] + word[at:]
    return " ".join([*words[:place], word, *words[place + 1 :]])


def student_encode(student: TextEncoder, tokenizer: Tokenizer) -> Encode:
    """Sentence vectors of a text encoder, scaled to length 1."""

    @torch.no_grad()
    def encode(texts: list[str]) -> Tensor:
        ids, mask = pad_ids([tokenizer.encode(text).ids.tolist() for text in texts])
        device = next(student.parameters()).device
        return F.normalize(student(ids.to(device), mask.to(device))[1], dim=-1).cpu()

    return encode


def teacher_encode(teacher: Teacher) -> Encode:
    """Sentence vectors of the teacher, of texts as the student reads them."""
    return lambda texts: teacher([normalise(text) for text in texts])


def retrieve(encode: Encode, captioner: Captioner, suite: list[tuple[str, str]]) -> Retrieval:
    """Rank the labels of a suite for each of its prompts.

    Args:
        encode: what is judged.
        captioner: grammar whose events stand for the labels.
        suite: label and prompt; only labels that occur in it compete.
    """
    labels = sorted({label for label, _ in suite})
    centres = torch.stack([encode(list(captioner.words(label).events)).mean(0) for label in labels])
    embedded = encode([prompt for _, prompt in suite])
    similarity = embedded @ F.normalize(centres, dim=-1).T
    own = torch.tensor([labels.index(label) for label, _ in suite])
    ranks = (similarity > similarity.gather(1, own[:, None])).sum(1)
    return Retrieval(ranks.numpy(), embedded)
