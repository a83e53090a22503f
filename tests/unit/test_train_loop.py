"""The loop's promises: exact resume, non-finite steps change nothing, damaged checkpoints are passed over."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edge_tta.config import to_dict
from edge_tta.errors import ConfigError, TrainingError
from edge_tta.train import checkpoint, progress
from edge_tta.train.checkpoint import complete_checkpoints, newest_run_state
from edge_tta.train.ema import MovingAverage
from edge_tta.train.guards import DivergenceGuard
from edge_tta.train.log import RunLog
from edge_tta.train.loop import STREAM, Trainer
from edge_tta.train.loop_config import LoopConfig, learning_rate
from edge_tta.train.processes import Processes
from edge_tta.train.progress import Progress


class Line:
    """Fits a line; batches and noise depend on the step alone."""

    def __init__(self, bad_steps: frozenset[int] = frozenset(), groups: int = 1) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model, self.other = nn.Linear(3, 1), nn.Linear(3, 1)
        self.bad_steps, self.count = bad_steps, groups
        self.data = "a" * 64

    def origin(self) -> dict[str, str]:
        return {"data": self.data}

    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "other": self.other}

    def averaged(self) -> Iterable[str]:
        return ("model",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        groups = {"model": list(self.model.parameters()), "other": list(self.other.parameters())}
        return dict(list(groups.items())[: self.count])

    def due(self, group: str, step: int) -> bool:
        return True

    def to(self, device: torch.device) -> None:
        self.model.to(device)
        self.other.to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        make = torch.Generator().manual_seed(step)
        x = torch.randn(16, 3, generator=make)
        y = x.sum(1, keepdim=True) + 0.5
        return x, y * float("nan") if step in self.bad_steps else y

    def losses(
        self, group: str, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        x, y = batch
        module = self.model if group == "model" else self.other
        jitter = 0.01 * torch.randn(y.shape, generator=generator)
        return {"loss": (module(x) - y - jitter).square().mean()}

    def validate(self) -> dict[str, float]:
        return {"bias": float(self.model.bias.detach())}

    def sample(self, directory: Path) -> None:
        directory.mkdir(parents=True)

    def export(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)


def config(steps: int, **changes: Any) -> LoopConfig:
    return LoopConfig(
        **{
            "steps": steps,
            "learning_rate": 1e-2,
            "warmup_steps": 5,
            "log_every": 5,
            "checkpoint_every": 5,
            **changes,
        }
    )


def snapshot(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.state()
    return {**state.weights, **{f"average.{k}": v for k, v in state.average.items()}, **state.optimiser}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("groups", [1, 2])
def test_resume_is_bit_exact(tmp_path: Path, groups: int) -> None:
    whole = Trainer(Line(groups=groups), config(20), tmp_path / "whole")
    whole.train()
    first = Trainer(Line(groups=groups), config(20), tmp_path / "parts")
    for _ in range(10):
        first.train_step()
    first.save()
    second = Trainer(Line(groups=groups), config(20), tmp_path / "parts")
    assert second.resume() and second.step == 10
    second.train()
    assert same(snapshot(whole), snapshot(second))


@pytest.mark.parametrize("stop", [3, 6, 12])
def test_a_resumed_run_leaves_the_log_of_a_whole_one(tmp_path: Path, stop: int) -> None:
    """Intervals of log and checkpoints do not meet, and a record is a mean over all steps since the one before."""
    settings = config(12, log_every=5, checkpoint_every=3, validate_every=4)
    Trainer(Line(), settings, tmp_path / "whole").train()

    first = Trainer(Line(), settings, tmp_path / "parts")
    save = first.save

    def save_and_die() -> None:
        save()
        if first.step == stop:
            raise KeyboardInterrupt

    first.save = save_and_die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = Trainer(Line(), settings, tmp_path / "parts")
    assert second.resume() and second.step == stop
    second.train()
    logs = []
    for part in ("whole", "parts"):
        lines = (tmp_path / part / "log.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        logs.append([{k: v for k, v in record.items() if k != "seconds_per_step"} for record in records])
    assert logs[0] == logs[1]
    assert [record["step"] for record in logs[0]] == [4, 5, 8, 10, 12, 12]


class TimedLine(Line):
    """A step takes 2 s by a clock of its own, validation 30 s."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        self.now += 2.0
        return super().batch(step)

    def validate(self) -> dict[str, float]:
        self.now += 30.0
        return super().validate()


