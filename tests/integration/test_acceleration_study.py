"""The acceleration study on the tiny preset: plan, training, judging and the report."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from benchmarks.acceleration import train
from benchmarks.acceleration.__main__ import main
from benchmarks.acceleration.plan import Budget, load_study
from benchmarks.acceleration.records import (
    Basis,
    EvaluationRecord,
    Machine,
    StudyRecord,
    TrainingRecord,
    append_records,
    read_records,
)
from benchmarks.acceleration.report import markdown, outcomes_of, write_report
from benchmarks.acceleration.train import Workshop, define, overrides_of
from benchmarks.acceleration.verdicts import Pooled, pool, relation
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.statistics import Estimate
from edge_tta.evaluate.tagger import TaggerConfig, build_network, save_tagger
from edge_tta.model.checkpoint import save_part
from edge_tta.train.loop import Progress
from edge_tta.train.recipes import load_recipe
from export.tiny import tiny_checkpoint

RATE = 44100
LABELS = ("piano", "rain")
PLAN = """
title = "Tiny study"
steps = [1, 2]
overrides = [
    "data.num_windows=12", "data.num_validation_windows=4", "data.windows.max_seconds=1.0",
    "data.windows.short_seconds=0.8", "generator.frames=400", "loop.warmup_steps=1",
]
[budget]
steps = 4

[[entries]]
name = "flow"
recipe = "flow"
sampler = "classifier-free"
guidance = 3.0

[[entries]]
name = "half"
recipe = "integrated-flow"
group = "stages"
share = 0.5
teacher = "start"
sampler = "euler"
guidance = 3.0

[[entries]]
name = "jumps"
label = "ARC after it"
recipe = "arc"
share = 0.5
start = "half"
teacher = "start"
sampler = "ping-pong"
guidance = 1.0

[[entries]]
name = "unguided"
recipe = "integrated-flow"
group = "ablations"
budget = { steps = 0 }
start = "half"
sampler = "euler"
guidance = 1.0

[[ablations]]
title = "Guidance"
entries = ["unguided", "jumps"]

[[findings]]
source = "a paper"
claim = "jumps are better"
paper = "1 against 2"
figure = "frechet"
first = "jumps@1"
relation = "below"
second = "flow@1"
"""


def write_clips(folder: Path) -> None:
    """Tones and noise bursts, two labels in both splits."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "licence", "split"])
        for index in range(12):
            time = np.arange(int(RATE * draw.uniform(0.3, 0.6))) / RATE
            tone = 0.5 * np.sin(2 * np.pi * 300 * (1 + index) * time)
            sound = 0.2 * draw.standard_normal(len(time)) if index % 2 else tone
            soundfile.write(folder / f"{index}.wav", sound.astype(np.float32), RATE)
            writer.writerow([f"{index}.wav", LABELS[index % 2], "CC0", "val" if index > 7 else "train"])


def write_start(folder: Path) -> None:
    tiny = tiny_checkpoint()
    for part in ("codec", "text_encoder", "generator"):
        save_part(folder, tiny.config, part, getattr(tiny, part))
    assert tiny.tokenizer is not None
    (folder / "tokenizer.model").write_bytes(tiny.tokenizer)


