"""Log-SNR times, ping-pong sampler, latent discriminator and ARC against closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from flow_cases import TINY, condition_of, generator_of, latents_of, network
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.errors import ConfigError
from edge_tta.flow.log_snr import LogSnrUniform, ShiftedLogitNormal
from edge_tta.flow.objectives.arc import (
    DISCRIMINATOR,
    Arc,
    approximate_penalty,
    contrastive_loss,
    derange,
    discriminator_loss,
    generator_loss,
    text_classes,
)
from edge_tta.flow.objectives.method import GENERATOR
from edge_tta.flow.path import Condition, per_row
from edge_tta.flow.ping_pong import denoise, ping_pong
from edge_tta.model.generator import Generator
from edge_tta.model.latent_discriminator import LatentDiscriminator, blocks_kept, without_weight_gradients
from edge_tta.model.presets import PRESETS
from edge_tta.times import ping_pong_grid
from edge_tta.train.stages.generator import GeneratorStageConfig


@pytest.fixture(autouse=True)
def fixed_weights() -> Iterator[None]:
    """Networks made in a test start the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Exact(nn.Module):
    """Average velocity of a distribution that is one latent: every jump ends there."""

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        self.data = data
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(
        self, latent: Tensor, time: Tensor, duration: Tensor, *rest: Tensor, **_: Tensor | None
    ) -> Tensor:
        self.seen.append((time, duration, rest[3]))
        return (latent - self.data) / per_row(time, latent)


def test_log_snr_uniform_fills_its_interval_evenly_and_reaches_pure_noise() -> None:
    times = LogSnrUniform(-6.0, 2.0, one_step_share=0.1).sample(20000, generator_of(0))
    assert float((times == 1).float().mean()) == pytest.approx(0.1, abs=0.01)
    inside = times[times < 1]
    assert float(inside.min()) >= 1 / (1 + math.exp(2.0)) - 1e-6
    assert float(inside.max()) <= 1 / (1 + math.exp(-6.0)) + 1e-6
    ratio = torch.log((1 - inside) / inside)
    quartiles = torch.quantile(ratio, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([-4.0, -2.0, 0.0]), atol=0.15, rtol=0)


def test_shifted_logit_normal_has_its_median_and_stays_in_its_interval() -> None:
    times = ShiftedLogitNormal(-6.0, 2.0, shift=0.5).sample(20000, generator_of(0))
    median = -6 + 8 / (1 + math.exp(-0.5))
    assert float(times.median()) == pytest.approx(1 / (1 + math.exp(median)), abs=0.01)
    assert float(times.min()) > 1 / (1 + math.exp(2.0)) and float(times.max()) < 1 / (1 + math.exp(-6.0))
    assert float(Arc().discriminator_times.sample(20000, generator_of(1)).median()) == pytest.approx(
        0.26, abs=0.02
    )


@pytest.mark.parametrize("low, high", [(1.0, 1.0), (2.0, -6.0), (math.nan, 1.0)])
def test_intervals_that_are_none_are_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match=r"low .* is (not below high|out of range)"):
        LogSnrUniform(low, high)
    with pytest.raises(ConfigError, match=r"low .* is (not below high|out of range)"):
        ShiftedLogitNormal(low, high)


@pytest.mark.parametrize(
    "steps, expected",
    [
        (1, (1.0, 0.0)),
        (2, (1.0, 0.8808, 0.0)),
        (4, (1.0, 0.9820, 0.8808, 0.5, 0.0)),
        (8, (1.0, 0.9933, 0.9820, 0.9526, 0.8808, 0.7311, 0.5, 0.2689, 0.0)),
    ],
)
def test_ping_pong_grid_is_the_published_one(steps: int, expected: tuple[float, ...]) -> None:
    assert ping_pong_grid(steps) == pytest.approx(expected, abs=5e-5)


def test_a_grid_of_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ping_pong_grid(0)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_ping_pong_with_an_exact_denoiser_returns_the_data(steps: int) -> None:
    data = latents_of(2)
    model = Exact(data)
    found = ping_pong(model, latents_of(2, seed=9), condition_of(2), steps, generator_of(0))
    torch.testing.assert_close(found, data, atol=1e-5, rtol=1e-5)
    assert len(model.seen) == steps
    for (time, duration, guidance), expected in zip(model.seen, ping_pong_grid(steps), strict=False):
        assert float(time[0]) == pytest.approx(expected) and torch.equal(time, duration)
        assert bool((guidance == 1).all())


