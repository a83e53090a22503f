"""Improved MeanFlow and alpha-Flow against a Gaussian flow whose average velocities are known."""

from __future__ import annotations

import pytest
import torch
from flow_cases import GaussianFlow, condition_of, generator_of

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.alpha_flow import AlphaFlow
from edge_tta.flow.objectives.improved_mean_flow import ImprovedMeanFlow
from edge_tta.flow.times import Uniform


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


def test_alpha_falls_from_one_and_stays_above_its_floor() -> None:
    objective = AlphaFlow(anneal_start=100, anneal_end=300)
    values = [objective.alpha(number) for number in range(0, 500, 20)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0 and objective.alpha(200) == pytest.approx(0.5) and values[-1] == 5e-3
    assert objective.alpha(200 + 3 * 2**32) == objective.alpha(200)
    with pytest.raises(ConfigError, match="anneal_end"):
        AlphaFlow(anneal_start=5, anneal_end=5)


def test_the_exact_flow_is_the_fixed_point_as_alpha_vanishes() -> None:
    flow, objective = GaussianFlow(mean=1.0, std=0.3), AlphaFlow(times=Uniform(), null_share=0.0)
    errors = [
        float(
            objective.losses(flow, latents(256), condition_of(256), alpha, generator_of(3), teacher=flow)[
                "error"
            ]
        )
        for alpha in (1.0, 0.5, 0.1, 0.01)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]
