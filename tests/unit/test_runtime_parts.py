"""Sampler, finishing of waveforms, stopwatch, memory: the parts a pipeline is made of."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.memory import current_rss_bytes, peak_rss_bytes
from edge_tta.runtime.sampler import Floats, ping_pong, sample
from edge_tta.runtime.timings import Stopwatch
from edge_tta.times import ping_pong_grid


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_sampler_is_exact_for_an_exact_average_velocity(steps: int) -> None:
    # z_t = (1 - t) x + t e has the constant velocity e - x, which is its own average over any interval.
    random = np.random.default_rng(0)
    noise, data = (random.standard_normal((1, 6, 3)).astype(np.float32) for _ in range(2))
    times: list[tuple[float, float]] = []

    def velocity(latent: Floats, now: float, duration: float) -> Floats:
        times.append((now, duration))
        np.testing.assert_allclose(latent, (1 - now) * data + now * noise, atol=1e-6)
        return noise - data

    np.testing.assert_allclose(sample(velocity, noise, steps), data, atol=1e-6)
    assert [now for now, _ in times] == pytest.approx([1 - i / steps for i in range(steps)])
    assert sum(duration for _, duration in times) == pytest.approx(1.0)


def test_sampler_follows_a_curved_path() -> None:
    # z_t = x + t^2 (e - x): the average velocity over [r, t] is (t + r) (e - x).
    noise, data = np.full((1, 2, 2), 3.0, np.float32), np.full((1, 2, 2), -1.0, np.float32)

    def velocity(latent: Floats, now: float, duration: float) -> Floats:
        return np.float32(2 * now - duration) * (noise - data)

    for steps in (1, 3, 8):
        np.testing.assert_allclose(sample(velocity, noise, steps), data, atol=1e-6)


def test_sampler_keeps_float32() -> None:
    latent = sample(lambda z, t, d: z, np.ones((1, 2, 2), np.float32), 3)
    assert latent.dtype == np.float32


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_ping_pong_jumps_to_data_and_adds_noise_of_the_next_level(steps: int) -> None:
    noise, data = np.full((1, 2, 2), 3.0, np.float32), np.full((1, 2, 2), -1.0, np.float32)
    fresh = {step: np.full((1, 2, 2), 10.0 + step, np.float32) for step in range(1, steps)}
    grid, seen = ping_pong_grid(steps), []

    def velocity(latent: Floats, now: float, duration: float) -> Floats:
        assert duration == now == grid[len(seen)]
        expected = noise if not seen else (1 - now) * data + now * fresh[len(seen)]
        np.testing.assert_allclose(latent, expected, rtol=1e-6)
        seen.append(now)
        return ((latent - data) / np.float32(now)).astype(np.float32)

    found = ping_pong(velocity, noise, steps, fresh.__getitem__)
    np.testing.assert_allclose(found, data, atol=1e-5)
    assert found.dtype == np.float32 and len(seen) == steps


def test_one_jump_is_one_step() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32)
    velocity = lambda z, t, d: np.tanh(z) * np.float32(t + d)  # noqa: E731
    np.testing.assert_array_equal(ping_pong(velocity, noise, 1, lambda _: noise), sample(velocity, noise, 1))


def tone(frames: int, amplitude: float, channels: int = 1) -> Floats:
    wave = amplitude * np.sin(2 * np.pi * 441 * np.arange(frames) / 44100 + 0.3)
    return np.tile(wave.astype(np.float32), (channels, 1))


def test_finish_trims_fades_and_leaves_the_middle_alone() -> None:
    raw = tone(44100 + 500, 0.5, channels=2)
    before = raw.copy()
    samples, warnings, gain = finish_waveform(raw, 44100, 44100)
    assert gain == 1.0
    assert samples.shape == (2, 44100) and samples.dtype == np.float32 and samples.flags.c_contiguous
    assert warnings == []
    fade = 221  # 5 ms, rounded
    np.testing.assert_array_equal(samples[:, fade:-fade], raw[:, fade : 44100 - fade])
    assert np.abs(samples[:, [0, -1]]).max() < 1e-5
    assert (np.abs(samples[:, :fade]) <= np.abs(raw[:, :fade])).all()
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("amplitude", [1.01, 3.0, 9.9, 10.1, 1e6])
def test_finish_scales_down_what_is_too_loud_and_tells_what_is_far_too_loud(amplitude: float) -> None:
    samples, warnings, gain = finish_waveform(tone(44100, amplitude), 44100, 44100)
    assert 0.999 < np.abs(samples).max() <= 1.0
    assert gain == pytest.approx(1 / amplitude, rel=1e-3)
    middle = slice(300, -300)
    np.testing.assert_allclose(samples[:, middle], gain * tone(44100, amplitude)[:, middle], atol=1e-6)
    told = f"the sound peaked at {20 * math.log10(amplitude):+.1f} dBFS and was scaled down to fit"
    assert warnings == ([told] if amplitude > 10 else [])


def test_finish_removes_an_offset_and_tells_a_large_one() -> None:
    samples, warnings, _ = finish_waveform(tone(44100, 0.3) + np.float32(0.4), 44100, 44100)
    assert abs(samples.mean()) < 1e-3
    assert warnings == ["the sound had a constant offset of 0.4, which was removed"]
    samples, warnings, _ = finish_waveform(tone(44100, 0.3) + np.float32(0.01), 44100, 44100)
    assert abs(samples.mean()) < 1e-3
    assert warnings == []


def test_finish_reports_silence() -> None:
    samples, warnings, _ = finish_waveform(np.zeros((1, 3000), np.float32), 2205, 44100)
    assert warnings == ["the sound is silent"]
    assert not samples.any()


@pytest.mark.parametrize("frames", [1, 2, 3, 300])
def test_finish_of_sounds_shorter_than_two_fades(frames: int) -> None:
    samples, *_ = finish_waveform(tone(frames, 0.5), frames, 44100)
    assert samples.shape == (1, frames) and np.isfinite(samples).all()


def test_stages_add_up_to_at_most_the_total() -> None:
    watch = Stopwatch()
    for stage in ("tokenizer", "generator", "generator"):
        with watch.stage(stage):
            time.sleep(0.002)
    timings = watch.timings(load=1.5)
    assert timings.generator >= 0.004 and timings.tokenizer >= 0.002
    assert timings.decoder == 0.0 and timings.load == 1.5
    assert timings.tokenizer + timings.text_encoder + timings.generator + timings.decoder <= timings.total


def test_a_clock_that_steps_back_gives_no_negative_times(monkeypatch: pytest.MonkeyPatch) -> None:
    readings: Iterator[float] = itertools.chain([10.0, 11.0, 9.0, 9.5, 9.75], itertools.repeat(5.0))
    monkeypatch.setattr("edge_tta.runtime.timings.time.perf_counter", lambda: next(readings))
    watch = Stopwatch()
    with watch.stage("generator"):
        pass
    with watch.stage("decoder"):
        pass
    timings = watch.timings(load=0.0)
    assert timings.generator == 0.0 and timings.decoder == 0.25 and timings.total == 0.25


def test_memory_is_measured() -> None:
    before = current_rss_bytes()
    block = np.ones(8 * 2**20, dtype=np.float64)  # 64 MiB, touched
    held = current_rss_bytes() - before
    assert 60 * 2**20 < held < 80 * 2**20
    del block
    assert peak_rss_bytes() >= before + 60 * 2**20
