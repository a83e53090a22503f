"""Paths, times, objectives and sampler against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from flow_cases import TINY, GaussianFlow, condition_of, generator_of, network
from torch import Tensor, nn

from edge_tta.flow.objectives.flow_matching import FlowMatching
from edge_tta.flow.objectives.integrated_flow import IntegratedFlow
from edge_tta.flow.objectives.mean_flow import MeanFlow, guided_teacher_velocity, mean_target
from edge_tta.flow.path import Condition, immiscible_noise, interpolate
from edge_tta.flow.sampler import sample
from edge_tta.flow.times import LogitNormal, Uniform, sample_pairs
from edge_tta.model.generator import Generator


@pytest.fixture
def tiny() -> Generator:
    return network()


def test_path_ends_at_data_and_noise() -> None:
    data, noise = torch.ones(2, 3, 4), torch.full((2, 3, 4), -1.0)
    torch.testing.assert_close(
        interpolate(data, noise, torch.tensor([0.0, 1.0])), torch.stack([data[0], noise[1]])
    )


def test_logit_normal_has_its_median_and_uniform_its_mean() -> None:
    times = LogitNormal(-0.4, 1.0).sample(20000, generator_of(0))
    assert float(times.median()) == pytest.approx(1 / (1 + math.exp(0.4)), abs=0.01)
    assert float(Uniform().sample(20000, generator_of(0)).mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_exact_share_of_rows_has_equal_times(share: float) -> None:
    t, r = sample_pairs(LogitNormal(), 40, share, 0.0, generator_of(3))
    assert int((t == r).sum()) == int(share * 40)
    assert bool((r <= t).all())


def test_one_step_rows_are_the_pair_one_and_zero() -> None:
    t, r = sample_pairs(LogitNormal(), 100, 0.5, 1.0, generator_of(3))
    assert bool((t[50:] == 1).all()) and bool((r[50:] == 0).all())
    assert bool((t[:50] == r[:50]).all()) and bool((t[:50] < 1).all())


def test_assignment_lowers_the_cost_and_keeps_the_rows() -> None:
    data = torch.randn(32, 5, generator=generator_of(0))
    noise = torch.randn(32, 5, generator=generator_of(1))
    assigned = immiscible_noise(data, noise)
    assert (data - assigned).square().sum() < (data - noise).square().sum()
    assert sorted(map(tuple, assigned.tolist())) == sorted(map(tuple, noise.tolist()))


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_sampler_maps_gaussian_to_gaussian_exactly_in_any_number_of_steps(steps: int) -> None:
    flow = GaussianFlow(mean=2.0, std=0.5)
    noise = torch.randn(500, 20, 10, generator=generator_of(0))
    data = sample(flow, noise, condition_of(500), steps, guidance=1.0)
    assert float(data.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(data.std()) == pytest.approx(0.5, rel=0.01)


def test_mean_flow_target_of_the_exact_flow_is_the_exact_average_velocity() -> None:
    """The MeanFlow identity u = v - (t - r) du/dt holds for the true average velocity."""
    flow = GaussianFlow(mean=1.0, std=0.3).double()
    count = 16
    time = torch.linspace(0.3, 0.95, count, dtype=torch.float64)
    duration = time * 0.6
    z = torch.randn(count, 2, 3, generator=generator_of(2), dtype=torch.float64)
    velocity = flow(z, time, torch.zeros_like(time))
    target = mean_target(flow, z, velocity, time, duration, torch.ones(count), condition_of(count), None)
    torch.testing.assert_close(target, flow(z, time, duration), atol=2e-3, rtol=2e-3)


def test_jvp_through_the_generator_equals_finite_differences(tiny: Generator) -> None:
    model = tiny.double()
    count, length = 3, 5
    make = generator_of(4)
    z, velocity = (
        torch.randn(count, length, TINY.latent_channels, generator=make, dtype=torch.float64) for _ in "ab"
    )
    time = torch.tensor([0.5, 0.7, 0.9], dtype=torch.float64)
    duration = torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64)
    guidance = torch.full((count,), 2.0, dtype=torch.float64)
    text = condition_of(count)
    text = Condition(text.tokens.double(), text.pooled.double(), text.text_mask, text.seconds.double())
    target = mean_target(model, z, velocity, time, duration, guidance, text, None)
    derivative = (velocity - target) / duration[:, None, None]

    def at(shift: float) -> Tensor:
        return model(
            z + shift * velocity, time + shift, duration + shift, text.tokens, text.pooled, text.seconds, guidance,
            text_mask=text.text_mask,
        )  # fmt: skip

    step = 1e-5
    with torch.no_grad():
        difference = (at(step) - at(-step)) / (2 * step)
    assert float((derivative - difference).norm() / difference.norm()) < 1e-5
    assert model.explicit_attention is False


def test_with_all_times_equal_and_no_guidance_mean_flow_is_flow_matching(tiny: Generator) -> None:
    data = torch.randn(8, 5, TINY.latent_channels, generator=generator_of(0))
    times = LogitNormal(-0.4, 1.0)
    mean_flow = MeanFlow(times=times, equal_share=1.0, unguided_share=1.0, null_share=0.0, power=0.0)
    losses = mean_flow.losses(tiny, data, condition_of(8), generator_of(5))
    make = generator_of(5)
    noise = torch.randn(data.shape, generator=make)
    t, _ = sample_pairs(times, 8, 1.0, 0.0, make)
    text = condition_of(8)
    predicted = tiny(
        interpolate(data, noise, t), t, torch.zeros(8), text.tokens, text.pooled, text.seconds, torch.ones(8),
        text_mask=text.text_mask,
    )  # fmt: skip
    expected = (predicted - (noise - data)).square().mean()
    torch.testing.assert_close(losses["loss"], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 0.9])
def test_guided_target_has_classifier_free_guidance_as_its_fixed_point(kappa: float) -> None:
    """If the network already returns w v(c) + (1 - w) v(null), the target returns it again."""
    conditional, null = 2.0, -1.0

    class Guided(nn.Module):
        def forward(self, latent: Tensor, *args: Tensor, text_mask: Tensor, drop: Tensor) -> Tensor:
            guidance = args[5][:, None, None]
            value = torch.where(
                drop[:, None, None], torch.tensor(null), guidance * conditional + (1 - guidance) * null
            )
            return value.expand_as(latent)

    objective = MeanFlow(kappa=kappa)
    z = torch.zeros(4, 2, 3)
    guidance = torch.tensor([1.0, 2.0, 3.0, 5.0])
    velocity = torch.full_like(z, conditional)
    target = objective.guided_velocity(
        Guided(), z, velocity, torch.full((4,), 0.5), guidance, condition_of(4)
    )
    expected = guidance * conditional + (1 - guidance) * null
    torch.testing.assert_close(target[:, 0, 0], expected)


def test_flow_matching_drops_the_text_at_its_rate() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, latent: Tensor, *_: Tensor, drop: Tensor, **__: object) -> Tensor:
            seen.append(drop)
            return latent

    FlowMatching(null_share=0.1).losses(Spy(), torch.zeros(5000, 1, 1), condition_of(5000), generator_of(0))
    assert float(seen[0].float().mean()) == pytest.approx(0.1, abs=0.015)


def test_flow_matching_learns_a_shift(tiny: Generator) -> None:
    """A few steps on constant data bring the error down by half."""
    data = torch.full((16, 4, TINY.latent_channels), 1.5)
    optimiser = torch.optim.Adam(tiny.parameters(), 3e-3)
    errors = []
    for step in range(60):
        loss = FlowMatching(null_share=0.0).losses(tiny, data, condition_of(16), generator_of(step))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_a_teacher_gives_the_target_its_guided_velocity(tiny: Generator) -> None:
    """With r = t everywhere and a teacher, the student regresses on w v(c) + (1 - w) v(null) of the teacher alone."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        teacher = Generator(TINY)
        nn.init.normal_(teacher.audio_out.linear.weight, std=0.3)
    objective = MeanFlow(equal_share=1.0, power=0.0)
    guidance, time = torch.tensor([1.0, 3.0]), torch.tensor([0.4, 0.8])
    z, text = torch.randn(2, 5, TINY.latent_channels, generator=generator_of(0)), condition_of(2)
    velocity = guided_teacher_velocity(teacher, z, time, guidance, text)
    zero, one = torch.zeros(2), torch.ones(2)
    arguments = (z, time, zero, text.tokens, text.pooled, text.seconds, one)
    with torch.no_grad():
        conditional = teacher(*arguments, text_mask=text.text_mask)
        null = teacher(*arguments, text_mask=text.text_mask, drop=torch.tensor([True, True]))
    scale = guidance[:, None, None]
    torch.testing.assert_close(velocity, scale * conditional + (1 - scale) * null, atol=1e-6, rtol=1e-5)
    data = torch.randn(6, 4, TINY.latent_channels, generator=generator_of(1))
    with_teacher = objective.losses(tiny, data, condition_of(6), generator_of(3), teacher=teacher)
    without = objective.losses(tiny, data, condition_of(6), generator_of(3))
    assert not torch.allclose(with_teacher["loss"], without["loss"])