def write_tagger(folder: Path) -> None:
    config = TaggerConfig(widths=(8, 12, 16), embedding=8, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_tagger(build_network(2, config), LABELS, config, folder)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything a study needs."""
    root = tmp_path_factory.mktemp("study")
    write_clips(root / "clips")
    write_start(root / "start")
    write_tagger(root / "tagger")
    (root / "plan.toml").write_text(PLAN, encoding="utf-8")
    (root / "prompts.csv").write_text(
        "prompt,label\nrain falling,rain\na piano note,piano\n", encoding="utf-8"
    )
    return root


def train_arguments(root: Path, work: Path) -> list[str]:
    given = {
        "study": root / "plan.toml", "start": root / "start", "data": root / "clips", "cache": root / "cache",
        "work": work,
    }  # fmt: skip
    return ["train", *(text for name, path in given.items() for text in (f"--{name}", str(path)))]


def judge_arguments(root: Path, work: Path) -> list[str]:
    given = {
        "study": root / "plan.toml", "reference": root / "clips", "tagger": root / "tagger",
        "prompts": root / "prompts.csv", "seconds": 0.4, "work": work,
    }  # fmt: skip
    return ["judge", *(text for name, value in given.items() for text in (f"--{name}", str(value)))]


@pytest.fixture(scope="module")
def finished(desk: Path) -> Path:
    """The study's folder, trained and judged."""
    work = desk / "work"
    assert main(train_arguments(desk, work)) == 0
    assert main(judge_arguments(desk, work)) == 0
    return work


def test_the_packaged_plan_is_whole_and_every_recipe_takes_its_overrides() -> None:
    study = load_study()
    assert study.steps == (1, 2, 4, 8, 25)
    recipes = {entry.recipe for entry in study.entries if entry.group == "methods"}
    packaged = {
        "flow",
        "reflow",
        "one-step",
        "meanflow",
        "improved-meanflow",
        "alpha-flow",
        "integrated-flow",
    }
    assert recipes == packaged | {"arc", "dmd2"}
    for entry in study.entries:
        recipe = load_recipe(entry.recipe, [text.replace("{steps}", "7") for text in entry.overrides])
        assert recipe.generator is not None and recipe.generator.objective()
        budget = study.budget_of(entry)
        assert budget.steps == 0 or budget.seconds
    for method in (entry for entry in study.entries if entry.group == "methods"):
        shares = [study.entry(name).share for name in study.ancestors(method.name)]
        assert sum(shares) == 1.0, method.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("share = 0.5\nteacher", "shares = 0.5\nteacher"), "did you mean 'share'"),
        (('start = "half"', 'start = "later"'), "no entry above it"),
        (("[budget]\nsteps = 4", "[budget]\nsteps = 4\nseconds = 3"), "either steps or seconds"),
        (('sampler = "ping-pong"', 'sampler = "pong"'), "'pong' is none of"),
        (("jumps@1", "jumps@3"), "nothing is judged at 3 steps"),
        (("jumps@1", "jump@1"), "'jump' is compared"),
        (("steps = [1, 2]", "steps = [2, 1]"), "must rise"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in PLAN
    (tmp_path / "plan.toml").write_text(PLAN.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_study(tmp_path / "plan.toml")


def test_entries_bring_their_starts_and_budgets_are_scaled(desk: Path) -> None:
    study = load_study(desk / "plan.toml")
    assert [entry.name for entry in study.select(["jumps"])] == ["half", "jumps"]
    assert [entry.name for entry in study.select(["jumps"], with_parents=False)] == ["jumps"]
    assert study.budget_of(study.entry("half")) == Budget(steps=2)
    assert study.budget_of(study.entry("flow"), 0.1) == Budget(steps=1)
    assert study.budget_of(study.entry("unguided"), 10) == Budget(steps=0)
    with pytest.raises(ConfigError, match="no entry 'jump'"):
        study.select(["jump"])


def test_a_definition_follows_what_decides_the_training(desk: Path) -> None:
    study = load_study(desk / "plan.toml")
    shop = Workshop(study, desk / "start", desk / "clips", desk / "cache", desk / "elsewhere")
    entry = study.entry("jumps")
    own = define(shop, entry, 0)
    assert own == define(dataclasses.replace(shop, work=desk / "other", cache=desk), entry, 0)
    changed = (define(shop, entry, 1), define(dataclasses.replace(shop, scale=2.0), entry, 0))
    assert len({own, *changed, define(dataclasses.replace(shop, overrides=("a=1",)), entry, 0)}) == 4
    lines = overrides_of(shop, entry, 3, 80, desk / "target")
    assert f'generator.start="{desk / "elsewhere" / "half" / "seed-3" / "checkpoint"}"' in lines
    assert f'generator.teacher="{desk / "start"}"' in lines
    assert {"loop.seed=3", "generator.seed=3", "loop.steps=80"} <= set(lines)


def test_seconds_become_steps_by_one_trial_for_all_seeds(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN.replace("[budget]\nsteps = 4", "[budget]\nseconds = 900")
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    study = load_study(tmp_path / "plan.toml")
    shop = Workshop(study, desk / "start", desk / "clips", desk / "cache", tmp_path / "work", scale=0.5)
    trials = []

    def trial(
        recipe: str, overrides: list[str], output: Path, on_progress: Callable[[Progress], None]
    ) -> None:
        trials.append(recipe)
        assert f"loop.steps={train.TRIAL_STEPS}" in overrides
        for step in range(1, train.TRIAL_STEPS + 1):
            # The first steps take 10 s each, the others half a second.
            elapsed = 10.0 * min(step, train.TRIAL_WARM) + 0.5 * max(0, step - train.TRIAL_WARM)
            on_progress(Progress(step, train.TRIAL_STEPS, elapsed / step, 0.0, {}))

    monkeypatch.setattr(train, "run_recipe", trial)
    assert [train.steps_of(shop, study.entry("flow"), seed) for seed in (0, 1, 2)] == [900, 900, 900]
    assert train.steps_of(shop, study.entry("half"), 0) == 450
    assert trials == ["flow", "integrated-flow"]
    assert [path.name for path in (tmp_path / "work" / "flow").iterdir()] == ["budget.json"]
    # Another budget is another trial.
    assert train.steps_of(dataclasses.replace(shop, scale=1.0), study.entry("flow"), 0) == 1800


def test_training_leaves_records_and_shares_the_latents(desk: Path, finished: Path) -> None:
    start = load_file(desk / "start" / "generator.safetensors")
    made = {}
    for name, steps in {"flow": 4, "half": 2, "jumps": 2, "unguided": 0}.items():
        folder = finished / name / "seed-0"
        record = json.loads((folder / "training.json").read_text())
        assert record["steps"] == steps and not record["failure"], name
        assert (record["seconds"] > 0) == (steps > 0)
        assert bool(record["curves"]) == (steps > 0)
        assert not (folder / "run" / "checkpoints").exists()
        made[name] = load_file(folder / "checkpoint" / "generator.safetensors")
    assert any(not torch.equal(value, start[key]) for key, value in made["flow"].items())
    assert all(torch.equal(value, made["half"][key]) for key, value in made["unguided"].items())
    assert len([path for path in (desk / "cache").iterdir() if path.name.startswith("latents")]) == 1


def test_what_is_finished_is_not_done_again(
    desk: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "results.jsonl").read_bytes()
    assert main(train_arguments(desk, finished)) == 0
    assert capsys.readouterr().err.count("finished before") == 4
    assert main(judge_arguments(desk, finished)) == 0
    output = capsys.readouterr()
    assert output.err.count("judged before") == 3 and "0 evaluations added" in output.out
    assert (finished / "results.jsonl").read_bytes() == before
    assert main([*train_arguments(desk, finished), "--budget-scale", "2", "--only", "flow"]) == 2
    assert "another definition" in capsys.readouterr().err


def test_judging_records_figures_with_their_basis(finished: Path) -> None:
    records = read_records(finished / "results.jsonl")
    judged = [record for record in records if isinstance(record, EvaluationRecord)]
    assert {(record.entry, record.steps) for record in judged} == {
        (name, steps) for name in ("flow", "jumps", "unguided") for steps in (1, 2)
    }
    common = {"frechet", "kl", "top1", "top5", "text_score", "ccds", "seconds_per_clip"}
    for record in judged:
        extra = set() if record.entry == "jumps" else {"straightness"}
        assert set(record.figures) == common | extra
        assert all(figure.low <= figure.value <= figure.high for figure in record.figures.values())
        assert record.figures["top1"].n == 4 and record.real["top1"].n == 4
    assert len({record.basis for record in judged}) == 1
    assert len({record.checkpoint for record in judged}) == 3


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_never_was(
    desk: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_tta.train.loop import Trainer

    work, whole = desk / "stopped", Trainer.train_step

    def stopping(trainer: Trainer) -> dict[str, float]:
        trainer.stopped = trainer.step == 1
        return whole(trainer)

    arguments = [*train_arguments(desk, work), "--only", "flow"]
    monkeypatch.setattr(Trainer, "train_step", stopping)
    assert main(arguments) == 130
    assert not (work / "flow" / "seed-0" / "training.json").exists()
    monkeypatch.setattr(Trainer, "train_step", whole)
    assert main(arguments) == 0
    again, before = (
        load_file(folder / "flow" / "seed-0" / "checkpoint" / "generator.safetensors")
        for folder in (work, finished)
    )
    assert all(torch.equal(again[key], value) for key, value in before.items())


def test_the_report_renders_the_same_bytes_again(finished: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["report", "--results", str(finished / "results.jsonl"), "-o", str(tmp_path / name)]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["acceleration.md", "acceleration_quality.png", "acceleration_training.png"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "acceleration.md").read_text(encoding="utf-8")
    assert "4 clips by entry, seed and steps, 4 of them in Fréchet distances" in text
    assert "| ARC after it |" in text and "### Guidance" in text and "| half | `half`, stage |" in text


def test_without_results_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path / "none.jsonl"), "-o", str(tmp_path)]) == 2
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["report", "--results", str(tmp_path / "empty.jsonl"), "-o", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "cannot be read" in errors[0] and "no results" in errors[1]
    assert not list(tmp_path.glob("*.md"))


MACHINE = Machine("a processor", 1, "cpu")


def evaluation(entry: str, value: float, spread: float, seed: int = 0, **changes: object) -> EvaluationRecord:
    figure = Estimate(value, value - spread, value + spread, 10)
    record = EvaluationRecord(
        entry,
        seed,
        1,
        "0",
        "euler",
        1.0,
        Basis("t", "r", "p", 3.0, 2),
        MACHINE,
        "2026-01-01",
        "",
        {"frechet": figure},
    )
    return dataclasses.replace(record, **changes)


@pytest.mark.parametrize(
    ("jumps", "spread", "verdict"),
    [
        (5.0, 1.0, "agrees (4.00 to 6.00 against 9.00 to 11.00)"),
        (15.0, 1.0, "not (14.00 to 16.00 against 9.00 to 11.00)"),
        (9.0, 1.0, "inconclusive (8.00 to 10.00 against 9.00 to 11.00)"),
        (5.0, 4.5, "inconclusive (0.50 to 9.50 against 5.50 to 14.50)"),
    ],
)
def test_verdicts_follow_from_the_intervals(desk: Path, jumps: float, spread: float, verdict: str) -> None:
    study = StudyRecord(load_study(desk / "plan.toml"))
    flow = evaluation("flow", 10.0, spread)
    outcomes = outcomes_of([study, flow, evaluation("jumps", 99.0, 0.0), evaluation("jumps", jumps, spread)])
    row = next(line for line in markdown(outcomes, []).splitlines() if line.startswith("| a paper"))
    assert row.endswith(f"| {verdict} |")


def test_seeds_that_differ_widen_the_interval() -> None:
    alone = pool([Estimate(2.0, 1.5, 3.0, 8)])
    assert (alone.value, alone.low, alone.high, alone.seeds) == (2.0, 1.5, 3.0, 1)
    equal = pool([Estimate(2.0, 1.5, 3.0, 8)] * 3)
    assert (equal.low, equal.high) == pytest.approx((1.5, 3.0))
    # Student's t with two degrees of freedom, standard deviation 1, three seeds.
    apart = pool([Estimate(value, value, value, 8) for value in (1.0, 2.0, 3.0)])
    assert apart.high - apart.value == pytest.approx(4.303 / 3**0.5)
    assert relation(Pooled(1, 0, 2, 1), Pooled(3, 2, 4, 1)) == "inconclusive"


def test_figures_of_different_judges_are_not_put_into_one_report(desk: Path) -> None:
    study = StudyRecord(load_study(desk / "plan.toml"))
    other = evaluation("jumps", 2.0, 1.0, basis=Basis("another", "r", "p", 3.0, 2))
    with pytest.raises(DataError, match="2 different taggers"):
        outcomes_of([study, evaluation("flow", 1.0, 1.0), other])


def test_a_failed_training_is_reported_and_not_judged(desk: Path, tmp_path: Path) -> None:
    study = StudyRecord(load_study(desk / "plan.toml"))
    failed = TrainingRecord(
        "jumps", 0, "arc", "d", 2, 1.0, MACHINE, "2026-01-01", "", failure="4 steps were not finite"
    )
    paths = write_report([study, failed, evaluation("flow", 1.0, 0.5)], tmp_path)
    text = paths[0].read_text(encoding="utf-8")
    assert "| ARC after it | failed |" in text and "4 steps were not finite" in text
    assert "not measured" in text


def test_a_line_cut_short_by_a_kill_is_dropped_and_a_strange_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_records(path, [evaluation("flow", 1.0, 0.5)])
    with path.open("a") as stream:
        stream.write('{"schema": 1, "kind": "eval')
    assert read_records(path) == [evaluation("flow", 1.0, 0.5)]
    append_records(path, [evaluation("flow", 2.0, 0.5)])
    assert [record.figures["frechet"].value for record in read_records(path)] == [1.0, 2.0]  # type: ignore[union-attr]
    path.write_text('{"schema": 1, "kind": "evaluation", "entry": "flow", "sed": 0}\n')
    with pytest.raises(ConfigError, match="unknown key 'sed'"):
        read_records(path)