def test_ping_pong_takes_fresh_noise_at_every_step_from_either_source() -> None:
    model, start, text = network(0), latents_of(2), condition_of(2)
    drawn = generator_of(3)
    noises = [torch.randn(start.shape, generator=drawn) for _ in range(3)]
    asked: list[int] = []

    def source(step: int) -> Tensor:
        asked.append(step)
        return noises[step - 1]

    found = ping_pong(model, start, text, 4, source)
    assert asked == [1, 2, 3]
    torch.testing.assert_close(found, ping_pong(model, start, text, 4, generator_of(3)))
    assert not torch.allclose(found, ping_pong(model, start, text, 4, generator_of(4)))


def test_one_ping_pong_step_is_the_exported_one_step_graph() -> None:
    model, start, text = network(0), latents_of(2), condition_of(2)
    one = torch.ones(2)
    with torch.no_grad():
        velocity = model(
            start, one, one, text.tokens, text.pooled, text.seconds, one, text_mask=text.text_mask
        )
    torch.testing.assert_close(ping_pong(model, start, text, 1, generator_of(0)), start - velocity)


def test_relativistic_losses_have_their_signs_and_their_balance() -> None:
    real, fake = latents_of(4, seed=1)[..., 0], latents_of(4, seed=2)[..., 0]
    assert discriminator_loss(real + 1, fake) < discriminator_loss(real, fake)
    assert discriminator_loss(real, fake + 1) > discriminator_loss(real, fake)
    assert generator_loss(real, fake + 1) < generator_loss(real, fake)
    assert generator_loss(real + 1, fake) > generator_loss(real, fake)
    assert float(generator_loss(real, real)) == pytest.approx(math.log(2), abs=1e-6)
    # A hopeless generator still has a slope to go down: the form does not saturate.
    far = torch.zeros(1, requires_grad=True)
    generator_loss(torch.full((1,), 50.0), far).backward()
    assert far.grad is not None and float(far.grad) == pytest.approx(-1.0, abs=1e-6)


def test_contrastive_loss_counts_valid_rows_alone() -> None:
    real, other = torch.tensor([[1.0], [5.0]]), torch.tensor([[3.0], [-9.0]])
    found = contrastive_loss(real, other, torch.tensor([True, False]))
    assert float(found) == pytest.approx(math.log1p(math.exp(2.0)), abs=1e-6)
    assert float(contrastive_loss(real, other, torch.tensor([False, False]))) == 0


@pytest.mark.parametrize(
    "classes",
    [[0, 1], [0, 1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 0, 1, 1, 2], [3, 1, 1, 0, 2, 2, 2, 0, 1], [0, 0, 1, 2]],
)
def test_derangement_gives_no_row_itself_or_its_own_caption(classes: list[int]) -> None:
    numbers, seen = torch.tensor(classes), set()
    for seed in range(60):
        partner, valid = derange(numbers, generator_of(seed))
        assert sorted(partner.tolist()) == list(range(len(classes)))
        assert bool(valid.all()) and bool((numbers[partner] != numbers).all())
        assert bool((partner != torch.arange(len(classes))).all())
        seen.add(tuple(partner.tolist()))
    assert len(seen) > 1 or len(classes) == 2


@pytest.mark.parametrize(
    "classes, possible", [([0], 0), ([0, 0, 0], 0), ([0, 0, 0, 1], 2), ([0, 1, 0, 0, 2], 4)]
)
def test_impossible_derangements_exclude_as_few_rows_as_possible(classes: list[int], possible: int) -> None:
    numbers = torch.tensor(classes)
    for seed in range(20):
        partner, valid = derange(numbers, generator_of(seed))
        assert sorted(partner.tolist()) == list(range(len(classes)))
        assert int(valid.sum()) == possible
        assert torch.equal(valid, numbers[partner] != numbers)


def test_texts_are_told_apart_by_tokens_and_pooled_vector_but_not_by_padding() -> None:
    text = condition_of(5)
    text.pooled[3], text.tokens[3] = text.pooled[0], text.tokens[0]
    text.pooled[4] = text.pooled[0]
    text.text_mask[0, 2] = text.text_mask[3, 2] = False
    text.tokens[3, 2] = 7.0
    classes = text_classes(text).tolist()
    assert classes[0] == classes[3] and len(set(classes)) == 4