def test_steps_are_timed_alone_and_what_is_left_with_all_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, told = TimedLine(), list[Progress]()
    monkeypatch.setattr(progress.time, "monotonic", lambda: stage.now)
    Trainer(stage, config(20, log_every=5, validate_every=10), tmp_path, on_progress=told.append).train()
    assert [each.step for each in told] == [5, 10, 10, 15, 20, 20]
    # Reports on validation are told apart by it.
    assert [each.seconds_per_step for each in told] == [2.0, 2.0, 0.0, 2.0, 2.0, 0.0]
    assert [each.eta_seconds for each in told] == [30.0, 20.0, 50.0, 20.0, 0.0, 0.0]


def test_log_and_progress_have_the_learning_rate_of_the_last_step(tmp_path: Path) -> None:
    settings, told = config(20, log_every=5, validate_every=0), list[Progress]()
    Trainer(Line(), settings, tmp_path, on_progress=told.append).train()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = [record["learning_rate"] for record in records if "validation" not in record]
    assert found == [learning_rate(settings, step) for step in (4, 9, 14, 19)]
    assert [each.values["learning_rate"] for each in told if each.seconds_per_step] == found


def test_training_learns(tmp_path: Path) -> None:
    stage = Line()
    Trainer(stage, config(400, learning_rate=5e-2, checkpoint_every=1000), tmp_path).train()
    assert stage.model.bias.item() == pytest.approx(0.5, abs=0.05)


def test_a_non_finite_step_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(Line(bad_steps=frozenset({3})), config(10), tmp_path)
    for _ in range(3):
        trainer.train_step()
    before = {name: value.clone() for name, value in snapshot(trainer).items()}
    trainer.train_step()
    assert trainer.step == 4
    assert same(before, snapshot(trainer))
    trainer.train_step()
    assert not same(before, snapshot(trainer))
    assert all(torch.isfinite(value).all() for value in snapshot(trainer).values())


def test_too_many_non_finite_steps_stop_the_run_and_keep_the_last_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(Line(bad_steps=frozenset(range(7, 40))), config(40), tmp_path)
    with pytest.raises(TrainingError, match="not finite"):
        trainer.train()
    state = newest_run_state(tmp_path / "checkpoints")
    healthy = Trainer(Line(), config(40), tmp_path / "healthy")
    for _ in range(7):
        healthy.train_step()
    assert state is not None and state.step == 10
    assert same(state.weights, healthy.state().weights)
    assert all(torch.isfinite(value).all() for value in state.weights.values())


