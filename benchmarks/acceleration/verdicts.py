"""Figures of several seeds as one, and what two of them say of each other: never more than their intervals allow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

from benchmarks.acceleration.plan import FigureName, Finding, Study, parse_side
from benchmarks.acceleration.records import EvaluationRecord, TrainingRecord
from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate

TIME: FigureName = "seconds_per_clip"
Scale = Literal["plain", "share", "positive"]
SCALES: dict[str, Scale] = {"text_score": "plain", "top1": "share", "top5": "share"}
"""On what scale seeds are pooled; distances, divergences and the rest are above 0 by nature."""

Relation = Literal["below", "above", "inconclusive"]


@dataclass(frozen=True)
class Pooled:
    """A figure over seeds."""

    value: float
    low: float
    high: float
    seeds: int


def pool(estimates: Sequence[Estimate], scale: Scale = "plain") -> Pooled:
    """Mean over seeds with an interval of 95 %.

    The bootstrap's half-width stays whole, since all seeds share prompts and reference clips; what seeds differ by is
    added in quadrature, as the interval of their mean by Student's t. One seed keeps its own interval, which does not
    tell how much another training run would differ.

    A figure above 0 by nature is pooled by its logarithm: training runs differ by factors, and about the mean of three
    that differ much Student's interval reaches below 0. Its mean is the geometric one. The interval reaches 0 only
    where a seed's own does. A figure that is 0 for some seed has no logarithm; it is pooled as it is and cut at 0.

    Args:
        estimates: one a seed.
        scale: "positive" as above; "plain" as it is, for what may be negative; "share" as it is, cut at 0 and 1, both
            of which it can be.
    """
    if len(estimates) == 1:
        return Pooled(estimates[0].value, estimates[0].low, estimates[0].high, 1)
    ends = [(estimate.value, estimate.low, estimate.high) for estimate in estimates]
    if scale == "positive" and min(value for value, _, _ in ends) > 0.0:
        logarithms = [tuple(math.log(end) if end > 0.0 else -math.inf for end in three) for three in ends]
        value, low, high = (math.exp(end) for end in _pooled(logarithms))
        return Pooled(value, low, high, len(ends))
    value, low, high = _pooled(ends)
    least, most = (-math.inf if scale == "plain" else 0.0), (1.0 if scale == "share" else math.inf)
    return Pooled(value, max(least, low), min(most, high), len(ends))


def _pooled(ends: Sequence[tuple[float, ...]]) -> tuple[float, float, float]:
    """Mean of values with low and high ends, and the ends about it."""
    values = [value for value, _, _ in ends]
    mean, count = statistics.fmean(values), len(values)
    spread = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    down = statistics.fmean(max(0.0, value - low) for value, low, _ in ends)
    up = statistics.fmean(max(0.0, high - value) for value, _, high in ends)
    return mean, mean - math.hypot(down, spread), mean + math.hypot(up, spread)


def pool_times(records: Sequence[EvaluationRecord]) -> Pooled | None:
    """Median and quartiles of all timed clips: how long a clip takes does not depend on the training seed.

    Of older records, which have a mean of a few clips each, it is over these means.

    Returns:
        None where nothing was timed, or other work ran beside all of it.
    """
    alone = [record for record in records if not record.disturbed]
    values: list[float] = []
    for record in alone:
        values += record.times or [record.figures[name].value for name in record.figures if name == TIME]
    if not values:
        return None
    low, middle, high = (float(end) for end in np.percentile(values, [25.0, 50.0, 75.0]))
    return Pooled(middle, low, high, len({record.seed for record in alone}))


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
        records = [
            record
            for (owner, _, count), record in self.evaluations.items()
            if owner == entry and count == steps
        ]
        if name == TIME:
            return pool_times(records)
        found = [record.figures[name] for record in records if name in record.figures]
        return pool(found, SCALES.get(name, "positive")) if found else None

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
