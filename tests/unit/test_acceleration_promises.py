"""What the study says of one step against flow matching, against real clips and against many steps."""

from __future__ import annotations

import pytest

from benchmarks.acceleration.plan import PACKAGED, load_study
from benchmarks.acceleration.promises import promises
from benchmarks.acceleration.records import Basis, EvaluationRecord, Machine
from benchmarks.acceleration.verdicts import Outcomes
from edge_tta.evaluate.statistics import Estimate


def evaluation(entry: str, steps: int, value: float, real: float | None) -> EvaluationRecord:
    theirs = {} if real is None else {"frechet": Estimate(real, real - 1.0, real + 1.0, 10)}
    return EvaluationRecord(
        entry, 0, steps, "0", "euler", 4.0, Basis("t", "r", "p", 3.0, 2), Machine("a processor", 1, "cpu"),
        "2026-01-01", "", {"frechet": Estimate(value, value - 1.0, value + 1.0, 10)}, theirs,
    )  # fmt: skip


def rows(real: float | None) -> dict[str, list[str]]:
    figures = (("flow", 1, 60.0), ("flow", 25, 30.0), ("dmd2", 1, 40.0), ("dmd2", 25, 50.0), ("arc", 1, 70.0))
    records = [evaluation(entry, steps, value, real) for entry, steps, value in figures]
    study = load_study(PACKAGED)
    lines = promises(Outcomes(study, records, []))
    named = {study.entry(name).title: name for name in ("flow", "dmd2", "arc")} | {
        "real validation clips": "real"
    }
    cells = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")
    ]
    return {named[row[0]]: row[1:] for row in cells if row[0] in named} | {"text": lines}


def test_a_ratio_and_the_gap_to_real_clips_that_it_closes() -> None:
    found = rows(real=20.0)
    assert found["dmd2"] == [
        "1.50 (1.44 to 1.56)",
        "50",
        "0.80 (0.76 to 0.84)",
        "lost (49.00 to 51.00 against 29.00 to 31.00)",
    ]
    assert found["flow"][:3] == ["1.00 (0.97 to 1.03)", "0", "2.00 (1.90 to 2.10)"]
    # Worse than the baseline is further away than nothing.
    assert found["arc"][:3] == ["0.86 (0.83 to 0.88)", "-25", "–"]
    assert found["real"][:2] == ["3.00 (2.81 to 3.21)", "100"]
    assert any("are 3.0 times better" in line for line in found["text"])


@pytest.mark.parametrize("real", [None, 61.0])
def test_without_real_clips_that_are_better_no_gap_is_claimed(real: float | None) -> None:
    found = rows(real)
    assert found["dmd2"][1] == "–"
    assert "real" not in found and not any(
        "times better than" in line and "Real" in line for line in found["text"]
    )