def test_divergence_stops_the_run(tmp_path: Path) -> None:
    trainer = Trainer(Line(), config(500, divergence_steps=3, clip_norm=1e9), tmp_path)
    for _ in range(60):
        trainer.train_step()
    trainer._guards["model"].norms.clear()
    trainer._guards["model"].norms.extend([1e-9] * 60)
    with pytest.raises(TrainingError, match="diverges"):
        for _ in range(5):
            trainer.train_step()


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "garbage"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    Trainer(Line(), config(10), tmp_path).train()
    newest = complete_checkpoints(tmp_path / "checkpoints")[-1]
    weights = newest / "weights.safetensors"
    data = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        weights.write_bytes(b"\xff" * 8 + data[8:])
    elif damage == "missing":
        weights.unlink()
    else:
        (newest / "state.json").write_text("{")
    again = Trainer(Line(), config(10), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.resume()
    assert again.step == 5
    assert "cannot be used" in caplog.text


def test_when_no_checkpoint_can_be_read_nothing_is_started_over_silently(tmp_path: Path) -> None:
    Trainer(Line(), config(10), tmp_path).train()
    for path in complete_checkpoints(tmp_path / "checkpoints"):
        (path / "state.json").unlink()
    with pytest.raises(TrainingError, match="none of the"):
        Trainer(Line(), config(10), tmp_path).resume()


def test_a_checkpoint_of_other_settings_is_refused_by_their_names(tmp_path: Path) -> None:
    Trainer(Line(), config(5), tmp_path, {"loop": {"seed": 1}}).train()
    again = Trainer(Line(), config(5), tmp_path, {"loop": {"seed": 2}})
    before = snapshot(again)
    with pytest.raises(TrainingError, match=r"other settings: loop\.seed 2 \(was 1\);"):
        again.resume()
    assert again.step == 0 and same(before, snapshot(again))


def test_a_run_goes_on_with_what_it_has_learnt_from_alone(tmp_path: Path) -> None:
    first = Trainer(Line(), config(10), tmp_path)
    for _ in range(5):
        first.train_step()
    first.save()
    other = Line()
    other.data = "b" * 64
    with pytest.raises(TrainingError, match="has learnt from another data so far"):
        Trainer(other, config(10), tmp_path).resume()
    # Nothing is left to learn: what a run has written may be what it learnt from.
    assert Trainer(other, config(5), tmp_path).resume()


def test_a_constant_learning_rate_lets_a_run_become_longer_and_ends_as_one_that_always_was(
    tmp_path: Path,
) -> None:
    def trainer(steps: int, folder: str) -> Trainer:
        settings = config(steps, final_learning_rate=1.0, checkpoint_every=7)
        return Trainer(Line(), settings, tmp_path / folder, {"loop": to_dict(settings)})

    trainer(12, "parts").train()
    longer = trainer(20, "parts")
    assert longer.resume() and longer.step == 12
    longer.train()
    whole = trainer(20, "whole")
    whole.train()
    assert same(snapshot(whole), snapshot(longer))
    with pytest.raises(TrainingError, match="is at step 20, beyond 15 steps"):
        trainer(15, "parts").resume()


def test_a_full_disk_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer(Line(), config(10), tmp_path)
    for _ in range(5):
        trainer.train_step()
    trainer.save()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.step == 10
    assert "not written" in caplog.text
    assert [path.name for path in complete_checkpoints(tmp_path / "checkpoints")] == ["step-00000005"]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_only_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    Trainer(Line(), config(25), tmp_path).train()
    names = [path.name for path in complete_checkpoints(tmp_path / "checkpoints")]
    assert names == ["step-00000020", "step-00000025"]
    # Nothing else: what is newest follows from the names.
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_nothing_written_holds_a_pickle(tmp_path: Path) -> None:
    Trainer(Line(), config(5), tmp_path).train()
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.suffix in (".safetensors", ".json", "") and not path.read_bytes().startswith(
            (b"\x80", b"PK")
        )


def test_moving_average_follows_its_formula() -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = MovingAverage({"m": module}, 0.9)
    expected = 0.0
    for step in range(1, 300):
        with torch.no_grad():
            module.weight.fill_(float(step))
        average.update(step)
        decay = min(0.9, (step + 1) / (step + 20))
        expected = decay * expected + (1 - decay) * step
    assert float(average.values["m.weight"]) == pytest.approx(expected, rel=1e-5)
    with average.applied():
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert module.weight.item() == 299.0


def test_learning_rate_rises_and_falls() -> None:
    settings = config(100, learning_rate=1.0, warmup_steps=10, final_learning_rate=0.1)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, abs=0.01)
    assert max(rates) > 0.97 and rates[-1] == pytest.approx(0.1, abs=0.01)


def test_accumulated_batches_are_averaged(tmp_path: Path) -> None:
    """Two batches of one step weigh as one batch of both."""
    trainer = Trainer(Line(), config(1, accumulate=2, clip_norm=1e9), tmp_path)
    numbers = trainer._numbers()
    assert numbers == [0, STREAM]
    trainer.train_step()
    stage = Line()
    total = torch.zeros(())
    for number in numbers:
        seed = number * 8 % 2**63
        total = (
            total
            + 0.5 * stage.losses("model", stage.batch(number), torch.Generator().manual_seed(seed))["loss"]
        )
    total.backward()
    for mine, wanted in zip(trainer.stage.model.parameters(), stage.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad)


def test_bf16_computes_under_autocast_and_keeps_float32_weights(tmp_path: Path) -> None:
    stage = Line()
    Trainer(stage, config(400, learning_rate=5e-2, checkpoint_every=1000, precision="bf16"), tmp_path).train()
    assert stage.model.weight.dtype == torch.float32
    assert stage.model.bias.item() == pytest.approx(0.5, abs=0.05)


