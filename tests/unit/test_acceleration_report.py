"""The report of the study: seeds as one figure, times by themselves, and no section without content."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.acceleration.charts import quality_charts
from benchmarks.acceleration.plan import PACKAGED, Finding, Study, load_study
from benchmarks.acceleration.records import (
    Basis,
    EvaluationRecord,
    Machine,
    Record,
    StudyRecord,
    TrainingRecord,
    parse_line,
    read_records,
    to_line,
)
from benchmarks.acceleration.report import markdown, outcomes_of
from benchmarks.acceleration.verdicts import Pooled, pool, pool_times, relation
from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate

ROOT = Path(__file__).resolve().parents[2]
MACHINE = Machine("a processor", 1, "cpu")
BASIS = Basis("t", "r", "p", 3.0, 2, "by label")


def exact(value: float) -> Estimate:
    return Estimate(value, value, value, 8)


def evaluation(
    entry: str, value: float, seed: int = 0, steps: int = 1, **changes: object
) -> EvaluationRecord:
    figure = Estimate(value, 0.9 * value, 1.1 * value, 10)
    record = EvaluationRecord(
        entry, seed, steps, "0", "euler", 1.0, BASIS, MACHINE, "2026-01-01", "", {"frechet": figure}
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def training(entry: str, steps: int = 100, **changes: object) -> TrainingRecord:
    record = TrainingRecord(entry, 0, "flow", "d", steps, 10.0, MACHINE, "2026-01-01", "")
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> Study:
    """Methods, no ablations, and a single finding."""
    study = load_study(PACKAGED)
    finding = Finding("a paper", "fewer are worse", "frechet", "dmd2@1", "above", "dmd2@25")
    return dataclasses.replace(
        study,
        entries=tuple(entry for entry in study.entries if entry.group != "ablations"),
        ablations=(),
        findings=(finding,),
        findings_note="A note.",
    )


def report(study: Study, records: Sequence[Record]) -> str:
    return markdown(outcomes_of([StudyRecord(study), *records]), [])


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#")]


def without_content(text: str) -> list[str]:
    """Headings that nothing follows but another as high, and tables of heads alone."""
    lines = [line for line in text.splitlines() if line]
    found = []
    for line, after in zip(lines, [*lines[1:], "# end"], strict=True):
        level, next_level = (len(one) - len(one.lstrip("#")) for one in (line, after))
        if (level and next_level and next_level <= level) or (
            line.startswith("|---") and not after.startswith("| ")
        ):
            found.append(line)
    return found


def test_one_seed_keeps_its_interval() -> None:
    for scale in ("plain", "positive", "share"):
        alone = pool([Estimate(2.0, 1.5, 3.0, 8)], scale)  # type: ignore[arg-type]
        assert (alone.value, alone.low, alone.high, alone.seeds) == (2.0, 1.5, 3.0, 1)


def test_seeds_that_differ_widen_the_interval() -> None:
    equal = pool([Estimate(2.0, 1.5, 3.0, 8)] * 3)
    assert (equal.low, equal.high) == pytest.approx((1.5, 3.0))
    # Student's t with two degrees of freedom, standard deviation 1, three seeds.
    apart = pool([exact(value) for value in (1.0, 2.0, 3.0)])
    assert apart.high - apart.value == pytest.approx(4.30265 / 3**0.5)
    many = pool([exact(value) for value in (0.0, 2.0) * 8])
    assert many.high - many.value == pytest.approx(2.13145 * (16 / 15) ** 0.5 / 4)
    assert relation(Pooled(1, 0, 2, 1), Pooled(3, 2, 4, 1)) == "inconclusive"


def test_what_is_above_zero_has_no_interval_that_reaches_below() -> None:
    """The three seeds of ARC at 25 steps, whose distances had an interval from 0 to 251."""
    values = [72.852, 176.611, 104.912]
    seeds = [Estimate(value, 0.9 * value, value / 0.9, 90) for value in values]
    found = pool(seeds, "positive")
    assert found.value == pytest.approx(math.prod(values) ** (1 / 3))
    logarithms = [math.log(value) for value in values]
    deviation = (sum((one - math.log(found.value)) ** 2 for one in logarithms) / 2) ** 0.5
    half = math.hypot(4.30265 * deviation / 3**0.5, math.log(1 / 0.9))
    assert (found.low, found.high) == pytest.approx(
        (found.value / math.exp(half), found.value * math.exp(half))
    )
    assert 30.0 < found.low < min(values)
    # Where seeds hardly differ, it is what it was.
    near = [Estimate(value, value - 4.0, value + 4.0, 90) for value in (49.0, 50.0, 51.0)]
    assert pool(near, "positive").low == pytest.approx(pool(near).low, abs=0.2)
    # It reaches 0 where a seed's own does, and where a seed is at 0 there is no logarithm.
    assert pool([Estimate(1.0, 0.0, 2.0, 9), Estimate(1.0, 0.5, 2.0, 9)], "positive").low == 0.0
    touching = pool([exact(value) for value in (0.0, 2.0, 4.0)], "positive")
    assert (touching.value, touching.low) == (2.0, 0.0)


def test_shares_stay_between_none_and_all() -> None:
    found = pool([exact(value) for value in (0.0, 0.1, 0.9)], "share")
    assert (found.value, found.low, found.high) == (pytest.approx(1 / 3), 0.0, 1.0)


def timed(seed: int, *times: float, **changes: object) -> EvaluationRecord:
    return evaluation("flow", 50.0, seed, times=times, **changes)


def test_times_have_quartiles_and_no_spread_over_seeds(plain: Study) -> None:
    records = [timed(0, 0.1, 0.2, 0.3), timed(1, 0.4, 0.5)]
    assert pool_times(records) == Pooled(pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.4), 2)
    assert "| flow matching, continued | 300.0 (200.0 to 400.0) |" in report(plain, records)
    # Records of before: means of five clips, the third with other work beside it.
    old = [
        evaluation("flow", 50.0, seed, figures={"seconds_per_clip": Estimate(mean, mean, mean, 5)})
        for seed, mean in enumerate((0.079, 0.086, 1.833))
    ]
    found = pool_times(old)
    assert found is not None and found.value == 0.086 and found.low > 0.08
    text = report(plain, [*old[:1], evaluation("dmd2", 40.0)])
    assert "| flow matching, continued | 79.0 |" in text
    assert "quartiles" in text[text.index("### Time per clip") :].splitlines()[2]


def test_times_with_other_work_beside_them_are_dropped(plain: Study) -> None:
    busy, quiet = timed(0, 0.9, load=1.6), timed(1, 0.2, load=1.4)
    assert busy.disturbed and not quiet.disturbed and not timed(0, 0.9).disturbed
    found = pool_times([busy, quiet])
    assert found is not None and (found.value, found.seeds) == (0.2, 1)
    assert "Times of 1 of 2 evaluations are left out" in report(plain, [busy, quiet])
    text = report(plain, [busy, evaluation("dmd2", 40.0)])
    assert "Time per clip" not in text and "### Fréchet distance" in text
    assert "left out" not in report(plain, [quiet])


def test_records_of_before_are_read_and_rendered() -> None:
    path = ROOT / "docs" / "reports" / "acceleration.jsonl"
    records = read_records(path)
    text = markdown(outcomes_of(records), [])
    assert "Real validation clips are as they are" in text and "Not judged" not in text
    times = text[text.index("### Time per clip") : text.index("## Is one step enough")]
    cell = times[times.index("| flow matching, continued |") :].splitlines()[0].split("|")[2]
    middle, low, high = (
        float(part) for part in cell.replace("(", "").replace("to ", "").replace(")", "").split()
    )
    assert 0.0 < low < middle < high
    assert "(0.00 to" not in text[: text.index("### Label ranked first")]
    assert not without_content(text)


def test_a_record_says_how_real_clips_count() -> None:
    record = timed(0, 0.1, 0.2, load=1.5)
    assert parse_line(to_line(record), "here") == record
    fields = json.loads(to_line(record))
    for name in ("times", "load"):
        del fields[name]
    del fields["basis"]["real_clips"]
    old = parse_line(json.dumps(fields), "here")
    assert isinstance(old, EvaluationRecord)
    assert (old.times, old.load, old.basis.real_clips) == ((), None, "as they are")
    study = load_study(PACKAGED)
    with pytest.raises(DataError, match="ways to count real clips"):
        outcomes_of([StudyRecord(study), record, dataclasses.replace(old, seed=1)])


def test_a_plan_without_ablations_has_no_section_of_them(plain: Study) -> None:
    records: list[Record] = [training(name, relative_cost=2.0) for name in ("flow", "dmd2")]
    for entry in ("flow", "dmd2"):
        records += [evaluation(entry, value, steps=steps) for steps, value in ((1, 60.0), (25, 30.0))]
    text = report(plain, records)
    assert headings(text) == [
        f"# {plain.title}",
        "## Methods by steps",
        "### Fréchet distance",
        "## Is one step enough, and are many still good?",
        "## Training",
        "## What the papers saw",
    ]
    assert not without_content(text)
    # Columns and rows that nothing is in are not there either.
    assert "| what | entry | seeds | steps | seconds | ms a step | a step's cost on trial |" in text
    assert "last losses" not in text and "S(z)" not in text and "| ARC |" not in text
    assert "Not judged yet: reflow (FlashAudio); " in text
    assert "agrees" in text and "A note." in text
    assert "several training seeds" not in text and "With one seed another training run" in text


def test_a_plan_of_which_little_is_judged_says_no_more(plain: Study) -> None:
    text = report(plain, [evaluation("reflow", 50.0)])
    assert headings(text) == [f"# {plain.title}", "## Methods by steps", "### Fréchet distance"]
    assert not without_content(text)
    # Nothing was trained: no seed of a training, and none that another run may differ from.
    assert "Seeds of the noise: 0." in text and "another training run" not in text
    with pytest.raises(DataError, match="nothing was judged of the entries"):
        outcomes_of([StudyRecord(plain), evaluation("unknown", 50.0)])
    # The baseline alone answers no question about the others.
    assert "enough" not in report(plain, [evaluation("flow", 50.0)])


def test_what_was_not_trained_has_no_section_of_training(plain: Study) -> None:
    judged = [evaluation("flow", 50.0), evaluation("dmd2", 40.0)]
    untrained = [training(name, steps=0, seconds=0.0) for name in ("flow", "dmd2")]
    assert "## Training" not in (text := report(plain, [*untrained, *judged]))
    assert "## Straightness" not in text and "trained on" not in text
    straight = dataclasses.replace(judged[0], figures={**judged[0].figures, "straightness": exact(0.2)})
    text = report(plain, [*untrained, straight, judged[1]])
    assert "| flow matching, continued | `flow` | 0.2000 (0.2000 to 0.2000) |" in text
    assert "## Training" not in text and not without_content(text)


def test_one_number_of_steps_is_not_held_against_itself(plain: Study) -> None:
    study = dataclasses.replace(plain, steps=(2,), findings=())
    text = report(study, [evaluation("flow", 60.0, steps=2), evaluation("dmd2", 40.0, steps=2)])
    assert "## Are 2 steps enough?" in text and "are many still good" not in text
    row = next(line for line in text.splitlines() if line.startswith("| method | flow matching"))
    assert row.count("|") == 4 and "over its" not in text and "(1.15 or less)" not in text
    assert not without_content(text)


def test_ablations_show_what_was_judged() -> None:
    study = load_study(PACKAGED)
    first, second = study.ablations[:2]
    text = report(study, [evaluation(first.entries[-1], 50.0)])
    assert f"### {first.title}" in text and f"### {second.title}" not in text
    assert not without_content(text)
    assert "## Methods by steps" not in text or first.entries[-1] in {e.name for e in study.methods()}


def test_methods_without_figures_are_not_drawn(plain: Study) -> None:
    records = [evaluation(entry, 50.0) for entry in ("flow", "dmd2")]
    charts = quality_charts(outcomes_of([StudyRecord(plain), *records]))
    assert [[series.name for series in chart.series] for chart in charts] == [
        ["flow matching, continued", "integrated flow, then DMD2"]
    ]
