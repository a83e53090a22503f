"""Distribution matching against Gaussians, whose velocities are known, and the method on the tiny preset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from flow_cases import TINY, condition_of, generator_of, latents_of, network
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.errors import ConfigError
from edge_tta.flow.objectives.dmd2 import FAKE_SCORE, Dmd2, matching_gradient, matching_loss
from edge_tta.flow.objectives.method import GENERATOR
from edge_tta.flow.path import interpolate, per_row
from edge_tta.model.latent_discriminator import JudgingGenerator
from edge_tta.times import ping_pong_grid
from edge_tta.train.stages.generator import GeneratorStageConfig


@pytest.fixture(autouse=True)
def fixed_weights() -> Iterator[None]:
    """Networks made in a test start the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def gaussian_velocity(z: Tensor, time: Tensor, mean: Tensor, std: float) -> Tensor:
    """E[eps - x | z_t] for x from N(mean, std^2)."""
    t = per_row(time, z)
    away = (z - (1 - t) * mean) / ((1 - t) ** 2 * std**2 + t**2)
    return t * away - (mean + (1 - t) * std**2 * away)


REAL_MEAN = torch.tensor([3.0, -1.0])


def test_gradient_is_zero_where_fake_and_real_agree() -> None:
    z, velocity, time = latents_of(3), latents_of(3, seed=6), torch.tensor([0.1, 0.5, 0.9])
    gradient = matching_gradient(latents_of(3, seed=7), z, time, velocity, velocity)
    assert bool((gradient == 0).all())
    data = latents_of(3, seed=7).requires_grad_()
    matching_loss(data, gradient).backward()
    assert data.grad is not None and bool((data.grad == 0).all())


def test_gradient_of_known_gaussians_is_the_shift_between_their_means() -> None:
    """For unit variances x^_fake - x^_real = (m_fake - m_real) t^2 / ((1 - t)^2 + t^2), whatever z_t is."""
    fake_mean, time = torch.tensor([0.5, 2.0]), torch.tensor([0.05, 0.3, 0.7, 1.0])
    data = fake_mean + torch.randn(4, 6, 2, generator=generator_of(0))
    z = interpolate(data, torch.randn(4, 6, 2, generator=generator_of(1)), time)
    real = gaussian_velocity(z, time, REAL_MEAN, 1.0)
    fake = gaussian_velocity(z, time, fake_mean, 1.0)
    gradient = matching_gradient(data, z, time, real, fake)
    distance = (data - (z - per_row(time, z) * real)).abs().flatten(1).mean(dim=1)
    share = time**2 / ((1 - time) ** 2 + time**2)
    expected = per_row(share / distance, z) * (fake_mean - REAL_MEAN)
    torch.testing.assert_close(gradient, expected.expand_as(gradient), atol=1e-5, rtol=1e-4)


