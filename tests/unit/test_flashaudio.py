"""The FlashAudio family against closed forms: Mix-Exp times, couples, anchoring, reflow, straightness, one step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from flow_cases import TINY, GaussianFlow, condition_of, generator_of, network
from safetensors.torch import load, save
from torch import Tensor, nn

from edge_tta.config import from_dict
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.flow.couple_store import CoupleSet, build_couple_shard, digest_of
from edge_tta.flow.couples import Anchoring, Couples, Simulation, null_condition, velocity_of
from edge_tta.flow.kept_answers import KeptAnswers
from edge_tta.flow.objectives.flow_matching import FlowMatching
from edge_tta.flow.objectives.integrated_flow import IntegratedFlow
from edge_tta.flow.objectives.method import GENERATOR
from edge_tta.flow.objectives.one_step import OneStepDistillation
from edge_tta.flow.objectives.reflow import Reflow
from edge_tta.flow.sampler import sample
from edge_tta.flow.straightness import couple_straightness, flow_straightness
from edge_tta.flow.times import MixExp, Uniform
from edge_tta.model.generator import Generator
from edge_tta.train.stages.generator import GeneratorStage, GeneratorStageConfig


def latents_of(count: int, length: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, length, TINY.latent_channels, generator=generator_of(seed))


@pytest.fixture
def tiny() -> Generator:
    return network()


def train(
    model: nn.Module, losses_of: Callable[[int], dict[str, Tensor]], steps: int, learning_rate: float = 3e-3
) -> None:
    optimiser = torch.optim.Adam(model.parameters(), learning_rate)
    for step in range(steps):
        optimiser.zero_grad()
        losses_of(step)["loss"].backward()
        optimiser.step()


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_mix_exp_draws_follow_its_density(rate: float) -> None:
    times, count, bins = MixExp(rate), 200_000, 20
    edges = torch.linspace(0, 1, bins * 50 + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    expected = times.density(middles).reshape(bins, 50).mean(dim=1) / bins
    assert float(expected.sum()) == pytest.approx(1.0, abs=1e-4)
    drawn = times.sample(count, generator_of(0))
    found = torch.histc(drawn, bins, 0, 1) / count
    assert float((found - expected).abs().max()) < 4 * math.sqrt(float(expected.max()) / count)
    variance = float((times.density(middles) * (middles - 0.5) ** 2).mean())
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.003)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.01)


def test_mix_exp_is_symmetric_and_u_shaped_and_stays_inside() -> None:
    time = torch.linspace(0, 1, 11)
    density = MixExp().density(time)
    torch.testing.assert_close(density, density.flip(0))
    assert float(density[0] / density[5]) == pytest.approx((math.exp(4) + 1) / (2 * math.exp(2)), rel=1e-4)
    drawn = MixExp(40.0).sample(50_000, generator_of(0))
    assert float(drawn.min()) > 0.99e-5 and float(drawn.max()) < 1 - 0.99e-5
    with pytest.raises(ConfigError, match="rate"):
        MixExp(0.0)


def test_couples_of_a_gaussian_flow_end_where_the_exact_flow_ends() -> None:
    """Also under guidance: with v(c) = v(null) the scale changes nothing."""
    noise, guidance = latents_of(8), torch.linspace(1, 5, 8)
    couples = Simulation(steps=400).run(GaussianFlow(), noise, condition_of(8), guidance, measure_drift=True)
    torch.testing.assert_close(couples.data, 1.0 + 0.4 * noise, atol=0.01, rtol=0.0)
    assert couples.noise is noise and float(couples.drift.max()) < 1e-5


def test_a_teacher_with_guidance_input_is_asked_as_the_sampler_asks(tiny: Generator) -> None:
    noise, condition = latents_of(6), condition_of(6)
    simulation = Simulation(steps=3, classifier_free=False)
    couples = simulation.run(GaussianFlow(), noise, condition, torch.ones(6))
    torch.testing.assert_close(couples.data, 1.0 + 0.4 * noise, atol=1e-5, rtol=1e-5)
    couples = simulation.run(tiny, noise, condition, torch.full((6,), 4.0))
    torch.testing.assert_close(couples.data, sample(tiny, noise, condition, 3, 4.0), atol=1e-5, rtol=1e-4)
    assert bool(couples.drift.isnan().all())


def test_guided_couples_are_those_of_the_two_pass_sampler(tiny: Generator) -> None:
    noise, condition = latents_of(4), condition_of(4)
    couples = Simulation(steps=5).run(tiny, noise, condition, torch.full((4,), 3.0))
    expected = sample(tiny, noise, condition, 5, 3.0, classifier_free=True)
    torch.testing.assert_close(couples.data, expected, atol=1e-5, rtol=1e-4)


def test_couples_depend_on_seed_and_number_of_the_batch_alone(tiny: Generator) -> None:
    like, condition, simulation = latents_of(4), condition_of(4), Simulation(steps=2, max_guidance=6.0)

    def source(seed: int) -> KeptAnswers[Couples]:
        return KeptAnswers(partial(simulation.draw, tiny), seed)

    first = source(0)
    kept = first(like, condition, 7)
    assert first(like, condition, 7) is kept
    again = source(0)(latents_of(4, seed=5), condition, 7)
    for name in ("noise", "data", "guidance"):
        assert torch.equal(getattr(again, name), getattr(kept, name))
    assert bool((kept.guidance >= 3).all()) and bool((kept.guidance <= 6).all())
    for other in (first(like, condition, 8), source(1)(like, condition, 7), source(8)(like, condition, 0)):
        assert not torch.equal(other.noise, kept.noise) and not torch.equal(other.guidance, kept.guidance)


@pytest.mark.parametrize(
    "objective",
    [
        {"integrated_flow": IntegratedFlow(teacher_steps=1)},
        {"reflow": Reflow(simulation=Simulation(steps=1, max_guidance=6.0))},
        {"one_step": OneStepDistillation(Simulation(steps=1, classifier_free=False))},
    ],
)
def test_training_seeds_have_noise_of_their_own(tiny: Generator, objective: dict[str, Any]) -> None:
    """The seed of a recipe's stage decides what a teacher is asked, besides the number of the batch."""

    class Listener(nn.Module):
        def forward(self, z: Tensor, *_: Tensor, **__: object) -> Tensor:
            asked.append(z[:4].clone())
            return torch.zeros_like(z)

    asked: list[Tensor] = []
    for seed in (0, 0, 1):
        stage: Any = SimpleNamespace(config=GeneratorStageConfig(seed=seed, **objective))
        method = GeneratorStage._method(stage, tiny, Listener())
        method.losses("generator", latents_of(4), condition_of(4), 7, generator_of(0))
    assert torch.equal(asked[0], asked[1]) and not torch.equal(asked[0], asked[2])


