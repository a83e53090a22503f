"""What every few-step method promises, as ratios of Fréchet distances."""

from __future__ import annotations

from benchmarks.acceleration.figures import BY_NAME
from benchmarks.acceleration.plan import FigureName
from benchmarks.acceleration.verdicts import Outcomes, Pooled, relation
from benchmarks.markdown import table


def promises(outcomes: Outcomes) -> list[str]:
    """One step against flow matching, against many steps of the same weights, and many steps against flow matching."""
    study = outcomes.study
    lines = ["## Is one step enough, and are many still good?", ""]
    for name in ("frechet", "frechet_limit"):
        if outcomes.figure(study.baseline, study.steps[0], name) is not None or name == "frechet":
            lines += _promises(outcomes, name)
    return lines


def _promises(outcomes: Outcomes, figure: FigureName) -> list[str]:
    """The ratios of one kind of Fréchet distance."""
    study = outcomes.study
    few, many, kind = study.steps[0], study.steps[-1], BY_NAME[figure]
    real = outcomes.real(figure)
    base_few, base_many = (outcomes.figure(study.baseline, count, figure) for count in (few, many))
    rows = []
    for entry in study.methods():
        own_few, own_many = (outcomes.figure(entry.name, count, figure) for count in (few, many))
        kept = "–"
        if entry.name != study.baseline and base_many is not None and own_many is not None:
            words = {"below": "better", "above": "lost", "inconclusive": "inconclusive"}
            kept = f"{words[relation(own_many, base_many)]} ({kind.pair(own_many, base_many)})"
        rows.append(
            [
                entry.title,
                _ratio(base_few, own_few),
                _closed(base_few, own_few, real),
                _ratio(own_few, own_many),
                kept,
            ]
        )
    title, limit = study.entry(study.baseline).title, []
    if real is not None and base_few is not None and base_few.value > real.value > 0:
        rows.append(
            ["real validation clips", _ratio(base_few, real), _closed(base_few, real, real), "–", "–"]
        )
        limit = [
            (
                "Real validation clips, which no method can be expected to beat, are "
                f"{base_few.value / real.value:.1f} times better than “{title}” at {few} step(s) by this measure: the "
                "most that a ratio can show here. The gap closed says where between the two a method stands."
            ),
            "",
        ]
    head = [
        "method",
        f"{title} at {few} over it",
        "gap to real clips closed, %",
        f"its {few} over its {many}",
        f"quality at {many} kept?",
    ]
    measured = (
        "Ratios of Fréchet distances" if figure == "frechet" else "The same with distances of unlimited clips"
    )
    return [
        (
            f"{measured}: how many times better than “{title}” at {few} step(s) (wanted: 5 or "
            f"more), and how far from its own {many} steps (1.15 or less). The range takes the ends of both intervals."
        ),
        "",
        *limit,
        *table(head, rows),
    ]


def _closed(base: Pooled | None, own: Pooled | None, real: Pooled | None) -> str:
    """Share of the way from the baseline to real clips, in percent; below zero is further away."""
    if base is None or own is None or real is None or base.value <= real.value:
        return "–"
    return f"{100.0 * (base.value - own.value) / (base.value - real.value):.0f}"


def _ratio(upper: Pooled | None, lower: Pooled | None) -> str:
    if upper is None or lower is None or lower.value <= 0:
        return "–"
    low = max(0.0, upper.low) / lower.high
    high = f"{upper.high / lower.low:.2f}" if lower.low > 0 else "∞"
    return f"{upper.value / lower.value:.2f} ({low:.2f} to {high})"
