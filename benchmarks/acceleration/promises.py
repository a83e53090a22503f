"""What every few-step method promises, as ratios of Fréchet distances."""

from __future__ import annotations

from benchmarks.acceleration.figures import BY_NAME, NOTHING, in_steps
from benchmarks.acceleration.plan import FigureName
from benchmarks.acceleration.verdicts import Outcomes, Pooled, relation
from benchmarks.markdown import table


def promises(outcomes: Outcomes) -> list[str]:
    """Few steps against flow matching, against many of the same weights, and many against flow matching.

    Nothing where no method can be held against the baseline.
    """
    few, many = outcomes.study.steps[0], outcomes.study.steps[-1]
    lines: list[str] = []
    names: tuple[FigureName, ...] = ("frechet", "frechet_limit")
    for name in names:
        if _comparable(outcomes, name):
            lines += _promises(outcomes, name)
    question = "Is one step enough" if few == 1 else f"Are {few} steps enough"
    title = f"## {question}{', and are many still good' if many > few else ''}?"
    return [title, "", *lines] if lines else []


def _comparable(outcomes: Outcomes, figure: FigureName) -> bool:
    """Whether the baseline and another method have a distance at the first or the last number of steps."""
    study = outcomes.study
    return any(
        outcomes.figure(study.baseline, count, figure) is not None
        and any(
            outcomes.figure(entry.name, count, figure) is not None
            for entry in study.methods()
            if entry.name != study.baseline
        )
        for count in (study.steps[0], study.steps[-1])
    )


def _promises(outcomes: Outcomes, figure: FigureName) -> list[str]:
    """The ratios of one kind of Fréchet distance."""
    study = outcomes.study
    few, many, kind = study.steps[0], study.steps[-1], BY_NAME[figure]
    real = outcomes.real(figure)
    base_few, base_many = (outcomes.figure(study.baseline, count, figure) for count in (few, many))
    rows = []
    for entry in study.methods():
        own_few, own_many = (outcomes.figure(entry.name, count, figure) for count in (few, many))
        if own_few is None and own_many is None:
            continue
        kept = NOTHING
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
    title, limit = f"“{study.entry(study.baseline).title}”", []
    if real is not None and base_few is not None and base_few.value > real.value > 0:
        closed = _closed(base_few, real, real)
        rows.append(["real validation clips", _ratio(base_few, real), closed, NOTHING, NOTHING])
        limit = [
            (
                "Real validation clips, which no method can be expected to beat, are "
                f"{base_few.value / real.value:.1f} times better than {title} at {in_steps(few)} by this measure: the "
                "most that a ratio can show here. The gap closed says where between the two a method stands."
            ),
            "",
        ]
    base = study.entry(study.baseline).title
    head = [
        "method",
        f"{base} at {few} over it",
        "gap to real clips closed, %",
        f"its {few} over its {many}",
        f"quality at {many} kept?",
    ]
    if many == few:
        head, rows = head[:3], [row[:3] for row in rows]
    own = f", and how far from its own {in_steps(many)} (1.15 or less)" if many > few else ""
    measured = (
        "Ratios of Fréchet distances" if figure == "frechet" else "The same with distances of unlimited clips"
    )
    return [
        (
            f"{measured}: how many times better than {title} at {in_steps(few)} (wanted: 5 or more){own}. The range "
            "takes the ends of both intervals."
        ),
        "",
        *limit,
        *table(head, rows),
    ]


def _closed(base: Pooled | None, own: Pooled | None, real: Pooled | None) -> str:
    """Share of the way from the baseline to real clips, in percent; below zero is further away."""
    if base is None or own is None or real is None or base.value <= real.value:
        return NOTHING
    return f"{100.0 * (base.value - own.value) / (base.value - real.value):.0f}"


def _ratio(upper: Pooled | None, lower: Pooled | None) -> str:
    if upper is None or lower is None or lower.value <= 0:
        return NOTHING
    low = max(0.0, upper.low) / lower.high
    high = f"{upper.high / lower.low:.2f}" if lower.low > 0 else "∞"
    return f"{upper.value / lower.value:.2f} ({low:.2f} to {high})"
