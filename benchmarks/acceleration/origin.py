"""How the report begins: what its figures rest on, and how they are to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.acceleration.figures import BY_NAME
from benchmarks.acceleration.records import EvaluationRecord
from benchmarks.acceleration.verdicts import Outcomes

BY_LABEL = (
    "Labels count for as much among real validation clips as among generated ones, however many clips there are of "
    "each; Fréchet distances are of as many clips of each label."
)
AS_THEY_ARE = (
    "Real validation clips are as they are: among them, and not among generated ones, labels of many clips count for "
    "more than others."
)


def origin(outcomes: Outcomes) -> list[str]:
    """What the figures rest on, and how to read them."""
    records = list(outcomes.evaluations.values())
    basis = outcomes.basis
    assert basis is not None
    return [
        _made(outcomes, records),
        "",
        (
            f"Tagger `{basis.tagger[:12]}`, reference `{basis.reference[:12]}`, prompts `{basis.prompts[:12]}`: "
            "figures may be compared only where these are equal, and not with those of the papers. "
            f"{BY_LABEL if basis.real_clips == 'by label' else AS_THEY_ARE}"
        ),
        "",
        _read(outcomes, records),
        "",
    ]


def _made(outcomes: Outcomes, records: Sequence[EvaluationRecord]) -> str:
    """Clips, seeds, machines, commits and dates."""
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
    seeds = ", ".join(map(str, sorted({record.seed for record in records})))
    trained = sorted({record.machine.title for record in outcomes.trainings.values() if record.steps})
    commits = sorted({record.commit for record in records if record.commit})
    dates = sorted({record.date for record in records})
    return (
        f"Clips of {basis.clip_seconds:g} s, {basis.clips_per_prompt} a prompt, same prompts and noise for all: "
        f"{clips} clips by entry, seed and steps, {compared} of them in Fréchet distances{sets}. "
        f"{'Training seeds' if trained else 'Seeds of the noise'}: {seeds}. "
        f"Judged on {'; '.join(sorted({record.machine.title for record in records}))}"
        + (f", trained on {'; '.join(trained)}" if trained else "")
        + f". Commit {', '.join(f'`{text[:12]}`' for text in commits) or 'none'}, "
        + (dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}")
        + "."
    )


def _read(outcomes: Outcomes, records: Sequence[EvaluationRecord]) -> str:
    """How intervals are to be read, and what is missing."""
    seeds = Counter((record.entry, record.steps) for record in records).values()
    lines = ["In brackets: intervals of 95 %. They cover prompts and clips, by whole labels."]
    if max(seeds) > 1:
        lines.append(
            "Where there are several training seeds, the spread of their mean is added; figures above 0 by nature, "
            "such as distances, are then pooled by their logarithms, and their means are geometric ones."
        )
    if min(seeds) == 1 and any(record.steps for record in outcomes.trainings.values()):
        lines.append("With one seed another training run may lie outside.")
    lines.append(
        "Two figures differ where their intervals do not touch; else the comparison is inconclusive."
    )
    if disturbed := sum(record.disturbed for record in records):
        lines.append(
            f"Times of {disturbed} of {len(records)} evaluations are left out: other work ran beside them."
        )
    judged = {record.entry for record in records}
    missing = [
        entry.title
        for entry in outcomes.study.entries
        if entry.group != "stages"
        and entry.name not in judged
        and not outcomes.failed(entry.name, outcomes.study.steps[0])
    ]
    if missing:
        lines.append(f"Not judged yet: {'; '.join(missing)}.")
    return " ".join(lines)
