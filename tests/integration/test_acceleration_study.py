"""The acceleration study on the tiny preset: plan, training, judging and the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from study_cases import PLAN, judge_arguments, train_arguments, write_desk

from benchmarks.acceleration import costs, train
from benchmarks.acceleration.__main__ import main
from benchmarks.acceleration.plan import PACKAGED, Budget, load_study
from benchmarks.acceleration.records import (
    Basis,
    CostRecord,
    EvaluationRecord,
    Machine,
    StudyRecord,
    TrainingRecord,
    append_records,
    read_records,
)
from benchmarks.acceleration.report import markdown, outcomes_of, write_report
from benchmarks.acceleration.sounds import REPETITIONS
from benchmarks.acceleration.train import define
from benchmarks.acceleration.workshop import Workshop, overrides_of
from edge_tta.errors import ConfigError, DataError, TrainingError
from edge_tta.evaluate.statistics import Estimate
from edge_tta.train.progress import Progress
from edge_tta.train.recipes import load_recipe


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything a study needs."""
    root = tmp_path_factory.mktemp("study")
    write_desk(root, PLAN)
    return root


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
        (("[budget]\nsteps = 4", "[budget]\nsteps = 4\nseconds = 3"), "one of the three"),
        (("[budget]\nsteps = 4", "[budget]\nbaseline_steps = 0"), "must be above 0"),
        (
            (
                '[budget]\nsteps = 4\n\n[[entries]]\nname = "flow"',
                "[budget]\nbaseline_steps = 4\n\n[[entries]]\nname = 'f'",
            ),
            "'flow', which is no entry",
        ),
        (('sampler = "ping-pong"', 'sampler = "pong"'), "'pong' is none of"),
        (("jumps@1", "jumps@3"), "nothing is judged at 3 steps"),
        (("jumps@1", "jump@1"), "'jump' is compared"),
        (("steps = [1, 2]", "steps = [2, 1]"), "must rise"),
        (('start = "half"', 'start = "half"\ncheckpoint = "x"'), "judged as it is, without"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in PLAN
    (tmp_path / "plan.toml").write_text(PLAN.replace(*change), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_study(tmp_path / "plan.toml")


def test_a_plan_may_be_another_one_changed(desk: Path, tmp_path: Path) -> None:
    whole = load_study(desk / "plan.toml")
    (tmp_path / "plan.toml").write_text(PLAN, encoding="utf-8")
    changed = tmp_path / "changed.toml"
    changed.write_text(
        'like = "plan.toml"\ntitle = "Other"\nonly = ["jumps"]\noverrides = ["loop.seed=3"]', encoding="utf-8"
    )
    study = load_study(changed)
    assert [entry.name for entry in study.entries] == ["half", "jumps"]
    assert study.title == "Other" and study.overrides == (*whole.overrides, "loop.seed=3")
    assert (study.steps, study.budget, study.ablations) == (whole.steps, whole.budget, ())
    assert all("flow" not in finding.first + finding.second for finding in study.findings)
    changed.write_text('like = "plan.toml"', encoding="utf-8")
    assert load_study(changed) == whole
    for text, message in (
        ('like = "plan.toml"\nonly = ["jump"]', "no entry 'jump'"),
        ('like = "plan.toml"\ntitel = "x"', "did you mean 'title'"),
        ('like = "none.toml"', "none.toml"),
        ("like = 3", "changed.toml"),
    ):
        changed.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            load_study(changed)


def test_the_plan_for_speech_trains_as_the_recipe_for_speech_does() -> None:
    study = load_study(PACKAGED.with_name("speech.toml"))
    speech = load_recipe("speech-flow")
    for entry in study.entries:
        recipe = load_recipe(entry.recipe, [*study.overrides, *entry.overrides])
        assert recipe.data.captions == speech.data.captions == "digits", entry.name
        assert recipe.data.windows == speech.data.windows, entry.name
        assert recipe.data.permissive_only is speech.data.permissive_only is False
        assert recipe.generator is not None and recipe.generator.short_step_share == 0.0


def test_the_plan_of_the_shipped_model_trains_nothing() -> None:
    study, root = load_study(PACKAGED.with_name("shipped.toml")), PACKAGED.parents[2]
    assert {study.budget_of(entry) for entry in study.entries} == {Budget(steps=0)}
    for entry in study.entries:
        assert load_recipe(entry.recipe).generator is not None
        assert (root / entry.checkpoint).is_dir()


def test_weights_that_are_there_are_taken_as_they_are(desk: Path, tmp_path: Path) -> None:
    plan = PLAN.replace('name = "flow"', f'name = "flow"\ncheckpoint = "{tmp_path / "ready"}"')
    (tmp_path / "plan.toml").write_text(plan, encoding="utf-8")
    study = load_study(tmp_path / "plan.toml")
    shop = Workshop(study, desk / "start", desk / "clips", desk / "cache", tmp_path / "work")
    entry = study.entry("flow")
    with pytest.raises(ConfigError, match="ready has no generator"):
        train.train_entry(shop, entry, 0)
    (tmp_path / "ready").mkdir()
    weights = load_file(desk / "start" / "generator.safetensors")
    for factor in (2.0, 3.0):
        save_file(
            {name: factor * value for name, value in weights.items()},
            tmp_path / "ready" / "generator.safetensors",
        )
        if factor == 3.0:
            # Other weights are another entry.
            with pytest.raises(ConfigError, match="another definition"):
                train.train_entry(shop, entry, 0)
            break
        record = train.train_entry(shop, entry, 0)
        assert (record.steps, record.failure) == (0, "")
        kept = tmp_path / "work" / "flow" / "seed-0" / "checkpoint"
        for name, value in load_file(kept / "generator.safetensors").items():
            torch.testing.assert_close(value, factor * weights[name])
        assert (kept / "tokenizer.model").is_file()


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


class Clock:
    """In place of training: the first steps take 10 s each, the others as long as the recipe is said to take."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.trials = seconds, list[str]()

    def __call__(
        self, recipe: str, overrides: list[str], output: Path, on_progress: Callable[[Progress], None]
    ) -> None:
        self.trials.append(recipe)
        last = {text.partition("=")[0]: text.partition("=")[2] for text in overrides}
        assert last["loop.steps"] == str(costs.TRIAL_STEPS)
        # Only the common start is there before anything is trained.
        assert Path(json.loads(last["generator.start"])).name == "start"
        for step in range(1, costs.TRIAL_STEPS + 1):
            elapsed = 10.0 * min(step, costs.TRIAL_WARM)
            elapsed += self.seconds[recipe] * max(0, step - costs.TRIAL_WARM)
            on_progress(Progress(step, costs.TRIAL_STEPS, elapsed / step, 0.0, {}))


def workshop(desk: Path, folder: Path, budget: str, **changes: Any) -> Workshop:
    plan = PLAN.replace("[budget]\nsteps = 4", f"[budget]\n{budget}")
    folder.mkdir(exist_ok=True)
    (folder / "plan.toml").write_text(plan, encoding="utf-8")
    study = load_study(folder / "plan.toml")
    return Workshop(study, desk / "start", desk / "clips", desk / "cache", folder / "work", **changes)


def test_seconds_become_steps_by_one_trial_for_all_seeds(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock({"flow": 0.5, "integrated-flow": 0.25})
    monkeypatch.setattr(costs, "run_recipe", clock)
    shop = workshop(desk, tmp_path, "seconds = 900", scale=0.5)
    assert [costs.steps_of(shop, shop.study.entry("flow")) for _ in range(3)] == [900, 900, 900]
    assert costs.steps_of(shop, shop.study.entry("half")) == 900
    # Another budget needs no other trial.
    assert costs.steps_of(dataclasses.replace(shop, scale=1.0), shop.study.entry("flow")) == 1800
    assert clock.trials == ["flow", "integrated-flow"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["costs.jsonl"]
    # Another definition does.
    other = dataclasses.replace(shop, overrides=("loop.precision=bf16",))
    assert costs.steps_of(other, shop.study.entry("flow")) == 900 and clock.trials[2:] == ["flow"]


def test_budgets_in_steps_of_the_baseline_follow_from_the_ratio_of_costs(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock({"flow": 0.5, "integrated-flow": 1.5, "arc": 0.25})
    monkeypatch.setattr(costs, "run_recipe", clock)
    shop = workshop(desk, tmp_path, "baseline_steps = 120")
    study = shop.study
    # Shares of a half: 60 steps of the baseline cost as much as 20, or as 120.
    found = {name: costs.steps_of(shop, study.entry(name)) for name in ("flow", "half", "jumps", "unguided")}
    assert found == {"flow": 120, "half": 20, "jumps": 120, "unguided": 0}
    assert clock.trials == ["flow", "integrated-flow", "arc"]
    before = define(shop, study.entry("half"), 0)
    # What was measured is used elsewhere, and nothing is measured there, whatever that machine does.
    measured = tmp_path / "work" / "costs.jsonl"
    monkeypatch.setattr(costs, "this_machine", lambda *_: Machine("another", 64, "cpu"))
    away = dataclasses.replace(shop, work=tmp_path / "away", costs=measured)
    assert {name: costs.steps_of(away, study.entry(name)) for name in found} == found
    assert define(away, study.entry("half"), 0) == before and len(clock.trials) == 3
    with pytest.raises(ConfigError, match="no cost of 'flow' as it is now defined"):
        costs.steps_of(dataclasses.replace(away, overrides=("loop.precision=bf16",)), study.entry("half"))
    seconds = dataclasses.replace(workshop(desk, tmp_path / "seconds", "seconds = 900"), costs=measured)
    with pytest.raises(ConfigError, match=r"measured on .* this is another"):
        costs.steps_of(seconds, study.entry("flow"))
    # A newer measurement of the same entry wins, and buys another training.
    records = [record for record in read_records(measured) if isinstance(record, CostRecord)]
    append_records(measured, [dataclasses.replace(records[1], seconds_per_step=0.75)])
    assert costs.steps_of(away, study.entry("half")) == 40
    assert define(away, study.entry("half"), 0) != before
    append_records(measured, [dataclasses.replace(records[1], machine=Machine("third", 1, "cpu"))])
    with pytest.raises(ConfigError, match="different machines"):
        costs.steps_of(away, study.entry("half"))


def test_a_trial_that_diverges_is_kept_as_one(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingError("4 steps in a row were not finite")

    monkeypatch.setattr(costs, "run_recipe", diverge)
    shop = workshop(desk, tmp_path, "baseline_steps = 120")
    record = train.train_entry(shop, shop.study.entry("half"), 0)
    assert "the trial of flow failed: 4 steps" in record.failure and record.relative_cost is None
    assert len(read_records(tmp_path / "work" / "costs.jsonl")) == 1


def test_costs_measured_by_the_command_line_decide_the_steps(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "TRIAL_STEPS", 6)
    monkeypatch.setattr(costs, "TRIAL_WARM", 2)
    quiet = tmp_path / "quiet"
    arguments = train_arguments(desk, quiet)[1:]
    assert main(["trial", *arguments, "--only", "half"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["flow", "half"] and "1.00 of flow" in lines[0]
    assert [path.name for path in quiet.iterdir()] == ["costs.jsonl"]
    assert main(["trial", *arguments, "--only", "half"]) == 0 and "on trial" not in capsys.readouterr().err
    flow, half = (record for record in read_records(quiet / "costs.jsonl") if isinstance(record, CostRecord))
    assert min(flow.seconds_per_step, half.seconds_per_step) > 0
    # The ratio is whatever this machine made of it; three steps of the baseline are bought with half a share.
    ratio = half.seconds_per_step / flow.seconds_per_step
    given = ["--only", "half", "--budget-steps", "6", "--costs", str(quiet / "costs.jsonl")]
    assert main([*train_arguments(desk, tmp_path / "work"), *given]) == 0
    record = json.loads((tmp_path / "work" / "half" / "seed-0" / "training.json").read_text())
    assert record["steps"] == max(1, round(3 / ratio)) and record["relative_cost"] == ratio
    assert "on trial" not in capsys.readouterr().err
    missing = ["--only", "jumps", *given[2:]]
    assert main([*train_arguments(desk, tmp_path / "work"), *missing]) == 2
    assert "no cost of 'jumps'" in capsys.readouterr().err


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
    common = {"frechet", "kl", "top1", "top5", "text_score", "ccds"}
    for record in judged:
        extra = set() if record.entry == "jumps" else {"straightness"}
        assert set(record.figures) == common | extra
        assert all(figure.low <= figure.value <= figure.high for figure in record.figures.values())
        assert record.figures["top1"].n == 4 and record.real["top1"].n == 4
        assert (
            len(record.times) == REPETITIONS
            and min(record.times) > 0
            and record.basis.real_clips == "by label"
        )
        assert record.load is None or record.load >= 0
    assert len({record.basis for record in judged}) == 1
    assert len({record.checkpoint for record in judged}) == 3


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_never_was(
    desk: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a batch that is reused, whose teacher has answered before."""
    from edge_tta.train.loop import Trainer

    work, whole = desk / "stopped", Trainer.train_step

    def stopping(trainer: Trainer) -> dict[str, float]:
        trainer.stopped = trainer.step == 0
        return whole(trainer)

    arguments = [*train_arguments(desk, work), "--only", "half"]
    monkeypatch.setattr(Trainer, "train_step", stopping)
    assert main(arguments) == 130
    assert not (work / "half" / "seed-0" / "training.json").exists()
    monkeypatch.setattr(Trainer, "train_step", whole)
    assert main(arguments) == 0
    again, before = (
        load_file(folder / "half" / "seed-0" / "checkpoint" / "generator.safetensors")
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
