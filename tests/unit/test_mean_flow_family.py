"""Improved MeanFlow and alpha-Flow against a Gaussian flow whose average velocities are known."""

from __future__ import annotations

import pytest
import torch
from flow_cases import GaussianFlow, condition_of, generator_of, latents_of, network

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.alpha_flow import AlphaFlow
from edge_tta.flow.objectives.improved_mean_flow import ImprovedMeanFlow
from edge_tta.flow.objectives.mean_flow import MeanFlow, guided_teacher_velocity
from edge_tta.flow.path import per_row, predict
from edge_tta.flow.times import Uniform
from edge_tta.model.presets import preset
from edge_tta.train.loop import STREAM
from edge_tta.train.stages.generator import GeneratorStage, GeneratorStageConfig


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return 1.0 + 0.3 * torch.randn(count, 4, 3, generator=generator_of(seed))


def test_the_exact_flow_has_no_improved_mean_flow_error() -> None:
    flow = GaussianFlow(mean=1.0, std=0.3)
    objective = ImprovedMeanFlow(times=Uniform(), equal_share=0.25, power=0.0)
    exact = objective.losses(flow, latents(64), condition_of(64), generator_of(1), teacher=flow)
    wrong = objective.losses(
        GaussianFlow(1.0, 0.5), latents(64), condition_of(64), generator_of(1), teacher=flow
    )
    assert float(exact["error"]) < 1e-3 < 0.1 * float(wrong["error"])


def test_without_teacher_the_error_is_what_the_path_leaves_unknown() -> None:
    """E|eps - x - v(z_t, t)|^2 of a Gaussian is std^2 / ((1 - t)^2 std^2 + t^2), at r = t as well as below."""
    flow, std = GaussianFlow(mean=1.0, std=0.3), 0.3
    time = torch.linspace(0.0005, 0.9995, 1000)
    # t is the larger of two uniform draws: its density is 2 t.
    wanted = (2 * time * std**2 / ((1 - time) ** 2 * std**2 + time**2)).mean()
    objective = ImprovedMeanFlow(
        times=Uniform(), equal_share=1.0, power=0.0, null_share=0.0, unguided_share=1.0
    )
    found = objective.losses(flow, latents(4096), condition_of(4096), generator_of(2))["error"]
    assert float(found) == pytest.approx(float(wanted), rel=0.1)


def test_alpha_falls_from_one_to_zero() -> None:
    objective = AlphaFlow(anneal_start=100, anneal_end=300)
    values = [objective.alpha(step) for step in range(500)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0 and objective.alpha(200) == pytest.approx(0.5) and values[-1] == 0.0
    assert min(value for value in values if value > 0) >= 5e-3
    with pytest.raises(ConfigError, match="anneal_end"):
        AlphaFlow(anneal_start=5, anneal_end=5)


@pytest.mark.parametrize("reuse", [1, 3, 8])
def test_alpha_follows_steps_in_every_process(reuse: int) -> None:
    objective, model = AlphaFlow(anneal_start=0, anneal_end=240), network()
    method = objective.method(model, None, reuse)
    for step in (0, 120, 239):
        wanted = objective.alpha(step // reuse * reuse)
        for process in range(3):
            number = process * 2**32 + step // reuse
            found = method.losses("generator", latents_of(4), condition_of(4), number, generator_of(0))
            assert float(found["alpha"]) == pytest.approx(wanted)


class Numbers:
    """Training data that tell only which batch they were asked for."""

    def batch(self, _seed: int, number: int, _frames: int, _longest: int) -> int:
        return number


@pytest.mark.parametrize("reuse", [1, 3, 8])
def test_batches_of_every_process_are_reused_alike(reuse: int) -> None:
    config = GeneratorStageConfig(alpha_flow=AlphaFlow(), reuse=reuse)
    stage = GeneratorStage(config, preset("edge-tiny"), Numbers(), None, None)  # type: ignore[arg-type]
    for process in range(4):
        numbers = [stage.batch(process * STREAM + step) for step in range(17)]
        assert numbers == [process * STREAM + step // reuse for step in range(17)]


def test_where_alpha_ends_intervals_are_taught_as_by_mean_flow() -> None:
    settings = {"equal_share": 0.25, "max_guidance": 5.0, "unguided_share": 0.2, "null_share": 0.1}
    alpha_flow, mean_flow = AlphaFlow(**settings), MeanFlow(kappa=0.0, **settings)
    model, last = network(), alpha_flow.alpha(alpha_flow.anneal_end)
    weights = list(model.parameters())

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return torch.cat([part.flatten() for part in found if part is not None])

    rows = latents_of(16), condition_of(16)
    ours = alpha_flow.losses(model, *rows, last, generator_of(1))["loss"]
    theirs = mean_flow.losses(model, *rows, generator_of(1))["loss"]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(gradient(ours), gradient(theirs), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.8, 0.3, 0.05])
def test_alpha_flow_is_consistency_over_a_step(alpha: float) -> None:
    """A trajectory's place at r from z_t is the place at r from z_s, one Euler step of the teacher further."""
    student, teacher = network(1), network(2)
    objective = AlphaFlow(equal_share=0.0)
    rows, condition = latents_of(8), condition_of(8)
    time, duration = torch.linspace(0.3, 1.0, 8), torch.linspace(0.3, 0.2, 8)
    guidance, drop = torch.linspace(1.0, 5.0, 8), torch.zeros(8, dtype=torch.bool)
    velocity = guided_teacher_velocity(teacher, rows, time, guidance, condition)
    target = objective._interval_target(
        student, alpha, rows, velocity, time, duration, guidance, condition, drop
    )
    walked = alpha * duration
    further = rows - per_row(walked, rows) * velocity
    with torch.no_grad():
        rest = predict(student, further, time - walked, duration - walked, guidance, condition, drop)
    torch.testing.assert_close(
        rows - per_row(duration, rows) * target, further - per_row(duration - walked, rows) * rest
    )


class Counting(torch.nn.Module):
    """A network that counts the rows it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.rows = network(), 0

    def forward(self, latent: torch.Tensor, *others: torch.Tensor, **named: object) -> torch.Tensor:
        self.rows += len(latent)
        answer: torch.Tensor = self.inner(latent, *others, **named)
        return answer


def test_without_teacher_no_pass_is_thrown_away() -> None:
    """The null velocity, what is left of each interval, and the prediction."""
    model = Counting()
    AlphaFlow(equal_share=0.25).losses(model, latents_of(8), condition_of(8), 0.3, generator_of(0))
    assert model.rows == 8 + 6 + 8


def test_the_exact_flow_is_the_fixed_point_as_alpha_vanishes() -> None:
    flow, objective = GaussianFlow(mean=1.0, std=0.3), AlphaFlow(times=Uniform(), null_share=0.0)
    errors = [
        float(
            objective.losses(flow, latents(256), condition_of(256), alpha, generator_of(3), teacher=flow)[
                "error"
            ]
        )
        for alpha in (1.0, 0.5, 0.1, 0.01, 0.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-2] < 1e-3 * errors[0]
