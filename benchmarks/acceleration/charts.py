"""What the pictures of the report show."""

from __future__ import annotations

from benchmarks.acceleration.figures import BY_NAME, PLOTTED
from benchmarks.acceleration.verdicts import Outcomes
from benchmarks.plots import Chart, Series


def quality_charts(outcomes: Outcomes) -> list[Chart]:
    """One chart a figure, methods as lines over the number of steps."""
    steps = outcomes.study.steps
    methods = [
        entry
        for entry in outcomes.study.methods()
        if any(outcomes.figure(entry.name, count, name) for count in steps for name in PLOTTED)
    ]
    charts = []
    for kind in (BY_NAME[name] for name in PLOTTED):
        series = []
        for number, entry in enumerate(methods):
            # Side by side, so that intervals do not hide each other.
            shift = 0.04 * (number - (len(methods) - 1) / 2)
            found = [
                (place + shift, figure)
                for place, count in enumerate(steps)
                if (figure := outcomes.figure(entry.name, count, kind.name)) is not None
            ]
            points = [(place, kind.factor * figure.value) for place, figure in found]
            bars = [(kind.factor * figure.low, kind.factor * figure.high) for _, figure in found]
            series.append(Series(entry.title, tuple(points), tuple(bars)))
        if not any(line.points for line in series):
            continue
        ticks = tuple((float(place), str(count)) for place, count in enumerate(steps))
        title = f"{kind.title} ({kind.better})"
        charts.append(Chart(title, "steps", tuple(series), ticks, kind.name == "frechet", 1.0))
    return charts


def training_charts(outcomes: Outcomes) -> list[Chart]:
    """One chart an entry: its losses over training steps, the first seed that has any."""
    charts, seen = [], set()
    order = {entry.name: number for number, entry in enumerate(outcomes.study.entries)}
    for (name, seed), record in sorted(
        outcomes.trainings.items(), key=lambda item: (order[item[0][0]], item[0][1])
    ):
        curves = {key: points for key, points in record.curves.items() if key.endswith("loss") and points}
        if name in seen or not curves:
            continue
        seen.add(name)
        series = tuple(Series(key.replace("_", " "), points, ()) for key, points in sorted(curves.items()))
        title = f"{outcomes.study.entry(name).title}, seed {seed}"
        positive = all(value > 0 for points in curves.values() for _, value in points)
        charts.append(Chart(title, "training step", series, (), positive, 0.0))
    return charts
