"""The committed tiny bundle: every stage as stored, and the whole pipeline from prompt to samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.noise import gaussian_noise
from edge_tta.runtime import GenerationRequest, TextToAudio
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.golden import check_golden, signal_to_noise_db

TINY = Path(__file__).parent / "edge-tiny"
PROMPT, SEED = "rain on a tin roof", 7
"""What the golden vectors of every exported bundle were made from."""


def test_every_stage_computes_its_golden_output() -> None:
    for stage in check_golden(Bundle.open(TINY)):
        assert stage.passed and stage.snr_db > 80, stage


def test_pipeline_computes_the_golden_sound() -> None:
    golden = Bundle.open(TINY).golden()
    seconds, guidance = float(golden["seconds"][0]), float(golden["guidance"][0])
    np.testing.assert_array_equal(gaussian_noise(SEED, golden["noise"].shape[1:]), golden["noise"][0])
    with TextToAudio.open(TINY, precision="fp32", threads=1) as opened:
        # Golden vectors are shorter than any sound a bundle lets users ask for.
        audio = dataclasses.replace(opened.model.audio, min_seconds=seconds)
        model = TextToAudio(dataclasses.replace(opened.model, audio=audio))
        np.testing.assert_array_equal(model.model.tokenizer.encode(PROMPT).ids, golden["ids"][0])
        result = model.generate(GenerationRequest(PROMPT, seconds, SEED, guidance=guidance))
    expected, *_ = finish_waveform(golden["waveform"][0].astype(np.float32), round(seconds * 44100), 44100)
    assert result.audio.samples.shape == expected.shape
    assert signal_to_noise_db(expected, result.audio.samples) > 60


def test_more_steps_refine_the_same_noise() -> None:
    with TextToAudio.open(TINY, precision="fp32", threads=1) as model:
        sounds = [model.generate(GenerationRequest(PROMPT, 0.5, 1, steps)).audio for steps in (1, 2, 8)]
    assert all(np.isfinite(sound.samples).all() and sound.frames == 22050 for sound in sounds)
    assert len({sound.samples.tobytes() for sound in sounds}) == 3