def test_gradient_agrees_with_the_difference_of_scores() -> None:
    """t^2 (s_fake - s_real) over (1 - t) and the normaliser, with the scores of the noised Gaussians."""
    fake_mean, time = torch.tensor([0.5, 2.0]), torch.tensor([0.1, 0.4, 0.8])
    data = fake_mean + 0.7 * torch.randn(3, 5, 2, generator=generator_of(0))
    z = interpolate(data, torch.randn(3, 5, 2, generator=generator_of(1)), time)
    t = per_row(time, z)

    def score(mean: Tensor, std: float) -> Tensor:
        return -(z - (1 - t) * mean) / ((1 - t) ** 2 * std**2 + t**2)

    real = gaussian_velocity(z, time, REAL_MEAN, 1.2)
    gradient = matching_gradient(data, z, time, real, gaussian_velocity(z, time, fake_mean, 0.7))
    normaliser = per_row((data - (z - t * real)).abs().flatten(1).mean(dim=1), z)
    expected = t**2 * (score(fake_mean, 0.7) - score(REAL_MEAN, 1.2)) / (1 - t) / normaliser
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def test_descent_brings_a_gaussian_generator_to_mean_and_spread_of_the_data() -> None:
    """Generator x = a eps + b with exact scores of what it makes: b finds the mean and a the deviation."""
    scale, shift = torch.tensor(1.5, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([scale, shift], 0.05)
    draws = generator_of(0)
    for _ in range(400):
        data = scale * torch.randn(256, 1, 2, generator=draws) + shift
        time = 0.02 + 0.96 * torch.rand(256, generator=draws)
        with torch.no_grad():
            z = interpolate(data, torch.randn(256, 1, 2, generator=draws), time)
            real = gaussian_velocity(z, time, REAL_MEAN, 0.5)
            fake = gaussian_velocity(z, time, shift, float(scale))
            gradient = matching_gradient(data, z, time, real, fake)
        optimiser.zero_grad()
        matching_loss(data, gradient).backward()
        optimiser.step()
    torch.testing.assert_close(shift.detach(), REAL_MEAN, atol=0.1, rtol=0)
    assert float(scale.detach()) == pytest.approx(0.5, abs=0.1)


def test_fake_score_starts_as_the_teacher_and_then_nothing_moves_the_generator() -> None:
    """With guidance 1 the real velocity is the teacher's own: matching is silent until the fake score has learnt."""
    teacher, generator = network(0), network(1)
    objective = Dmd2(min_guidance=1.0, max_guidance=1.0, adversarial_weight=0.0)
    method = objective.method(generator, teacher.requires_grad_(False))
    losses = method.losses(GENERATOR, latents_of(4), condition_of(4), 0, generator_of(0))
    losses["loss"].backward()
    assert float(losses["mismatch"]) < 1e-5
    assert max(float(w.grad.abs().max()) for w in generator.parameters() if w.grad is not None) < 1e-5
    guided = Dmd2(adversarial_weight=0.0).method(generator, teacher)
    losses = guided.losses(GENERATOR, latents_of(4), condition_of(4), 0, generator_of(0))
    assert float(losses["mismatch"]) > 1e-2


def test_velocity_and_verdict_come_from_one_pass_of_the_copied_teacher() -> None:
    teacher = network(0).requires_grad_(False)
    judging, text = JudgingGenerator(teacher), condition_of(2)
    hidden: list[Tensor] = []
    teacher.audio_blocks[0].register_forward_hook(lambda *call: hidden.append(call[2]))
    z, time, scale = latents_of(2, 40), torch.tensor([0.3, 0.8]), torch.tensor([4.0, 2.0])
    texts = (text.tokens, text.pooled, text.seconds, scale)
    with torch.no_grad():
        velocity, scores = judging(z, time, *texts, text_mask=text.text_mask)
        torch.testing.assert_close(
            velocity, teacher(z, time, torch.zeros(2), *texts, text_mask=text.text_mask)
        )
        torch.testing.assert_close(scores, judging.head(F.layer_norm(hidden[0], (TINY.width,), eps=1e-6)))
    assert scores.shape == (2, 3) and all(weight.requires_grad for weight in judging.parameters())
    block = judging.generator.audio_blocks[0]
    assert not block._forward_hooks


def test_each_side_leaves_the_other_side_without_gradients() -> None:
    generator, text, data = network(1), condition_of(4), latents_of(4)
    method = Dmd2().method(generator, network(0).requires_grad_(False))
    fake_score = method.modules()[FAKE_SCORE]
    method.losses(FAKE_SCORE, data, text, 0, generator_of(0))["loss"].backward()
    assert all(weight.grad is None for weight in generator.parameters())
    without = {name for name, weight in fake_score.named_parameters() if weight.grad is None}
    # Nobody asks the text stream of the last joint block anything, and nothing is dropped.
    assert without == {
        "generator.null_tokens",
        "generator.null_pooled",
        "generator.joint_blocks.0.text_attention.query_norm.scale",
    }
    fake_score.zero_grad(set_to_none=True)
    method.losses(GENERATOR, data, text, 0, generator_of(0))["loss"].backward()
    assert all(weight.grad is None for weight in fake_score.parameters())
    assert generator.audio_out.linear.weight.grad is not None
    assert bool(generator.audio_out.linear.weight.grad.any())


def test_the_classifier_reaches_the_generator_and_falls_for_real_latents() -> None:
    """Where matching is silent, the verdict alone moves the generator, towards higher scores."""
    teacher, generator = network(0).requires_grad_(False), network(1)
    objective = Dmd2(min_guidance=1.0, max_guidance=1.0, adversarial_weight=1.0)
    method = objective.method(generator, teacher)
    text, data = condition_of(8), latents_of(8)
    optimiser = torch.optim.SGD(generator.parameters(), 0.05)
    verdicts = []
    for _ in range(6):
        losses = method.losses(GENERATOR, data, text, 0, generator_of(0))
        verdicts.append(float(losses["adversarial"]))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert verdicts[-1] < verdicts[0]


@pytest.mark.parametrize("verdict, small", [(9.0, True), (-9.0, False)])
def test_fake_score_regresses_on_generated_latents_and_its_classifier_prefers_real_ones(
    verdict: float, small: bool
) -> None:
    made, real = latents_of(3, seed=7), latents_of(3, seed=8)

    class Maker(nn.Module):
        def forward(self, latent: Tensor, time: Tensor, *_: Tensor, **__: object) -> Tensor:
            return (latent - made) / per_row(time, latent)

    class Judge(nn.Module):
        """Exact velocity for the generated half of the batch; ``verdict`` for the real half, its opposite before."""

        def forward(self, latent: Tensor, time: Tensor, *_: Tensor, **__: object) -> tuple[Tensor, Tensor]:
            velocity = (latent - torch.cat([made, real])) / per_row(time, latent)
            return velocity, verdict * torch.cat([-torch.ones(3, 2), torch.ones(3, 2)])

    losses = Dmd2().fake_losses(Maker(), Judge(), real, condition_of(3), generator_of(0))
    assert float(losses["velocity_error"]) < 1e-6
    assert float(losses["classifier"]) == pytest.approx(0.0 if small else 18.0, abs=1e-3)


@pytest.mark.parametrize("steps", [1, 4])
def test_generated_latents_follow_the_sampler_up_to_a_jump_of_the_grid(steps: int) -> None:
    seen: list[float] = []

    class Still(nn.Module):
        def forward(self, latent: Tensor, time: Tensor, duration: Tensor, *_: Tensor, **__: object) -> Tensor:
            assert torch.equal(time, duration)
            seen.append(float(time[0]))
            return torch.zeros_like(latent)

    lasts = set()
    for seed in range(30):
        seen.clear()
        Dmd2(steps=steps).generated(
            Still(), latents_of(2), condition_of(2), torch.ones(2), generator_of(seed)
        )
        assert seen == pytest.approx(ping_pong_grid(steps)[: len(seen)])
        lasts.add(len(seen))
    assert lasts == set(range(1, steps + 1))


def test_several_jumps_are_learnt_through_the_last_one_alone() -> None:
    generator, objective = network(0), Dmd2(steps=8)
    made = objective.generated(
        generator, latents_of(2), condition_of(2), torch.full((2,), 4.0), generator_of(1)
    )
    made.sum().backward()
    assert generator.audio_out.linear.weight.grad is not None and bool(made.isfinite().all())


def test_two_time_scales_and_names() -> None:
    method = Dmd2().method(network(0), network(1))
    assert list(method.groups()) == [FAKE_SCORE, GENERATOR] and list(method.modules()) == [FAKE_SCORE]
    assert [method.due(GENERATOR, step) for step in range(10)] == [False, False, False, False, True] * 2
    assert all(method.due(FAKE_SCORE, step) for step in range(10))
    assert method.sampler == "euler" and not method.classifier_free
    assert Dmd2(steps=4).method(network(0), network(1)).sampler == "ping-pong"


def test_a_teacher_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"generator\.teacher"):
        Dmd2().method(network(0), None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fake_steps": 0},
        {"steps": 0},
        {"min_time": 0.9, "max_time": 0.1},
        {"min_guidance": 9.0},
        {"depth_share": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Dmd2(**wrong)  # type: ignore[arg-type]


def test_the_method_trains_on_the_tiny_preset_and_stays_finite() -> None:
    settings = GeneratorStageConfig(dmd2=Dmd2(fake_steps=3, steps=2))
    teacher, generator, text = network(0).requires_grad_(False), network(1), condition_of(8)
    method = settings.objective().method(generator, teacher)
    optimisers = {name: torch.optim.AdamW(weights, 2e-3) for name, weights in method.groups().items()}
    frozen = [weight.clone() for weight in teacher.parameters()]
    before = [weight.clone() for weight in generator.parameters()]
    errors = []
    for step in range(30):
        data = 0.3 * latents_of(8, seed=100 + step) + 1.0
        for name, optimiser in optimisers.items():
            if not method.due(name, step):
                continue
            optimiser.zero_grad(set_to_none=True)
            losses = method.losses(name, data, text, step, generator_of(2 * step))
            losses["loss"].backward()
            optimiser.step()
            assert all(bool(value.isfinite()) for value in losses.values())
            errors += [float(losses["velocity_error"])] if name == FAKE_SCORE else []
    assert sum(errors[-6:]) < sum(errors[:6])
    assert any(not torch.equal(old, new) for old, new in zip(before, generator.parameters(), strict=True))
    assert all(torch.equal(old, new) for old, new in zip(frozen, teacher.parameters(), strict=True))


def test_teacher_and_fake_score_are_asked_in_plain_words() -> None:
    """What is matched is the distribution of the plain words' sounds; the generator alone hears others."""
    method = Dmd2().method(network(1), network(0).requires_grad_(False))
    plain = condition_of(3)
    told = replace(plain, tokens=plain.tokens + 1, pooled=plain.pooled + 1)
    heard: dict[str, list[Tensor]] = {"generator": [], "teacher": [], "fake score": []}
    networks = (method.generator, method.teacher, method.fake_score)
    for (name, tokens), net in zip(heard.items(), networks, strict=True):
        # A generator's interval comes before its text; the fake score has none.
        place = 2 if name == "fake score" else 3
        net.register_forward_pre_hook(lambda _, given, to=tokens, at=place: to.append(given[at]))
    condition = replace(told, plain=plain)
    for group in (FAKE_SCORE, GENERATOR):
        method.losses(group, latents_of(3), condition, 0, generator_of(0))
    assert all(torch.equal(tokens, told.tokens) for tokens in heard["generator"])
    judged = [row for name in ("teacher", "fake score") for tokens in heard[name] for row in tokens.split(3)]
    assert len(judged) > 3 and all(torch.equal(tokens, plain.tokens) for tokens in judged)
