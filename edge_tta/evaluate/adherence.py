"""Does a clip hold the sound it was asked for: share of clips whose label the tagger ranks first, or among five."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_tta.errors import DataError
from edge_tta.evaluate.spectral import FloatArray, level, mono
from edge_tta.evaluate.statistics import Estimate, share_estimate
from edge_tta.evaluate.tagger import Tagger, Tags


@dataclass(frozen=True)
class LabelAdherence:
    """Hits of one label."""

    label: str
    n: int
    top1: int
    top5: int


@dataclass(frozen=True)
class Adherence:
    """Label adherence of a set of clips; clips of a label succeed or fail together, for the intervals."""

    top1: Estimate
    """Share of clips whose label is ranked first."""
    top5: Estimate
    """Share of clips whose label is among the first five."""
    labels: tuple[LabelAdherence, ...]
    """Label by label, in the order of their names."""

    def worst_first(self) -> list[LabelAdherence]:
        """Label by label, first those that are least often among the first five, then least often first."""
        return sorted(self.labels, key=lambda row: (row.top5 / row.n, row.top1 / row.n))


def ranks(tags: Tags, labels: Sequence[str], tagger: Tagger) -> npt.NDArray[np.int64]:
    """Rank (0 is best) of each clip's own label among the tagger's: int64 [clips].

    Raises:
        DataError: a label the tagger does not know, or counts that differ.
    """
    if len(labels) != len(tags.logits):
        raise DataError(f"one label per clip is needed: {len(labels)} for {len(tags.logits)} clips")
    own = []
    for label in labels:
        position = tagger.index(label)
        if position is None:
            raise DataError(
                f"the tagger does not know the label {label!r}; it knows {len(tagger.labels)} others"
            )
        own.append(position)
    order = tags.ranked(len(tagger.labels))
    return np.asarray((order == np.array(own)[:, None]).argmax(axis=1), dtype=np.int64)


def adherence(
    tags: Tags, labels: Sequence[str], tagger: Tagger, weights: npt.ArrayLike | None = None
) -> Adherence:
    """Top-1 and top-5 adherence of clips to one label each.

    Args:
        tags: verdicts on the clips.
        labels: what each should hold.
        tagger: the judge.
        weights: what every clip counts for; None for all alike.
    """
    place = ranks(tags, labels, tagger)
    names = np.asarray(labels)
    rows = []
    for label in sorted(set(labels)):
        mine = place[names == label]
        rows.append(LabelAdherence(label, len(mine), int((mine < 1).sum()), int((mine < 5).sum())))
    return Adherence(
        top1=share_estimate(place < 1, groups=names, weights=weights),
        top5=share_estimate(place < 5, groups=names, weights=weights),
        labels=tuple(rows),
    )


def relative_top5(generated: Adherence, real: Adherence) -> float | None:
    """Top-5 share of generated clips over that of real ones, of the labels that both have, as often as they were made.

    Returns:
        None without a common label.
    """
    ceiling = {row.label: row.top5 / row.n for row in real.labels}
    rows = [row for row in generated.labels if row.label in ceiling]
    expected = sum(row.n * ceiling[row.label] for row in rows)
    return sum(row.top5 for row in rows) / max(1e-9, expected) if rows else None


def both_present(
    tags: Tags, pairs: Sequence[tuple[str, str]], tagger: Tagger, weights: npt.ArrayLike | None = None
) -> Estimate:
    """Share of clips with both labels of their pair among the first five; clips of a pair succeed or fail together.

    Args:
        tags: verdicts on the clips.
        pairs: what each should hold.
        tagger: the judge.
        weights: what every clip counts for; None for all alike.
    """
    first = ranks(tags, [pair[0] for pair in pairs], tagger)
    second = ranks(tags, [pair[1] for pair in pairs], tagger)
    names = [" + ".join(pair) for pair in pairs]
    return share_estimate((first < 5) & (second < 5), groups=names, weights=weights)


def mix(first: npt.ArrayLike, second: npt.ArrayLike, generator: np.random.Generator) -> FloatArray:
    """Two real clips at equal root mean square; the shorter starts at a random place within the longer.

    This is what the figure for two-sound prompts is held against: a perfect generator cannot be expected to beat it.
    """
    clips = [mono(clip) / np.float32(max(level(clip), 1e-6)) for clip in (first, second)]
    length = max(len(clip) for clip in clips)
    mixture = np.zeros(length, dtype=np.float32)
    for clip in clips:
        start = int(generator.integers(0, length - len(clip) + 1))
        mixture[start : start + len(clip)] += clip
    return mixture * np.float32(0.5 / max(float(np.abs(mixture).max()), 1e-6))