def test_nonsensical_simulations_are_refused() -> None:
    for settings in (
        {"steps": 0},
        {"min_guidance": 4.0, "max_guidance": 3.0},
        {"classifier_free": False, "anchoring": {}},
        {"anchoring": {"iterations": -1}},
    ):
        with pytest.raises(ConfigError):
            from_dict(Simulation, settings)
    with pytest.raises(ConfigError, match="null condition"):
        Simulation(anchoring=Anchoring()).run(
            GaussianFlow(), latents_of(2), condition_of(2), torch.full((2,), 3.0)
        )


FIRM = Anchoring(learning_rate=0.05, iterations=10, tolerance=0.0, tolerance_growth=0.0)


def test_the_null_condition_is_what_drop_shows_the_network(tiny: Generator) -> None:
    z, text, zero = latents_of(5), condition_of(5), torch.zeros(5)
    null = velocity_of(tiny, z, zero + 0.6, zero, zero + 1, null_condition(tiny, text.seconds), False)
    dropped = tiny(
        z, zero + 0.6, zero, text.tokens, text.pooled, text.seconds, zero + 1,
        text_mask=text.text_mask, drop=torch.ones(5, dtype=torch.bool),
    )  # fmt: skip
    torch.testing.assert_close(null, dropped, atol=1e-6, rtol=1e-5)


