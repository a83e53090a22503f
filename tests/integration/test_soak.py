"""Hundreds of sounds of mixed length in one process: memory, handles, threads and speed stay what they were."""

from __future__ import annotations

import gc
import statistics
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_tta.runtime import GenerationRequest, TextToAudio
from edge_tta.runtime.memory import current_rss_bytes, give_back_freed_memory

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
MEBIBYTE = 2**20


def settled_rss() -> float:
    """Resident MiB without what the C library keeps for reuse, which depends on the last length."""
    gc.collect()
    give_back_freed_memory()
    return current_rss_bytes() / MEBIBYTE


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "longest"), [("toy", 12.0), ("edge-tiny", 4.0)])
def test_500_sounds_of_mixed_length(bundle: str, longest: float, toy_bundle: Path) -> None:
    random = np.random.default_rng(3)
    words = ["rain", "wind", "dog", "engine", "thunder", "bell", "door", "water", "birds"]
    process = psutil.Process()
    samples, speed = [], []
    with TextToAudio.open(toy_bundle if bundle == "toy" else TINY, precision="fp32", threads=2) as model:
        for number in range(500):
            prompt = " ".join(random.choice(words, random.integers(1, 8)))
            seconds = float(random.uniform(0.5, longest))
            result = model.generate(GenerationRequest(prompt, seconds, seed=number, steps=1 + number % 2))
            assert result.audio.frames == round(seconds * 44100)
            speed.append(result.timings.decoder / seconds)
            if number % 25 == 24:
                samples.append(
                    (settled_rss(), process.num_fds(), process.num_threads(), threading.active_count())
                )
    rss = [sample[0] for sample in samples]
    after_warm_up = np.arange(2, len(rss)) * 25.0
    growth = float(np.polyfit(after_warm_up, rss[2:], 1)[0])
    assert growth <= 0.02, f"{growth:.3f} MiB per sound: {rss}"
    assert max(rss[2:]) - min(rss[2:]) <= 8, rss
    assert len({sample[1:] for sample in samples[1:]}) == 1, samples
    # Other processes share the machine, so speed may vary, but not systematically and not by much.
    assert statistics.median(speed[-100:]) <= 1.5 * statistics.median(speed[:100])


@pytest.mark.slow
def test_opening_and_closing_a_hundred_times(toy_bundle: Path) -> None:
    process = psutil.Process()

    def cycle() -> None:
        with TextToAudio.open(toy_bundle, threads=2) as model:
            model.generate(GenerationRequest("wind", seconds=1.0))

    for _ in range(5):
        cycle()
    before = settled_rss(), process.num_fds(), process.num_threads()
    for _ in range(100):
        cycle()
    after = settled_rss(), process.num_fds(), process.num_threads()
    assert after[0] - before[0] <= 8
    assert after[1:] == before[1:]


@pytest.mark.slow
def test_closing_gives_memory_back() -> None:
    import onnxruntime  # noqa: F401

    with TextToAudio.open(TINY, precision="fp32", threads=1) as model:
        model.warmup()
    before = current_rss_bytes() / MEBIBYTE
    with TextToAudio.open(TINY, precision="fp32", threads=1) as model:
        model.generate(GenerationRequest("wind", seconds=10.0))
    assert current_rss_bytes() / MEBIBYTE - before <= 24
