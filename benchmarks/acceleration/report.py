"""Records to ``acceleration.md`` and its pictures: a function of the records alone, equal bytes for equal input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.acceleration.charts import quality_charts, training_charts
from benchmarks.acceleration.figures import BY_NAME, KINDS, NOTHING, STRAIGHTNESS, Kind, in_steps
from benchmarks.acceleration.origin import origin
from benchmarks.acceleration.plan import Entry
from benchmarks.acceleration.promises import promises
from benchmarks.acceleration.records import EvaluationRecord, Record, StudyRecord, TrainingRecord
from benchmarks.acceleration.verdicts import Outcomes
from benchmarks.markdown import table
from benchmarks.plots import write_charts
from edge_tta.errors import DataError
from edge_tta.files import make_folder, write_file

DOCUMENT = "acceleration.md"
QUALITY_PICTURE = "acceleration_quality.png"
TRAINING_PICTURE = "acceleration_training.png"
COST = "a step's cost on trial"


def write_report(records: Sequence[Record], folder: Path) -> tuple[Path, ...]:
    """Write the report and its pictures; each file appears whole or not at all.

    Returns:
        What was written.

    Raises:
        DataError: nothing was judged, or figures that must not be compared.
        OutputError: the folder cannot be written.
    """
    outcomes = outcomes_of(records)
    make_folder(folder)
    pictures = {
        QUALITY_PICTURE: (quality_charts(outcomes), 2),
        TRAINING_PICTURE: (training_charts(outcomes), 3),
    }
    drawn = [name for name, (charts, _) in pictures.items() if charts]
    for name in drawn:
        charts, columns = pictures[name]
        write_charts(charts, folder / name, columns)
    write_file(folder / DOCUMENT, markdown(outcomes, drawn).encode())
    return folder / DOCUMENT, *(folder / name for name in drawn)


def outcomes_of(records: Sequence[Record]) -> Outcomes:
    """Records sorted by kind, under the last plan among them.

    Raises:
        DataError: there is no plan or no evaluation.
    """
    studies = [record.study for record in records if isinstance(record, StudyRecord)]
    evaluations = [record for record in records if isinstance(record, EvaluationRecord)]
    if not studies or not evaluations:
        raise DataError("no results: nothing was judged; run 'python -m benchmarks.acceleration judge' first")
    known = {entry.name for entry in studies[-1].entries}
    trainings = [record for record in records if isinstance(record, TrainingRecord) and record.entry in known]
    judged = [record for record in evaluations if record.entry in known]
    if not judged:
        raise DataError("no results: nothing was judged of the entries of the plan that was recorded last")
    return Outcomes(studies[-1], judged, trainings)


def markdown(outcomes: Outcomes, pictures: Iterable[str]) -> str:
    """The report as Markdown."""
    study = outcomes.study
    lines = [f"# {study.title}", "", *origin(outcomes)]
    lines += _section("Methods by steps", [line for kind in KINDS for line in _by_steps(outcomes, kind)])
    lines += promises(outcomes)
    lines += _costs(outcomes)
    ablations = [
        line
        for ablation in study.ablations
        for line in _ablation(outcomes, ablation.title, [study.entry(name) for name in ablation.entries])
    ]
    lines += _section("Ablations", ablations)
    lines += _findings(outcomes)
    titles = {QUALITY_PICTURE: "Quality against steps", TRAINING_PICTURE: "Training curves"}
    for name in pictures:
        lines += [f"## {titles[name]}", "", f"![{titles[name].lower()}]({name})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    """A section, left out where it would be empty."""
    return [f"## {title}", "", *lines] if lines else []


def _cell(outcomes: Outcomes, entry: str, steps: int, kind: Kind) -> str:
    figure = outcomes.figure(entry, steps, kind.name)
    return "failed" if figure is None and outcomes.failed(entry, steps) else kind.show(figure)


def _by_steps(outcomes: Outcomes, kind: Kind) -> list[str]:
    """One figure by methods and steps; nothing where no method has it, as of records of before it was known."""
    steps = outcomes.study.steps
    rows = [
        [entry.title, *cells]
        for entry in outcomes.study.methods()
        if set(cells := [_cell(outcomes, entry.name, count, kind) for count in steps]) != {NOTHING}
    ]
    if not any(outcomes.figure(e.name, n, kind.name) for e in outcomes.study.methods() for n in steps):
        return []
    if (real := outcomes.real(kind.name)) is not None:
        rows.append(["real validation clips", kind.show(real), *[""] * (len(steps) - 1)])
    head = ["method", *(in_steps(count) for count in steps)]
    return [f"### {kind.title}", "", f"{kind.better[0].upper()}{kind.better[1:]}.", "", *table(head, rows)]


def _costs(outcomes: Outcomes) -> list[str]:
    """Training of every entry, seconds with the stages before it; where nothing was trained, straightness alone."""
    study, rows = outcomes.study, []
    for entry in study.entries:
        mine = [record for (name, _), record in outcomes.trainings.items() if name == entry.name]
        if not mine:
            continue
        chain = [
            record.seconds
            for (name, _), record in outcomes.trainings.items()
            if name in study.ancestors(entry.name)
        ]
        final = {name: record_mean(mine, name) for name in sorted({n for r in mine for n in r.final})}
        losses = [
            f"{name.replace('_', ' ')} {value:.4g}" for name, value in final.items() if name.endswith("loss")
        ]
        seconds = sum(record.seconds for record in mine) / len(mine)
        steps = max(record.steps for record in mine)
        figure = outcomes.figure(entry.name, study.steps[0], "straightness")
        failures = sorted({record.failure for record in mine if record.failure})
        rows.append(
            [
                entry.title,
                f"`{entry.name}`" + (", stage" if entry.group == "stages" else ""),
                str(len(mine)),
                f"{steps:,}",
                f"{seconds:.0f}",
                f"{1000 * seconds / steps:.0f}" if steps else NOTHING,
                " / ".join(sorted({f"{r.relative_cost:.2f}" for r in mine if r.relative_cost is not None}))
                or NOTHING,
                f"{sum(chain) / len(mine):.0f}",
                ", ".join(losses) or NOTHING,
                f"{final['validation_velocity_error']:.4f}"
                if "validation_velocity_error" in final
                else NOTHING,
                STRAIGHTNESS.show(figure),
                "; ".join(failures) or NOTHING,
            ]
        )
    head = [
        "what", "entry", "seeds", "steps", "seconds", "ms a step", COST,
        "seconds with its stages", "last losses",
        "velocity error on validation clips", "S(z), lower is straighter", "failed",
    ]  # fmt: skip
    if not any(record.steps or record.failure for record in outcomes.trainings.values()):
        rows = [[*row[:2], row[-2]] for row in rows if row[-2] != NOTHING]
        return _section("Straightness", table([*head[:2], head[-2]], rows) if rows else [])
    filled = [column for column in range(len(head)) if any(row[column] != NOTHING for row in rows)]
    head, rows = [head[column] for column in filled], [[row[column] for column in filled] for row in rows]
    note = "Beyond the common start, means over seeds."
    if COST in head:
        base = {entry.name: entry.title for entry in study.entries}.get(study.baseline, study.baseline)
        note += (
            f" A step's cost on trial is in steps of “{base}”: where it is given, it decided the number of steps, and "
            "seconds did not."
        )
    return _section("Training", [note, "", *table(head, rows)] if rows else [])


def record_mean(records: Sequence[TrainingRecord], name: str) -> float:
    """Mean of a last logged value over the seeds that have it."""
    values = [record.final[name] for record in records if name in record.final]
    return sum(values) / len(values)


def _ablation(outcomes: Outcomes, title: str, entries: Sequence[Entry]) -> list[str]:
    """Variants side by side; nothing while none is judged."""
    few, many = outcomes.study.steps[0], outcomes.study.steps[-1]
    columns = [(BY_NAME[name], few) for name in ("frechet", "kl", "top5", "text_score", "ccds")]
    if many > few:
        columns += [(BY_NAME["frechet"], many), (BY_NAME["text_score"], many)]
    rows = [
        [entry.title, *cells]
        for entry in entries
        if set(cells := [_cell(outcomes, entry.name, n, kind) for kind, n in columns]) != {NOTHING}
    ]
    head = ["variant", *(f"{kind.title}, {in_steps(count)}" for kind, count in columns)]
    return [f"### {title}", "", *table(head, rows)] if rows else []


def _findings(outcomes: Outcomes) -> list[str]:
    """What the papers saw beside what we did; findings of which neither side was judged are left out."""
    study, rows = outcomes.study, []
    for finding in study.findings:
        kind = BY_NAME[finding.figure]
        verdict, first, second = outcomes.verdict(finding)
        if first is None and second is None:
            continue
        ours = NOTHING
        if first is not None and second is not None:
            values = [f"{kind.factor * side.value:.{kind.digits}f}" for side in (first, second)]
            ours = f"{kind.title} {values[0]} against {values[1]}"
            verdict = f"{verdict} ({kind.pair(first, second)})"
        sides = f"`{finding.first}` {finding.relation} `{finding.second}`"
        rows.append([finding.source, finding.claim, finding.paper or NOTHING, sides, ours, verdict])
    head = [
        "paper",
        "what it saw",
        "its figures",
        "compared",
        "ours",
        "agrees / not / inconclusive (intervals)",
    ]
    note = [study.findings_note, ""] if study.findings_note else []
    return _section("What the papers saw", [*note, *table(head, rows)] if rows else [])