def test_integrated_couples_end_where_the_teacher_ends() -> None:
    """With many teacher steps the quotient is the exact flow's average velocity."""

    class Instantaneous(GaussianFlow):
        def forward(self, latent: Tensor, time: Tensor, duration: Tensor, *a: Tensor, **k: object) -> Tensor:
            return super().forward(latent, time, torch.zeros_like(duration))

    objective = IntegratedFlow(teacher_steps=200, one_step_share=0.5)
    data = 0.4 * torch.randn(12, 3, 2, generator=generator_of(0)) + 1.0
    couples = objective.targets(Instantaneous(1.0, 0.4), data, condition_of(12), generator_of(1))
    exact = GaussianFlow(1.0, 0.4)(couples.z, couples.time, couples.duration)
    torch.testing.assert_close(couples.velocity, exact, atol=0.05, rtol=0.05)
    assert bool((couples.guidance >= 2).all()) and bool((couples.guidance <= 6).all())
    assert int((couples.time == 1).sum()) > 0 and bool((couples.duration >= 0).all())


def test_integrated_flow_teaches_one_step(tiny: Generator) -> None:
    """A student of an exact Gaussian flow makes its data in one step."""
    teacher, objective = GaussianFlow(1.0, 0.2), IntegratedFlow(teacher_steps=8)
    optimiser = torch.optim.Adam(tiny.parameters(), 3e-3)
    text = condition_of(16)
    errors = []
    for step in range(80):
        data = 0.2 * torch.randn(16, 4, TINY.latent_channels, generator=generator_of(step)) + 1.0
        losses = objective.losses(tiny, objective.targets(teacher, data, text, generator_of(step)), text)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        errors.append(losses["loss"].item())
    assert sum(errors[-5:]) < 0.3 * sum(errors[:5])


def test_flow_matching_is_an_exact_start_for_intervals_and_guidance() -> None:
    """After flow matching the network still gives one answer for every interval length and guidance scale."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Generator(TINY)
    method = FlowMatching(null_share=0.0).method(model, None)
    optimiser = torch.optim.AdamW(method.groups()["generator"], 1e-2)
    data, text = (
        0.5 + 0.1 * torch.randn(16, 6, TINY.latent_channels, generator=generator_of(0)),
        condition_of(16),
    )
    for step in range(5):
        optimiser.zero_grad()
        method.losses("generator", data, text, step, generator_of(step))["loss"].backward()
        optimiser.step()
    time = torch.full((16,), 0.7)

    def velocity(duration: float, guidance: float) -> Tensor:
        scalars = (torch.full((16,), duration), torch.full((16,), guidance))
        with torch.no_grad():
            return model(data, time, scalars[0], text.tokens, text.pooled, text.seconds, scalars[1])

    assert velocity(0.0, 1.0).abs().max() > 0
    assert torch.equal(velocity(0.0, 1.0), velocity(0.7, 6.0))
