"""What listens: embedders turn sounds into vectors, and some of them into label probabilities or text into vectors too.

Our own tagger is built in. Public ones are read from local files, never fetched: ``clap=FOLDER``, ``panns=FILE``,
``vggish=FILE``. Figures of different embedders, or of one with other weights, must not be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.evaluate.spectral import FloatArray, resample
from edge_tta.evaluate.tagger import Tagger, Tags


class Embedder(Protocol):
    """Turns sounds into vectors."""

    @property
    def name(self) -> str:
        """Kind of embedder, such as "clap"."""

    @property
    def sample_rate(self) -> int:
        """Hz of the waveforms it listens to."""

    @property
    def digest(self) -> str:
        """SHA-256 over everything that decides its answers."""

    def embed(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Waveforms float32 [frames], full scale 1, at ``sample_rate``, to embeddings float32 [N, D]."""


@runtime_checkable
class Labeller(Embedder, Protocol):
    """An embedder that also names what it hears."""

    def probabilities(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Distribution over its labels, float32 [N, labels]; rows sum to 1."""

    def both(self, clips: Sequence[npt.ArrayLike]) -> tuple[FloatArray, FloatArray]:
        """Embeddings and distributions of one pass."""


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """An embedder that puts text into the same space."""

    def embed_text(self, texts: Sequence[str]) -> FloatArray:
        """Text embeddings, float32 [N, D]."""


@dataclass(frozen=True)
class Heard:
    """What an embedder makes of some clips."""

    embeddings: FloatArray
    """float32 [N, D]."""
    probabilities: FloatArray | None
    """float32 [N, labels]; None for an embedder without labels."""

    def rows(self, chosen: npt.NDArray[np.int64]) -> Heard:
        """Some of the clips, int64 [n] to a table of n."""
        kept = None if self.probabilities is None else self.probabilities[chosen]
        return Heard(self.embeddings[chosen], kept)


def stack_heard(parts: Sequence[Heard]) -> Heard:
    """Several tables as one."""
    distributions = [part.probabilities for part in parts if part.probabilities is not None]
    return Heard(
        np.concatenate([part.embeddings for part in parts]),
        np.concatenate(distributions) if len(distributions) == len(parts) else None,
    )


def listen(embedder: Embedder, clip: npt.ArrayLike, sample_rate: int) -> Heard:
    """What an embedder makes of one clip [frames] at ``sample_rate`` Hz, resampled to its own.

    Raises:
        DataError: an empty or non-finite clip.
        MissingExtraError: soxr is needed and absent.
    """
    signal = resample(clip, sample_rate, embedder.sample_rate)
    if isinstance(embedder, Labeller):
        return Heard(*embedder.both([signal]))
    return Heard(embedder.embed([signal]), None)


class TaggerEmbedder:
    """The built-in embedder: our tagger; see ``Labeller``.

    Its embeddings follow a rectifier and have no text side. Where a text score is asked for, the classifier's weights
    stand in: the row of a label is the direction in which the tagger hears it, as a text vector is CLAP's.
    """

    name = "tagger"

    def __init__(self, tagger: Tagger) -> None:
        self.tagger = tagger
        self.sample_rate = tagger.config.mel.sample_rate
        self.digest = tagger.digest

    def heard(self, tags: Tags) -> Heard:
        """Verdicts that were made already."""
        return Heard(tags.embeddings, softmax(tags.logits))

    def both(self, clips: Sequence[npt.ArrayLike]) -> tuple[FloatArray, FloatArray]:
        """Embeddings float32 [N, D] and label distributions float32 [N, labels]."""
        tags = self.tagger.tag(clips, self.sample_rate)
        return tags.embeddings, softmax(tags.logits)

    def embed(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Embeddings, float32 [N, D]."""
        return self.tagger.tag(clips, self.sample_rate).embeddings

    def probabilities(self, clips: Sequence[npt.ArrayLike]) -> FloatArray:
        """Label distributions, float32 [N, labels]; rows sum to 1."""
        return self.both(clips)[1]

    def label_vectors(self) -> dict[str, FloatArray]:
        """The classifier's weights by label, float32 [D] each."""
        weight = self.tagger.network.get_parameter("classifier.weight").detach().cpu().numpy()
        return {label: weight[position] for position, label in enumerate(self.tagger.labels)}


def softmax(logits: npt.ArrayLike) -> FloatArray:
    """Distributions float32 [N, labels] of logits [N, labels]."""
    array = np.asarray(logits, dtype=np.float64)
    powers = np.exp(array - array.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


KINDS = ("clap", "panns", "vggish")
"""Embedders of public weights."""


def open_embedder(kind: str, path: Path | str) -> Embedder:
    """Embedder of public weights that lie on this machine.

    Args:
        kind: "clap" (a folder in Hugging Face layout), "panns" or "vggish" (a file).
        path: where the weights are.

    Raises:
        ConfigError: another kind.
        DataError: nothing there, or something else.
        MissingExtraError: torch, or for CLAP transformers, is not installed.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown embedder {kind!r}; known are {', '.join(KINDS)}")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("eval", f"the {kind} embedder") from error
    if kind == "clap":
        from edge_tta.evaluate.clap import ClapEmbedder

        return ClapEmbedder(path)
    if kind == "panns":
        from edge_tta.evaluate.panns import Cnn14Embedder

        return Cnn14Embedder(path)
    from edge_tta.evaluate.vggish import VGGishEmbedder

    return VGGishEmbedder(path)


def open_embedders(descriptions: Sequence[str]) -> tuple[Embedder, ...]:
    """Embedders of descriptions such as ``clap=FOLDER``.

    Raises:
        ConfigError: a description without kind or path, or one twice.
        DataError, MissingExtraError: see :func:`open_embedder`.
    """
    found = []
    for description in descriptions:
        kind, equals, path = description.partition("=")
        if not equals or not path:
            raise ConfigError(f"embedder {description!r}: expected KIND=PATH with KIND {', '.join(KINDS)}")
        found.append(open_embedder(kind.strip(), path.strip()))
    if len({embedder.digest for embedder in found}) < len(found):
        raise ConfigError(f"embedders {', '.join(descriptions)}: one of them is there twice")
    return tuple(found)