def test_the_batch_that_ended_a_run_is_kept_for_study(tmp_path: Path) -> None:
    trainer = Trainer(Line(bad_steps=frozenset(range(40))), config(40, max_bad_steps=0), tmp_path)
    with pytest.raises(TrainingError, match="their batch is in"):
        trainer.train()
    (kept,) = tmp_path.glob("bad-step-*")
    tensors = load_file(kept / "batch.safetensors")
    assert torch.equal(tensors["batch0.0"], Line().batch(0)[0])
    assert tensors["batch0.1"].isnan().all()
    assert json.loads((kept / "record.json").read_text())["batches"] == [0]


def test_a_resumed_log_has_every_step_once(tmp_path: Path) -> None:
    Trainer(Line(), config(20), tmp_path).train()
    path = tmp_path / "log.jsonl"
    whole = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    path.write_text(path.read_text() + '{"step": 99, "lo')
    log = RunLog(path, 10)
    log.write({"step": 15})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [
        *(step for step in whole if step <= 10),
        15,
    ]


def test_a_checkpoint_of_another_model_is_refused_before_anything_changes(tmp_path: Path) -> None:
    Trainer(Line(), config(10), tmp_path).train()

    class Wider(Line):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(4, 1)

    other = Trainer(Wider(), config(10), tmp_path)
    before = {name: value.clone() for name, value in snapshot(other).items()}
    with pytest.raises(TrainingError, match=r"'model.weight' as \(1, 3\)"):
        other.resume()
    assert same(before, snapshot(other))


def test_a_loss_that_stays_high_is_divergence_and_a_passing_peak_is_not() -> None:
    guard = DivergenceGuard("model", 10.0, 20, loss_factor=3.0, loss_steps=5)
    for _ in range(60):
        guard.watch(1.0, {"loss": 1.0})
    for _ in range(4):
        guard.watch(1.0, {"loss": 5.0})
    guard.watch(1.0, {"loss": 1.0})
    again = DivergenceGuard("model", 10.0, 20, loss_factor=3.0, loss_steps=5)
    again.load(json.loads(json.dumps(guard.state())))
    with pytest.raises(TrainingError, match="loss of 'model' stayed above 3 times"):
        for _ in range(5):
            again.watch(1.0, {"loss": 5.0})


class Weighted(Line):
    """A stage whose loss is weighed as MeanFlow weighs it, and whose targets run away from step 60 on."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        x, y = super().batch(step)
        return x, y * (1.0 if step < 60 else 100.0 * (-1) ** step)

    def losses(
        self, group: str, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        error = super().losses(group, batch, generator)["loss"]
        return {"loss": error / (error.detach() + 1e-3), "error": error.detach()}


def test_an_error_that_explodes_behind_a_weighted_loss_is_divergence(tmp_path: Path) -> None:
    trainer = Trainer(Weighted(), config(300, divergence_loss_steps=10), tmp_path)
    with pytest.raises(TrainingError, match="the error of 'model' stayed above 3 times"):
        trainer.train()
    assert trainer.step == 70
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(record["loss"] < 1 for record in records) and records[-1]["error"] > 1000


def test_a_guard_of_an_earlier_release_begins_anew_with_the_error() -> None:
    old = DivergenceGuard("model", 10.0, 20, loss_factor=3.0, loss_steps=5)
    for _ in range(60):
        old.watch(1.0, {"loss": 0.9})
    state = {name: value for name, value in old.state().items() if name != "figure"}
    again = DivergenceGuard("model", 10.0, 20, loss_factor=3.0, loss_steps=5)
    again.load(state)
    for _ in range(60):
        again.watch(1.0, {"loss": 0.9, "error": 40.0})
    assert again.lowest == 40.0 and again.state()["figure"] == "error"


@pytest.mark.parametrize(
    "changes", [{"steps": 0}, {"accumulate": 0}, {"learning_rate": 0.0}, {"average_decay": 1.0}, {"seed": -1}]
)
def test_senseless_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} .* is out of range: allowed are "):
        config(**{"steps": 10, **changes})


def test_an_absent_device_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="use auto, cpu or cuda"):
        Processes("nonsense")
