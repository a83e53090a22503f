"""Is generated speech understood: share of spoken digits that a classifier of real recordings recognises.

The classifier is the tagger, trained on recordings of digits alone (recipe ``speech-tagger``): it has to choose one of
ten, so chance is a tenth. Real validation recordings say how good the judge is itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edge_tta.evaluate.adherence import ranks
from edge_tta.evaluate.balance import label_weights
from edge_tta.evaluate.statistics import Estimate, share_estimate
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import Tagger, Tags

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class DigitFigures:
    """Generated clips of one digit."""

    digit: str
    n: int
    recognised: int
    mistaken_for: str
    """The digit heard most often in place of it; empty if there is none."""
    mistakes: int
    """How often."""


@dataclass(frozen=True)
class Intelligibility:
    """Shares of recognised digits. There are ten digits and no others, so intervals do not vary them."""

    generated: Estimate
    """Share of generated clips whose digit is recognised; seeds of one prompt stand or fall together."""
    real: Estimate
    """The same of real validation recordings, the ceiling."""
    relative: float
    """The first over the second."""
    chance: float
    """Share that guessing gets."""
    digits: tuple[DigitFigures, ...]


def judges_digits(tagger: Tagger) -> bool:
    """Whether a tagger knows spoken digits and nothing else."""
    return set(tagger.labels) <= set(DIGITS)


def intelligibility(
    tags: Tags,
    prompts: Sequence[Prompt],
    real_tags: Tags,
    real_labels: Sequence[str],
    tagger: Tagger,
) -> Intelligibility | None:
    """Recognition of generated and of real digits; None for a tagger of anything else.

    Args:
        tags: verdicts on generated clips.
        prompts: what each was made from, with one label.
        real_tags: verdicts on real recordings.
        real_labels: what is said in each.
        tagger: the judge.

    Raises:
        DataError: a label the tagger does not know, or counts that differ.
    """
    if not judges_digits(tagger):
        return None
    said = [prompt.labels[0] for prompt in prompts]
    right = ranks(tags, said, tagger) == 0
    real_right = ranks(real_tags, real_labels, tagger) == 0
    heard = [tagger.labels[index] for index in tags.ranked(1)[:, 0]]
    rows = []
    for digit in (digit for digit in DIGITS if digit in said):
        mine = [other for one, other in zip(said, heard, strict=True) if one == digit]
        wrong = Counter(other for other in mine if other != digit).most_common(1)
        name, count = wrong[0] if wrong else ("", 0)
        rows.append(DigitFigures(digit, len(mine), mine.count(digit), name, count))
    generated = share_estimate(right, groups=[prompt.text for prompt in prompts])
    # Digits count as they are asked for, however many recordings there are of each.
    real = share_estimate(real_right, weights=label_weights(real_labels, said))
    relative = generated.value / max(real.value, 1e-9)
    return Intelligibility(generated, real, relative, 1 / len(tagger.labels), tuple(rows))