@pytest.mark.parametrize("name, kept", [("edge-tiny", 2), ("edge-10m", 5), ("edge-30m", 7), ("edge-120m", 9)])
def test_discriminators_take_three_quarters_of_the_blocks(name: str, kept: int) -> None:
    with torch.device("meta"):
        generator = Generator(PRESETS[name].generator)
    assert blocks_kept(generator, 0.75) == kept


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_the_discriminator_starts_with_the_hidden_states_of_the_teacher(share: float) -> None:
    teacher = network(0).requires_grad_(False)
    discriminator = LatentDiscriminator(teacher, share)
    caught: list[Tensor] = []
    if share == 0.5:
        teacher.joint_blocks[0].register_forward_hook(lambda *call: caught.append(call[2][0]))
    else:
        teacher.audio_blocks[0].register_forward_hook(lambda *call: caught.append(call[2]))
    z, time, text = latents_of(3), torch.tensor([0.2, 0.5, 1.0]), condition_of(3)
    fields = {
        "tokens": text.tokens,
        "pooled": text.pooled,
        "seconds": text.seconds,
        "text_mask": text.text_mask,
    }
    with torch.no_grad():
        teacher(z, time, torch.zeros(3), guidance=torch.ones(3), **fields)
        hidden = discriminator.hidden(z, time, **fields)
    torch.testing.assert_close(hidden, F.layer_norm(caught[0], (TINY.width,), eps=1e-6))
    before = teacher.audio_in.linear.weight.clone()
    assert all(weight.requires_grad for weight in discriminator.parameters())
    with torch.no_grad():
        discriminator.trunk.audio_in.linear.weight.add_(1.0)
    assert torch.equal(teacher.audio_in.linear.weight, before)


def test_discriminators_grow_from_a_compiled_generator_but_from_nothing_else() -> None:
    compiled: Any = torch.compile(network(0))
    assert isinstance(LatentDiscriminator(compiled).trunk, Generator)
    with pytest.raises(TypeError, match="not from Linear"):
        LatentDiscriminator(nn.Linear(2, 2))


@pytest.mark.parametrize("length", [1, 8, 9, 16, 17, 100, 260])
def test_discriminators_score_any_length(length: int) -> None:
    scores = LatentDiscriminator(network(0))(
        latents_of(2, length), torch.full((2,), 0.3), *_fields(condition_of(2))
    )
    assert scores.shape == (2, math.ceil(length / 16)) and bool(scores.isfinite().all())


def _fields(text: Condition) -> tuple[Tensor, Tensor, Tensor]:
    return text.tokens, text.pooled, text.seconds


def test_a_perfect_generator_cannot_be_told_apart() -> None:
    """Same prompt, same level and same noise for both members: equal latents have equal scores, whatever the noise."""
    data, objective = latents_of(6), Arc(penalty_weight=0.0)
    discriminator = LatentDiscriminator(network(1))
    for draw in range(3):
        found = objective.discriminator_losses(
            Exact(data), discriminator, data, condition_of(6), generator_of(draw)
        )
        assert float(found["relativistic"]) == pytest.approx(math.log(2), abs=1e-5)
        assert float(found["gap"]) == pytest.approx(0.0, abs=1e-4)
        found = objective.generator_losses(
            Exact(data), discriminator, data, condition_of(6), generator_of(draw)
        )
        assert float(found["loss"]) == pytest.approx(math.log(2), abs=1e-5)


def test_prompts_that_all_read_the_same_make_no_negatives() -> None:
    data = latents_of(4)
    discriminator = LatentDiscriminator(network(1))
    losses = [
        Arc(contrastive_weight=weight).discriminator_losses(
            Exact(data), discriminator, data, condition_of(4, same=True), generator_of(0)
        )
        for weight in (1.0, 0.0)
    ]
    assert float(losses[0]["contrastive"]) == 0 and torch.equal(losses[0]["loss"], losses[1]["loss"])


