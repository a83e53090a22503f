"""Figures of several seeds as one, and what two of them say of each other: never more than their intervals allow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student

from benchmarks.acceleration.plan import Finding, Study, parse_side
from benchmarks.acceleration.records import EvaluationRecord, TrainingRecord
from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate

SIGNED = ("text_score",)
"""Figures that may be negative."""

Relation = Literal["below", "above", "inconclusive"]


@dataclass(frozen=True)
class Pooled:
    """A figure over seeds."""

    value: float
    low: float
    high: float
    seeds: int


def pool(estimates: Sequence[Estimate], floor: float = -math.inf) -> Pooled:
    """Mean over seeds with an interval of 95 %.

    The bootstrap's half-width stays whole, since all seeds share prompts and reference clips; what seeds differ by is
    added in quadrature, as the interval of their mean by Student's t. One seed keeps its own interval, which does not
    tell how much another training run would differ.

    Args:
        estimates: one a seed.
        floor: what the figure cannot be below, such as 0 for a distance; no interval reaches further.
    """
    values = [estimate.value for estimate in estimates]
    mean, count = statistics.fmean(values), len(values)
    spread = 0.0
    if count > 1:
        quantile = float(student.ppf(0.975, count - 1))
        spread = quantile * statistics.stdev(values) / count**0.5
    down = statistics.fmean(max(0.0, estimate.value - estimate.low) for estimate in estimates)
    up = statistics.fmean(max(0.0, estimate.high - estimate.value) for estimate in estimates)
    low = max(floor, mean - (down**2 + spread**2) ** 0.5)
    return Pooled(mean, low, mean + (up**2 + spread**2) ** 0.5, count)


def relation(first: Pooled, second: Pooled) -> Relation:
    """Where the first lies, seen from the second; intervals that touch decide nothing."""
    if first.high < second.low:
        return "below"
    return "above" if first.low > second.high else "inconclusive"


class Outcomes:
    """What the records say, one figure at a time.

    Args:
        study: the plan.
        evaluations: in the order of the file; of equal entry, seed and steps the last counts.
        trainings: of which the last counts as well.

    Raises:
        DataError: figures of different bases, which must not be compared.
    """

    def __init__(
        self, study: Study, evaluations: Sequence[EvaluationRecord], trainings: Sequence[TrainingRecord]
    ) -> None:
        self.study = study
        newest = {(record.entry, record.seed, record.steps): record for record in evaluations}
        self.evaluations = {key: newest[key] for key in sorted(newest)}
        self.trainings = dict(sorted({(record.entry, record.seed): record for record in trainings}.items()))
        bases = {record.basis for record in self.evaluations.values()}
        if len(bases) > 1:
            raise DataError(
                f"the results rest on {len(bases)} different taggers, references, prompt lists, clip lengths or ways "
                "to count real clips; keep the lines of one of them"
            )
        self.basis = next(iter(bases), None)

    def figure(self, entry: str, steps: int, name: str) -> Pooled | None:
        """A figure over all seeds; None where it was not measured."""
        found = [
            record.figures[name]
            for (owner, _, count), record in self.evaluations.items()
            if owner == entry and count == steps and name in record.figures
        ]
        return pool(found, -math.inf if name in SIGNED else 0.0) if found else None

    def failed(self, entry: str, steps: int) -> bool:
        """Whether an entry has no figures because training or sampling failed."""
        training = any(record.failure for (owner, _), record in self.trainings.items() if owner == entry)
        return training or any(
            record.failure
            for (owner, _, count), record in self.evaluations.items()
            if owner == entry and count == steps
        )

    def real(self, name: str) -> Pooled | None:
        """A figure of real validation clips, the same in every record but for the bootstrap's draws."""
        for record in self.evaluations.values():
            if name in record.real:
                return pool([record.real[name]])
        return None

    def verdict(self, finding: Finding) -> tuple[str, Pooled | None, Pooled | None]:
        """ "agrees", "not", "inconclusive" or "not measured", and the two figures it rests on."""
        first, second = (
            self.figure(*parse_side(side), finding.figure) for side in (finding.first, finding.second)
        )
        if first is None or second is None:
            return "not measured", first, second
        found = relation(first, second)
        if found == "inconclusive":
            return found, first, second
        return ("agrees" if found == finding.relation else "not"), first, second
