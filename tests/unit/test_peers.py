"""The peers are the published systems: sizes, arithmetic and the properties their papers state."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.peers.bigvgan import BigVGAN, BigVGANConfig, SmoothSnake, low_pass
from benchmarks.peers.convolutions import ChannelLastConv, FlatConv, Snake, TimeLastConv, replace_convolutions
from benchmarks.peers.counts import count_parameters, count_part
from benchmarks.peers.engines import EagerEngine, make_sound
from benchmarks.peers.meanaudio import MeanAudioConfig
from benchmarks.peers.published import PUBLISHED
from benchmarks.peers.results import PartResult
from benchmarks.peers.stable_audio import (
    DurationEmbedding,
    StableAudioConfig,
    StableAudioText,
    StableAudioTransformer,
)
from benchmarks.peers.systems import PEERS, peer
from benchmarks.peers.text import T5_BASE, T5Config, T5Encoder, distance_buckets
from edge_tta.errors import ConfigError

PARTS = [(name, part.name) for name in PEERS for part in peer(name).parts]


@cache
def counted(system: str, part: str) -> PartResult:
    """Counts at full size, without memory for the weights."""
    return count_part(peer(system).part(part))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("system", "part"), PARTS)
def test_parameters_are_those_published(system: str, part: str) -> None:
    known = PUBLISHED[system, part]
    assert counted(system, part).parameters == pytest.approx(known.parameters, rel=known.tolerance)


def test_the_whole_of_stable_audio_open_small_is_exact() -> None:
    """341,126,912: transformer, embedding of the duration, and the shifts of its norms, which stay zero."""
    config = StableAudioConfig()
    with torch.device("meta"):
        transformer, duration = StableAudioTransformer(config), DurationEmbedding(config)
    shifts = sum(buffer.numel() for name, buffer in transformer.named_buffers() if name.endswith("shift"))
    assert (count_parameters(duration), shifts) == (198_272, 49_152)
    assert count_parameters(transformer) + count_parameters(duration) + shifts == 341_126_912


@pytest.mark.parametrize(
    ("system", "part", "gflop"),
    [
        ("stable-audio-open-small", "generator", 165.0),  # a step
        ("stable-audio-open-small", "decoder", 1290.0),
        ("meanaudio-s", "text_encoder", 2 * 23.7),
        ("meanaudio-s", "clap_text", 2 * 6.5),
        ("meanaudio-s", "generator", 2 * 29.7),
        ("meanaudio-s", "mel_decoder", 2 * 32.9),
        ("meanaudio-s", "vocoder", 2 * 563 + 18),  # and its filters
    ],
)
def test_arithmetic_is_that_of_the_published_shapes(system: str, part: str, gflop: float) -> None:
    """Multiply-adds counted by hand from the published shapes; attention included."""
    assert counted(system, part).gflop == pytest.approx(gflop, rel=0.025)


def test_sounds_are_as_long_as_published() -> None:
    small, mean = peer("stable-audio-open-small"), peer("meanaudio-s")
    assert (round(small.seconds * small.sample_rate), small.channels, small.steps) == (524_288, 2, 8)
    assert (round(mean.seconds * mean.sample_rate), mean.channels, mean.steps) == (159_744, 1, 1)
    assert StableAudioConfig().hop == 2048 and BigVGANConfig().hop == MeanAudioConfig().mel_hop == 256
    with pytest.raises(
        ConfigError, match="unknown system 'mean'; known are stable-audio-open-small, meanaudio-s"
    ):
        peer("mean")


@pytest.mark.parametrize("name", PEERS)
def test_a_sound_runs_every_part_as_often_as_it_says(name: str) -> None:
    system = peer(name, tiny=True)
    engine, calls = EagerEngine(system, 1), []
    random = np.random.default_rng(0)

    def run(part: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        ports = system.part(part).inputs
        assert [port.name for port in ports] == list(inputs)
        assert [tuple(port.shape) for port in ports] == [array.shape for array in inputs.values()]
        outputs = engine.run(part, inputs)
        shapes = [tuple(port.shape) for port in system.part(part).outputs]
        assert shapes == [array.shape for array in outputs]
        calls.append(part)
        return outputs

    waveform = system.make(run, random)
    assert {part.name: part.calls for part in system.parts} == {part: calls.count(part) for part in calls}
    assert waveform.shape == (1, system.channels, round(system.seconds * system.sample_rate))
    assert np.isfinite(waveform).all() and waveform.std() > 0
    again, seconds = make_sound(system, engine)
    assert np.array_equal(waveform, again)
    assert set(seconds) == {*calls, "total"}
    assert 0 < sum(seconds[part] for part in set(calls)) <= seconds["total"]


def test_distances_of_t5_fall_into_the_published_buckets() -> None:
    # Bidirectional, 32 buckets up to 128: 8 exact ones on each side, 8 logarithmic ones; later keys from 16 on.
    buckets = distance_buckets(600, 32, 128)
    row = buckets[300]
    found = {
        distance: int(row[300 + distance]) for distance in (0, 1, -1, 7, -7, 8, -8, 16, 64, 127, 299, -299)
    }
    assert found == {
        0: 0, 1: 17, -1: 1, 7: 23, -7: 7, 8: 24, -8: 8, 16: 26, 64: 30, 127: 31, 299: 31, -299: 15
    }  # fmt: skip
    assert torch.equal(buckets[5, 5:50], buckets[100, 100:145])


def test_t5_does_not_attend_to_padding() -> None:
    encoder = T5Encoder(
        T5Config(vocab_size=50, width=16, depth=2, heads=2, head_width=8, feedforward=32)
    ).eval()
    mask = torch.tensor([[1.0] * 5 + [0.0] * 3])
    ids = torch.randint(1, 50, (1, 8), generator=seeded())
    other = torch.cat([ids[:, :5], 50 - ids[:, 5:]], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids, mask)[:, :5], encoder(other, mask)[:, :5])
        assert not torch.allclose(
            encoder(ids, torch.ones(1, 8))[:, :5], encoder(other, torch.ones(1, 8))[:, :5]
        )
    assert T5_BASE.width == 768 and not T5_BASE.gated


def test_stable_audio_zeroes_padding_and_appends_the_duration() -> None:
    config = StableAudioConfig(text=T5Config(50, 16, 1, 2, 8, 32), tokens=6, fourier=4)
    text = StableAudioText(config).eval()
    mask = torch.tensor([[1.0, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        cross, duration = text(torch.ones(1, 6, dtype=torch.int64), mask, torch.tensor([10.0]))
        _, longest = text(torch.ones(1, 6, dtype=torch.int64), mask, torch.tensor([1000.0]))
        _, limit = text(torch.ones(1, 6, dtype=torch.int64), mask, torch.tensor([256.0]))
    assert cross.shape == (1, 7, 16) and not cross[:, 3:6].any() and cross[:, :3].any()
    assert torch.equal(cross[:, 6], duration) and not torch.equal(duration, longest)
    assert torch.equal(longest, limit)


def test_stable_audio_hears_time_text_and_duration() -> None:
    config = StableAudioConfig(
        text=T5Config(50, 16, 1, 2, 8, 32), latent_channels=4, frames=6, width=32, depth=1, heads=2,
        feedforward=32, rotary=8, fourier=4,
    )  # fmt: skip
    network = StableAudioTransformer(config).eval()
    make = seeded()
    inputs = [torch.randn(*shape, generator=make) for shape in ((1, 4, 6), (1,), (1, 7, 16), (1, 16))]
    with torch.no_grad():
        before = network(*inputs)
        for place in range(4):
            changed = [value + 1.0 if number == place else value for number, value in enumerate(inputs)]
            assert not torch.allclose(network(*changed), before, atol=1e-4)
        network.explicit_attention = True
        torch.testing.assert_close(network(*inputs), before)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_matrix_products_replace_channel_last_convolutions(kernel: int, bias: bool) -> None:
    conv = ChannelLastConv(5, 7, kernel, bias)
    x = torch.randn(2, 11, 5, generator=seeded())
    torch.testing.assert_close(conv.unfolded()(x), conv(x))


def test_flat_convolutions_compute_the_same() -> None:
    conv = TimeLastConv(5, 6, 7, dilation=3)
    x = torch.randn(1, 5, 40, generator=seeded())
    torch.testing.assert_close(FlatConv(conv)(x), conv(x))
    module = torch.nn.Sequential(Snake(5), torch.nn.Sequential(conv, TimeLastConv(6, 5, 1, bias=False)))
    before = module(x)
    replace_convolutions(module, flat=False)
    assert isinstance(module[1][0], TimeLastConv)
    replace_convolutions(module, flat=True)
    assert isinstance(module[1][0], FlatConv) and isinstance(module[1][1], FlatConv)
    torch.testing.assert_close(module(x), before)


def test_the_low_pass_filter_halves_the_band() -> None:
    taps = low_pass().double()
    assert len(taps) == 12 and torch.equal(taps, taps.flip(0)) and float(taps.sum()) == pytest.approx(1.0)

    def gain(turns: float) -> float:
        angles = 2 * math.pi * turns * torch.arange(12, dtype=torch.float64)
        return float(torch.complex((taps * angles.cos()).sum(), (taps * angles.sin()).sum()).abs())

    assert gain(0.05) == pytest.approx(1.0, abs=0.02)
    assert gain(0.25) == pytest.approx(0.5, abs=0.02)  # the cutoff
    assert gain(0.45) < 0.02


def test_doubling_interpolates_and_snake_bends() -> None:
    smooth = SmoothSnake(1)
    time = torch.arange(64, dtype=torch.float32)
    slow = torch.sin(2 * math.pi * 0.03 * time)[None, None]
    doubled = smooth.doubled(slow)
    # Half a sample before and after every input sample's centre.
    fine = (torch.arange(128, dtype=torch.float32) - 0.5) / 2
    expected = torch.sin(2 * math.pi * 0.03 * fine)
    torch.testing.assert_close(doubled[0, 0, 12:-12], expected[12:-12], atol=0.02, rtol=0)
    constant = torch.full((1, 1, 32), 0.7)
    with torch.no_grad():
        torch.testing.assert_close(smooth(constant), torch.full((1, 1, 32), 0.7 + math.sin(0.7) ** 2))
        smooth.snake.log_alpha.fill_(math.log(2.0))
        smooth.snake.log_beta.fill_(math.log(4.0))
        bent = 0.7 + math.sin(1.4) ** 2 / 4
        torch.testing.assert_close(smooth(constant), torch.full((1, 1, 32), bent))


def test_the_vocoder_averages_its_blocks_and_stays_within_one() -> None:
    vocoder = BigVGAN(BigVGANConfig(mels=4, width=16, rates=(2, 2), kernels=(3, 5), dilations=(1,))).eval()
    with torch.no_grad():
        waveform = vocoder(100 * torch.randn(1, 4, 9, generator=seeded()))
        stage = vocoder.stages[0]
        x = torch.randn(1, 16, 9, generator=seeded(1))
        up = stage.up(x)
        torch.testing.assert_close(stage(x), (stage.blocks[0](up) + stage.blocks[1](up)) / 2)
    assert waveform.shape == (1, 1, 36) and float(waveform.abs().max()) <= 1.0