def test_penalties_are_zero_for_a_constant_discriminator_and_for_it_alone() -> None:
    data = latents_of(4)
    discriminator = LatentDiscriminator(network(1))
    objective = Arc(penalty_weight=1.0)

    def penalty() -> float:
        losses = objective.discriminator_losses(
            Exact(data), discriminator, data, condition_of(4), generator_of(0)
        )
        assert torch.isfinite(losses["loss"])
        return float(losses["penalty"])

    assert penalty() > 0
    nn.init.zeros_(discriminator.head.out.weight)
    assert penalty() == 0
    ones, twos = torch.ones(2, 3), torch.full((2, 3), 2.0)
    assert float(approximate_penalty((ones, ones), (twos, ones + 3))) == pytest.approx(5.0)


def test_text_is_dropped_in_the_step_of_the_generator_alone() -> None:
    shares: list[float] = []

    class Spy(Exact):
        def forward(self, latent: Tensor, *rest: Tensor, **named: Any) -> Tensor:
            drop = named["drop"]
            shares.append(0.0 if drop is None else float(drop.float().mean()))
            return super().forward(latent, *rest, **named)

    data = latents_of(1000, length=1)
    spy, discriminator, text = Spy(data), LatentDiscriminator(network(1)), condition_of(1000)
    Arc().discriminator_losses(spy, discriminator, data, text, generator_of(0))
    Arc().generator_losses(spy, discriminator, data, text, generator_of(0))
    assert shares[0] == 0 and shares[1] == pytest.approx(0.1, abs=0.03)


def test_each_side_leaves_the_other_side_without_gradients() -> None:
    generator, text, data = network(0), condition_of(4), latents_of(4)
    method = Arc().method(generator, None)
    discriminator = method.modules()[DISCRIMINATOR]
    method.losses(DISCRIMINATOR, data, text, 0, generator_of(0))["loss"].backward()
    assert all(weight.grad is None for weight in generator.parameters())
    # Nobody asks the text stream of the last joint block anything.
    idle = "joint_blocks.0.text_attention.query_norm.scale"
    without = {name for name, weight in discriminator.named_parameters() if weight.grad is None}
    assert without == {f"trunk.{idle}"}
    discriminator.zero_grad(set_to_none=True)
    method.losses(GENERATOR, data, text, 0, generator_of(0))["loss"].backward()
    assert all(weight.grad is None for weight in discriminator.parameters())
    assert {name for name, weight in generator.named_parameters() if weight.grad is None} == {idle}
    with without_weight_gradients(discriminator):
        assert not any(weight.requires_grad for weight in discriminator.parameters())
    assert all(weight.requires_grad for weight in discriminator.parameters())


def test_schedule_and_names_of_the_method() -> None:
    method = Arc(discriminator_steps=3).method(network(0), network(1))
    assert list(method.groups()) == [DISCRIMINATOR, GENERATOR]
    assert [method.due(GENERATOR, step) for step in range(6)] == [False, False, True] * 2
    assert all(method.due(DISCRIMINATOR, step) for step in range(6))
    assert method.sampler == "ping-pong" and not method.classifier_free
    both = Arc().method(network(0), None)
    assert all(both.due(group, step) for group in both.groups() for step in range(3))


def test_the_method_trains_on_the_tiny_preset_and_stays_finite() -> None:
    settings = GeneratorStageConfig(arc=Arc(penalty_weight=1.0))
    generator, text = network(0), condition_of(8)
    method = settings.objective().method(generator, network(1).requires_grad_(False))
    optimisers = {name: torch.optim.AdamW(weights, 1e-3) for name, weights in method.groups().items()}
    before = [weight.clone() for weight in generator.parameters()]
    gaps = []
    for step in range(40):
        data = 0.3 * latents_of(8, seed=100 + step) + 1.0
        for name, optimiser in optimisers.items():
            if not method.due(name, step):
                continue
            optimiser.zero_grad(set_to_none=True)
            losses = method.losses(name, data, text, step, generator_of(2 * step))
            losses["loss"].backward()
            optimiser.step()
            assert all(bool(value.isfinite()) for value in losses.values())
            gaps += [float(losses["gap"])] if "gap" in losses else []
    assert any(not torch.equal(old, new) for old, new in zip(before, generator.parameters(), strict=True))
    # The discriminator learns to tell an untrained generator's latents from data.
    assert sum(gaps[-10:]) / 10 > sum(gaps[:10]) / 10 > -0.5
    found = denoise(generator, latents_of(8), torch.ones(8), text, torch.ones(8))
    assert bool(found.isfinite().all())
