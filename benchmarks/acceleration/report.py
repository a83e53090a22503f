"""Records to ``acceleration.md`` and its pictures: a function of the records alone, equal bytes for equal input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.acceleration.charts import quality_charts, training_charts
from benchmarks.acceleration.figures import BY_NAME, KINDS, STRAIGHTNESS, Kind
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
    return Outcomes(studies[-1], [record for record in evaluations if record.entry in known], trainings)


def markdown(outcomes: Outcomes, pictures: Iterable[str]) -> str:
    """The report as Markdown."""
    study = outcomes.study
    lines = [f"# {study.title}", "", *_origin(outcomes)]
    lines += ["## Methods by steps", ""]
    for kind in KINDS:
        # Records of before a figure was known have no table of it.
        if any(kind.name in record.figures for record in outcomes.evaluations.values()):
            lines += _by_steps(outcomes, kind)
    lines += promises(outcomes)
    lines += _costs(outcomes)
    if study.ablations:
        lines += ["## Ablations", ""]
        for ablation in study.ablations:
            lines += _ablation(outcomes, ablation.title, [study.entry(name) for name in ablation.entries])
    lines += _findings(outcomes)
    titles = {QUALITY_PICTURE: "Quality against steps", TRAINING_PICTURE: "Training curves"}
    for name in pictures:
        lines += [f"## {titles[name]}", "", f"![{titles[name].lower()}]({name})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _origin(outcomes: Outcomes) -> list[str]:
    """What the figures rest on, and how to read them."""
    records = list(outcomes.evaluations.values())
    seeds = sorted({record.seed for record in records})
    machines = sorted({record.machine.title for record in records})
    trained = sorted({record.machine.title for record in outcomes.trainings.values()})
    commits = sorted({record.commit for record in records if record.commit}) or ["none"]
    dates = sorted({record.date for record in records})
    basis = outcomes.basis
    assert basis is not None
    counts = {name: sorted({r.figures[name].n for r in records if name in r.figures}) for name in BY_NAME}
    clips, compared = (
        " or ".join(map(str, numbers)) or "no" for numbers in (counts["top1"], counts["frechet"])
    )
    # Of generated and real clips one is a single set.
    real = next((record.real["frechet"].n for record in records if "frechet" in record.real), 0)
    size = min([real, *counts["frechet"]])
    sets = f", in sets of {size}" if size and counts["frechet"] and counts["frechet"][-1] > size else ""
    balance = (
        "Labels count for as much among real validation clips as among generated ones, however many clips there are "
        "of each; Fréchet distances are of as many clips of each label."
        if basis.real_clips == "by label"
        else "Real validation clips are as they are: labels of many clips count for more among them than among "
        "generated ones."
    )
    return [
        (
            f"Clips of {basis.clip_seconds:g} s, {basis.clips_per_prompt} a prompt, same prompts and noise for all: "
            f"{clips} clips by entry, seed and steps, {compared} of them in Fréchet distances{sets}. "
            f"Training seeds: {', '.join(map(str, seeds))}. Judged on {'; '.join(machines)}"
            + (f", trained on {'; '.join(trained)}" if trained else "")
            + f". Commit {', '.join(f'`{text[:12]}`' for text in commits)}, "
            f"{dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}."
        ),
        "",
        (
            f"Tagger `{basis.tagger[:12]}`, reference `{basis.reference[:12]}`, prompts `{basis.prompts[:12]}`: "
            f"figures may be compared only where these are equal, and not with those of the papers. {balance}"
        ),
        "",
        (
            "In brackets: intervals of 95 %. They cover prompts and clips, resampled by whole labels; where there are "
            "several training seeds, the spread of their mean is added. With one seed another training run may lie "
            "outside. Two figures differ where their intervals do not touch; else the comparison is inconclusive."
        ),
        "",
    ]


def _cell(outcomes: Outcomes, entry: str, steps: int, kind: Kind) -> str:
    figure = outcomes.figure(entry, steps, kind.name)
    return "failed" if figure is None and outcomes.failed(entry, steps) else kind.show(figure)


def _by_steps(outcomes: Outcomes, kind: Kind) -> list[str]:
    steps = outcomes.study.steps
    rows = [
        [entry.title, *(_cell(outcomes, entry.name, count, kind) for count in steps)]
        for entry in outcomes.study.methods()
    ]
    if (real := outcomes.real(kind.name)) is not None:
        rows.append(["real validation clips", kind.show(real), *[""] * (len(steps) - 1)])
    head = ["method", *(f"{count} step{'s' if count > 1 else ''}" for count in steps)]
    return [f"### {kind.title}", "", f"{kind.better[0].upper()}{kind.better[1:]}.", "", *table(head, rows)]


def _costs(outcomes: Outcomes) -> list[str]:
    """Training of every entry; seconds with the stages before it."""
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
                f"{1000 * seconds / steps:.0f}" if steps else "–",
                " / ".join(sorted({f"{r.relative_cost:.2f}" for r in mine if r.relative_cost is not None}))
                or "–",
                f"{sum(chain) / len(mine):.0f}",
                ", ".join(losses) or "–",
                f"{final['validation_velocity_error']:.4f}" if "validation_velocity_error" in final else "–",
                STRAIGHTNESS.show(figure),
                "; ".join(failures) or "–",
            ]
        )
    head = [
        "what", "entry", "seeds", "steps", "seconds", "ms a step", "a step's cost on trial",
        "seconds with its stages", "last losses",
        "velocity error on validation clips", "S(z), lower is straighter", "failed",
    ]  # fmt: skip
    base = study.entry(study.baseline).title
    note = (
        f"Beyond the common start, means over seeds. A step's cost on trial is in steps of “{base}”: where it is "
        "given, it decided the number of steps, and seconds did not."
    )
    return ["## Training", "", note, "", *table(head, rows)]


def record_mean(records: Sequence[TrainingRecord], name: str) -> float:
    """Mean of a last logged value over the seeds that have it."""
    values = [record.final[name] for record in records if name in record.final]
    return sum(values) / len(values)


def _ablation(outcomes: Outcomes, title: str, entries: Sequence[Entry]) -> list[str]:
    few, many = outcomes.study.steps[0], outcomes.study.steps[-1]
    columns = [
        *((BY_NAME[name], few) for name in ("frechet", "kl", "top5", "text_score", "ccds")),
        (BY_NAME["frechet"], many),
        (BY_NAME["text_score"], many),
    ]
    rows = [
        [entry.title, *(_cell(outcomes, entry.name, n, kind) for kind, n in columns)] for entry in entries
    ]
    head = ["variant", *(f"{kind.title}, {count} step{'s' if count > 1 else ''}" for kind, count in columns)]
    return [f"### {title}", "", *table(head, rows)]


def _findings(outcomes: Outcomes) -> list[str]:
    study, rows = outcomes.study, []
    for finding in study.findings:
        kind = BY_NAME[finding.figure]
        verdict, first, second = outcomes.verdict(finding)
        ours = "–"
        if first is not None and second is not None:
            values = [f"{kind.factor * side.value:.{kind.digits}f}" for side in (first, second)]
            ours = f"{kind.title} {values[0]} against {values[1]}"
            verdict = f"{verdict} ({kind.pair(first, second)})"
        sides = f"`{finding.first}` {finding.relation} `{finding.second}`"
        rows.append([finding.source, finding.claim, finding.paper or "–", sides, ours, verdict])
    head = [
        "paper",
        "what it saw",
        "its figures",
        "compared",
        "ours",
        "agrees / not / inconclusive (intervals)",
    ]
    note = [study.findings_note, ""] if study.findings_note else []
    return ["## What the papers saw", "", *note, *table(head, rows)] if rows else []
