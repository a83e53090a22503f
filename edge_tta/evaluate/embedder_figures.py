"""All figures of one embedder, generated sounds beside real ones, each with the embedder's digest and its n."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.balance import draw_sets, matched_counts
from edge_tta.evaluate.embedders import Embedder, Heard
from edge_tta.evaluate.frechet import frechet_estimate
from edge_tta.evaluate.frechet_limit import frechet_limit
from edge_tta.evaluate.label_figures import (
    Direction,
    distribution_divergence,
    inception_score,
    matched_divergence,
)
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.statistics import Estimate, bootstrap, mean_estimate

FRECHET_LIMIT = "Fréchet distance, unlimited clips"
"""Name of the figure of ``frechet_limit``."""


@dataclass(frozen=True)
class Figure(Estimate):
    """A figure that says who judged."""

    embedder: str
    """Kind of embedder."""
    embedder_digest: str
    """SHA-256 of its weights; figures of different ones must not be compared."""


@dataclass(frozen=True)
class Comparison:
    """One figure of generated sounds, and of real ones judged the same way."""

    name: str
    generated: Figure
    real: Figure | None
    """Real validation clips in place of the generated ones: what a perfect generator could reach."""


@dataclass(frozen=True)
class EmbedderFigures:
    """Everything one embedder finds."""

    embedder: str
    digest: str
    sample_rate: int
    """Hz it listens at."""
    dimensions: int
    text_side: str
    """What the text score compares with: "prompts", "label vectors" (of our tagger's classifier) or "none"."""
    comparisons: tuple[Comparison, ...]

    def get(self, name: str) -> Comparison | None:
        """One figure by name; None where this embedder does not give it."""
        return next((item for item in self.comparisons if item.name == name), None)


@dataclass(frozen=True)
class Judged:
    """Clips as one embedder hears them, with what they were asked for."""

    heard: Heard
    prompts: tuple[str, ...]
    """What a clip shares with those it should differ from: prompt of a generated clip, label of a real one."""
    labels: tuple[str, ...]
    texts: FloatArray | None = None
    """Vector of every clip's text, [n, D]; None for an embedder without a text side, which then gets no score."""
    weights: npt.NDArray[np.float64] | None = None
    """What every clip counts for, [n]; None for all alike."""


Kind = Callable[[Judged], Estimate | None]


def unit(vectors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Vectors [n, D] scaled to length 1."""
    array = np.asarray(vectors, dtype=np.float64)
    return np.asarray(array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-12))


def text_score(
    audio: npt.ArrayLike,
    text: npt.ArrayLike,
    generator: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Estimate:
    """CLAP-type score: mean cosine of the embeddings of a sound and of its text, from -1 to 1.

    Args:
        audio: [n, D].
        text: [n, D]; row i belongs to the text of sound i.
        generator: source of the bootstrap.
        groups: prompt or label of every sound; resampled whole.
        weights: what every sound counts for; None for all alike.

    Raises:
        DataError: shapes differ.
    """
    sounds, texts = unit(audio), unit(text)
    if sounds.ndim != 2 or sounds.shape != texts.shape:
        raise DataError(f"every sound needs its text in the same space: {sounds.shape} and {texts.shape}")
    return mean_estimate((sounds * texts).sum(axis=1), generator, groups=groups, weights=weights)


def conditional_diversity(
    embeddings: npt.ArrayLike, prompts: Sequence[str], generator: np.random.Generator
) -> Estimate | None:
    """CCDS: mean over pairs of 1 - cosine within a prompt, averaged over prompts with two clips or more.

    Novack et al., "Fast text-to-audio generation with adversarial post-training" (2025,
    https://arxiv.org/abs/2505.08175), there on CLAP embeddings. Read it beside the text score only: sounds that have
    nothing to do with the prompt differ most. ``n`` counts prompts, which the interval resamples.

    Returns:
        None when no prompt has two clips.
    """
    vectors, names = unit(embeddings), np.asarray(prompts)
    spreads = []
    for prompt in sorted(set(prompts)):
        mine = vectors[names == prompt]
        if len(mine) >= 2:
            first, second = np.triu_indices(len(mine), k=1)
            spreads.append(float((1.0 - (mine[first] * mine[second]).sum(axis=1)).mean()))
    table = np.asarray(spreads)
    return bootstrap(len(table), lambda i: float(table[i].mean()), generator) if spreads else None


def compare(
    embedder: Embedder,
    generated: Judged,
    real: Judged,
    reference: Judged,
    generator: np.random.Generator,
    *,
    text_side: str = "none",
    frechet: tuple[Estimate, Estimate] | None = None,
) -> EmbedderFigures:
    """All figures of one embedder.

    Args:
        embedder: names the figures.
        generated: the subject's clips, one label each.
        real: real validation clips of the same labels; their weights are to give labels the shares that they have
            among the generated clips, and Fréchet distances are of as many clips of each label.
        reference: real training clips both are held against.
        generator: source of the bootstrap and of the choice of equally many clips.
        text_side: recorded.
        frechet: distances of generated and real that were computed already.
    """
    if frechet is None:
        counts = matched_counts(generated.labels, real.labels)
        made, found = (
            clips.heard.embeddings[draw_sets(clips.labels, counts, generator)[0]]
            for clips in (generated, real)
        )
        fixed = reference.heard.embeddings
        frechet = frechet_estimate(made, fixed, generator), frechet_estimate(found, fixed, generator)
    kinds = _kinds(reference, generator)
    rows: list[tuple[str, Estimate | None, Estimate | None]] = [("Fréchet distance", *frechet)]
    # A generator of its own: the intervals of the other figures stay as they were without it.
    own = generator.spawn(1)[0]
    ours, theirs = (
        frechet_limit(
            clips.heard.embeddings,
            reference.heard.embeddings,
            own,
            groups=clips.labels,
            weights=clips.weights,
        )
        for clips in (generated, real)
    )
    rows.append((FRECHET_LIMIT, ours, theirs))
    rows += [(name, figure(generated), figure(real)) for name, figure in kinds.items()]

    def named(estimate: Estimate) -> Figure:
        return Figure(**asdict(estimate), embedder=embedder.name, embedder_digest=embedder.digest)

    comparisons = tuple(
        Comparison(name, named(first), None if second is None else named(second))
        for name, first, second in rows
        if first is not None
    )
    dimensions = generated.heard.embeddings.shape[1]
    return EmbedderFigures(
        embedder.name, embedder.digest, embedder.sample_rate, dimensions, text_side, comparisons
    )


def _kinds(reference: Judged, generator: np.random.Generator) -> dict[str, Kind]:
    """What is computed of generated and real clips alike, by name."""

    def matched(direction: Direction) -> Kind:
        return lambda clips: _with_labels(
            clips,
            reference,
            partial(matched_divergence, generator=generator, direction=direction, weights=clips.weights),
        )

    return {
        "KL of labels, reference to clip": matched("reference to generated"),
        "KL of labels, clip to reference": matched("generated to reference"),
        "KL of mean label distributions": lambda clips: _with_labels(
            clips, reference, partial(distribution_divergence, generator=generator)
        ),
        "inception-type score": lambda clips: (
            None
            if clips.heard.probabilities is None
            else inception_score(
                clips.heard.probabilities, generator, groups=clips.labels, weights=clips.weights
            )
        ),
        "text score": lambda clips: (
            None
            if clips.texts is None
            else text_score(
                clips.heard.embeddings, clips.texts, generator, groups=clips.labels, weights=clips.weights
            )
        ),
        "conditional diversity (CCDS)": lambda clips: conditional_diversity(
            clips.heard.embeddings, clips.prompts, generator
        ),
    }


def _with_labels(clips: Judged, reference: Judged, figure: Callable[..., Estimate | None]) -> Estimate | None:
    """A figure of two tables of label distributions; None for an embedder without labels."""
    first, second = clips.heard.probabilities, reference.heard.probabilities
    if first is None or second is None:
        return None
    return figure(first, clips.labels, second, reference.labels)