def test_anchoring_lowers_the_distance_to_the_pivot_and_leaves_the_network_alone(tiny: Generator) -> None:
    before = copy.deepcopy(tiny.state_dict())
    noise, condition, guidance = latents_of(4), condition_of(4), torch.tensor([1.0, 3.0, 5.0, 5.0])
    free = Simulation(steps=6).run(tiny, noise, condition, guidance, measure_drift=True)
    still = Simulation(steps=6, anchoring=Anchoring(iterations=0)).run(tiny, noise, condition, guidance)
    held = Simulation(steps=6, anchoring=FIRM).run(tiny, noise, condition, guidance)
    torch.testing.assert_close(still.data, free.data, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(still.drift, free.drift, atol=1e-5, rtol=1e-3)
    assert float(free.drift[0]) < 1e-5 and float(free.drift[1:].min()) > 0.02
    assert bool((held.drift[1:] < 0.5 * free.drift[1:]).all())
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    assert all(weight.grad is None for weight in tiny.parameters())


def test_incomplete_anchoring_keeps_part_of_the_guidance(tiny: Generator) -> None:
    """Learning rate, iterations and tolerance each set how much of the drift is left."""
    noise, condition, guidance = latents_of(4), condition_of(4), torch.full((4,), 5.0)
    settings = {
        "free": Anchoring(iterations=0),
        "short": Anchoring(0.05, iterations=2, tolerance=0.0, tolerance_growth=0.0),
        "slow": Anchoring(0.01, iterations=10, tolerance=0.0, tolerance_growth=0.0),
        "lenient": Anchoring(0.05, iterations=10, tolerance=0.01),
        "firm": FIRM,
    }
    drift = {
        name: float(Simulation(steps=6, anchoring=item).run(tiny, noise, condition, guidance).drift.mean())
        for name, item in settings.items()
    }
    for name in ("short", "slow", "lenient"):
        assert drift["firm"] < drift[name] < drift["free"], name


def test_rows_are_anchored_one_by_one(tiny: Generator) -> None:
    """A row stops where it would stop alone, whatever else is in the batch."""
    noise, condition, guidance = latents_of(3), condition_of(3), torch.tensor([1.5, 5.0, 3.0])
    simulation = Simulation(steps=4, anchoring=Anchoring(0.03, tolerance=1e-3))
    together = simulation.run(tiny, noise, condition, guidance)
    for row in range(3):
        part = slice(row, row + 1)
        alone = simulation.run(tiny, noise[part], condition.rows(part), guidance[part])
        torch.testing.assert_close(alone.data, together.data[part], atol=1e-5, rtol=1e-4)


def write_shard(path: Path, teacher: nn.Module, seed: int = 3) -> Simulation:
    simulation = Simulation(steps=2, min_guidance=2.0, max_guidance=6.0)
    batches = [
        ([f"{length} frames, {row}" for row in range(count)], latents_of(count, length), condition_of(count))
        for length, count in ((4, 3), (7, 5))
    ]
    build_couple_shard(path, teacher, simulation, batches, seed)
    return simulation


def test_couples_survive_storing_and_are_never_paired_anew(tmp_path: Path, tiny: Generator) -> None:
    path = tmp_path / "couples" / "shard.safetensors"
    simulation = write_shard(path, tiny)
    stored = CoupleSet([path, path])
    assert len(stored) == 16 and [item.name for item in path.parent.iterdir()] == [path.name]
    for step in range(4):
        batch = stored.batch(0, step, frames=16)
        couples, length = batch.couples, batch.couples.noise.shape[1]
        assert len(batch.captions) == {4: 4, 7: 2}[length]
        rows = [int(caption.split()[-1]) for caption in batch.captions]
        assert all(caption.startswith(f"{length} frames") for caption in batch.captions)
        condition = condition_of({4: 3, 7: 5}[length]).rows(torch.tensor(rows))
        again = simulation.run(tiny, couples.noise, condition, couples.guidance, measure_drift=True)
        torch.testing.assert_close(couples.data, again.data, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(couples.drift, again.drift)
        assert torch.equal(batch.seconds, torch.full((len(rows),), 2.0))
        same = stored.batch(0, step, frames=16)
        assert same.captions == batch.captions and torch.equal(same.couples.noise, couples.noise)
    write_shard(tmp_path / "again.safetensors", tiny)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_damaged_shards_are_refused(tmp_path: Path, tiny: Generator) -> None:
    whole = tmp_path / "whole"
    write_shard(whole, tiny)
    data = whole.read_bytes()
    flipped = bytearray(data)
    flipped[-1] ^= 1
    tensors = load(data)
    del tensors["document"], tensors["sha256"]
    tensors["sha256"] = torch.frombuffer(bytearray.fromhex(digest_of(tensors)), dtype=torch.uint8)
    cases = {
        "half": data[: len(data) // 2],
        "short": data[:-1],
        "empty": b"",
        "flipped": bytes(flipped),
        "other": save({"weight": torch.zeros(3)}),
        "no document": save(tensors),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            CoupleSet([tmp_path / name])
    with pytest.raises(DataError):
        CoupleSet([tmp_path / "missing"])
    with pytest.raises(DataError, match="no shards"):
        CoupleSet([])


def test_a_shard_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, tiny: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        write_shard(tmp_path / "shard", tiny)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no batches"):
        build_couple_shard(tmp_path / "shard", tiny, Simulation(), [], 0)


class Planar(nn.Module):
    """A small velocity model of the plane; float32 [B, 1, 2]."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
            )

    def forward(self, latent: Tensor, time: Tensor, *_: Tensor, **__: object) -> Tensor:
        found: Tensor = self.layers(torch.cat([latent[:, 0], time[:, None]], dim=1))
        return found[:, None]


def mixture(count: int, generator: torch.Generator) -> Tensor:
    """Four narrow clusters at the corners of a square; float32 [count, 1, 2]."""
    corners = torch.randint(0, 2, (count, 1, 2), generator=generator) * 4.0 - 2.0
    return corners + 0.2 * torch.randn(count, 1, 2, generator=generator)


def test_reflow_straightens_a_mixture_and_keeps_it() -> None:
    rows, text = 256, condition_of(256, 1)
    teacher = Planar()
    matching = FlowMatching(times=Uniform(), null_share=0.0)

    def match(step: int) -> dict[str, Tensor]:
        return matching.losses(teacher, mixture(rows, generator_of(step)), text, generator_of(step))

    train(teacher, match, 500)
    student = copy.deepcopy(teacher)
    teacher.requires_grad_(False)
    plain = Simulation(steps=16, min_guidance=1.0, max_guidance=1.0)
    method = Reflow(simulation=plain).method(student, teacher)
    assert method.classifier_free is False and method.modules() == {}
    like = torch.zeros(rows, 1, 2)
    train(student, lambda step: method.losses(GENERATOR, like, text, step // 8, generator_of(step)), 500)
    noise, one = torch.randn(rows, 1, 2, generator=generator_of(99)), torch.ones(rows)
    couples = plain.run(teacher, noise, text, one)
    couple_before, couple_after = (
        float(couple_straightness(model, couples, text, False).mean()) for model in (teacher, student)
    )
    flow_before, flow_after = (
        float(flow_straightness(model, noise, text, one, False).mean()) for model in (teacher, student)
    )
    early, late = (sample(model, noise, text, 1, 1.0) for model in (teacher, student))
    assert couple_after < 0.5 * couple_before
    assert flow_after < 0.5 * flow_before

    def distance(points: Tensor) -> float:
        return float((points - (points.sign() * 2)).norm(dim=-1).mean())

    assert distance(late) < 0.5 * distance(early)
    corners = (late[:, 0] > 0).int() @ torch.tensor([1, 2], dtype=torch.int32)
    assert min(torch.bincount(corners, minlength=4).tolist()) > 0.15 * rows


def test_straightness_of_known_flows() -> None:
    """Zero for a shift; for a Gaussian flow the integral is known by quadrature."""
    noise, text, one = latents_of(64, 8), condition_of(64), torch.ones(64)
    shift = GaussianFlow(mean=3.0, std=1e-6)
    assert float(couple_straightness(shift, Couples(noise, 0 * noise + 3, one, one), text, True).max()) < 1e-6
    assert float(flow_straightness(shift, noise, text, one, True).max()) < 1e-6
    flow = GaussianFlow(mean=1.0, std=0.4)
    times = torch.linspace(1, 0, 4001)
    slope = (times - (1 - times) * 0.16) / flow.spread(times)
    along = float(slope.var()) * noise.square().flatten(1).mean(dim=1)
    found = flow_straightness(flow, noise, text, one, False, steps=500)
    torch.testing.assert_close(found, along, rtol=0.02, atol=0.0)
    # On the couple's line z_t is not the flow's: its y is off by the deviation over the line's.
    line = 1 - 0.6 * (1 - times)
    across = float((0.6 - slope * line / flow.spread(times)).square().mean())
    couples = Couples(noise, 1.0 + 0.4 * noise, one, one)
    found = couple_straightness(flow, couples, text, False, points=200)
    torch.testing.assert_close(found, across * noise.square().flatten(1).mean(dim=1), rtol=0.01, atol=0.0)


class Spy(nn.Module):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, latent: Tensor, *scalars: Tensor, **_: object) -> Tensor:
        self.seen.append((latent, *scalars))
        return torch.zeros_like(latent)


def test_reflow_shows_the_network_what_samplers_ask() -> None:
    count, spy = 4000, Spy()
    noise, data = (torch.randn(count, 1, 1, generator=generator_of(seed)) for seed in range(2))
    guidance = torch.linspace(2, 6, count)
    couples = Couples(noise, data, guidance, torch.full((count,), 0.3))
    losses = Reflow().losses(spy, couples, condition_of(count), generator_of(0))
    z, time, duration, *_, told = spy.seen[0]
    t = time[:, None, None]
    torch.testing.assert_close(z, (1 - t) * data + t * noise)
    torch.testing.assert_close(losses["loss"], (noise - data).square().mean())
    assert torch.equal(told, guidance) and "drift" not in losses
    assert bool((duration >= 0).all()) and bool((duration <= time).all())
    for share in (duration == 0, duration == time):
        assert float(share.float().mean()) == pytest.approx(0.25, abs=0.03)
    anchored = Reflow(simulation=Simulation(anchoring=Anchoring()))
    losses = anchored.losses(spy, couples, condition_of(count), generator_of(0))
    assert float(losses["drift"]) == pytest.approx(0.3)


class Leaning(nn.Module):
    """A constant velocity plus a share of the duration, which a straight flow has no use for."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.lean = nn.Parameter(torch.zeros(())), nn.Parameter(torch.ones(()))

    def forward(self, latent: Tensor, time: Tensor, duration: Tensor, *_: Tensor, **__: object) -> Tensor:
        return (self.base + self.lean * duration)[:, None, None].expand_as(latent)


def test_a_reflowed_model_is_right_at_every_duration() -> None:
    """Couples of N(0, 1) and N(1, 1) differ by 1; a duration branch left by the start would spoil few steps."""
    model, text, like = Leaning(), condition_of(64), torch.zeros(64, 8, 4)
    method = Reflow().method(model, GaussianFlow(1.0, 1.0))
    train(model, lambda step: method.losses(GENERATOR, like, text, 0, generator_of(step)), 150, 0.05)
    noise = latents_of(64)
    for steps in (1, 2, 8):
        made = sample(model, noise, text, steps, 3.0)
        torch.testing.assert_close(made, noise + 1, atol=0.1, rtol=0.0)


def test_flow_matching_writes_into_the_duration_branch_so_reflow_must_train_it(tiny: Generator) -> None:
    """The reason for drawn durations: a constant input is no silent input."""
    FlowMatching().losses(tiny, latents_of(8), condition_of(8), generator_of(0))["loss"].backward()
    gradient = tiny.duration_in.out.weight.grad
    assert gradient is not None and bool(gradient.any())


def test_one_step_distillation_asks_for_the_whole_interval() -> None:
    spy, noise, data = Spy(), latents_of(5), latents_of(5, seed=1)
    couples = Couples(noise, data, torch.full((5,), 3.0), torch.zeros(5))
    losses = OneStepDistillation().losses(spy, couples, condition_of(5))
    latent, time, duration, *_, told = spy.seen[0]
    assert latent is noise and bool((time == 1).all()) and bool((duration == 1).all())
    assert bool((told == 3).all())
    torch.testing.assert_close(losses["loss"], (noise - data).square().mean())


@pytest.mark.parametrize("objective", ["reflow", "one_step"])
def test_students_learn_the_one_step_map_of_a_gaussian_flow(objective: str, tiny: Generator) -> None:
    """What the sampler makes in one step, and with the scale it is given, is the teacher's end of 24 steps."""
    simulation, text = Simulation(max_guidance=5.0, classifier_free=objective == "reflow"), condition_of(32)
    settings = {"reflow": Reflow(simulation=simulation), "one_step": OneStepDistillation(simulation)}
    method = settings[objective].method(tiny, GaussianFlow(1.0, 0.3))
    noise, like = latents_of(32, seed=77), torch.zeros(32, 4, TINY.latent_channels)

    def error() -> float:
        return float((sample(tiny, noise, text, 1, 4.0) - (1.0 + 0.3 * noise)).square().mean())

    before = error()
    train(tiny, lambda step: method.losses(GENERATOR, like, text, step, generator_of(step)), 150, 5e-3)
    assert error() < 0.1 * before


def test_settings_read_from_tables() -> None:
    table = {
        "times": {"rate": 3},
        "simulation": {"steps": 8, "min_guidance": 2, "anchoring": {"iterations": 4}},
        "whole_share": 0.5,
    }
    settings = from_dict(Reflow, table)
    assert settings.times == MixExp(3.0) and settings.simulation.anchoring == Anchoring(iterations=4)
    assert Reflow().times == MixExp(4.0) and Reflow().simulation.anchoring is None
    assert from_dict(OneStepDistillation, {}).simulation == Simulation(classifier_free=False)
    with pytest.raises(ConfigError, match="share"):
        from_dict(Reflow, {"whole_share": 0.8, "instantaneous_share": 0.3})
    for objective, name in ((Reflow(), "reflow"), (OneStepDistillation(), "one_step")):
        with pytest.raises(ConfigError, match=f"{name} needs generator.teacher"):
            objective.method(Spy(), None)
