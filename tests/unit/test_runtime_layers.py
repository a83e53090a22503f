"""Several sounds in one prompt: how they are told apart, at which levels they are mixed, and what noise each has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_tta.errors import Cancelled, RequestError
from edge_tta.runtime import GenerationRequest, Progress, TextToAudio
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.layers import Layer, layers_of, mix_layers
from edge_tta.text import normalise

RAIN = "rain on a tin roof"


@pytest.fixture
def model(toy_bundle: Path) -> Iterator[TextToAudio]:
    with TextToAudio.open(toy_bundle, threads=1) as opened:
        yield opened


@pytest.mark.parametrize(
    ("prompt", "layers"),
    [
        ("Rain on a tin roof", [("Rain on a tin roof", 0.0)]),
        ("rain on a tin roof + distant  thunder", [(RAIN, 0.0), ("distant thunder", 0.0)]),
        ("Rain\t+\nthunder (-6 dB)", [("rain", 0.0), ("thunder", -6.0)]),
        ("rain (+2.5DB) ＋ thunder (\u22123 dB)", [("rain", 2.5), ("thunder", -3.0)]),
        ("a + b + c (40 dB) + d (-40 dB)", [("a", 0.0), ("b", 0.0), ("c", 40.0), ("d", -40.0)]),
        # One sound is described in any words.
        ("rain (-6 dB)", [("rain (-6 dB)", 0.0)]),
        ("1+1 voices saying c++", [("1+1 voices saying c++", 0.0)]),
        ("rain (soft) + wind (6 dB) outside", [("rain (soft)", 0.0), ("wind (6 db) outside", 0.0)]),
    ],
)
def test_sounds_of_a_prompt(prompt: str, layers: list[tuple[str, float]]) -> None:
    assert layers_of(prompt) == tuple(Layer(*layer) for layer in layers)
    assert GenerationRequest(prompt).layers == layers_of(prompt)


def test_a_prompt_that_grows_when_normalised_is_made_as_before(model: TextToAudio) -> None:
    prompt = "rain " + "\ufdfa" * 1000
    assert len(prompt.encode()) < 4096 < len(normalise(prompt).encode())
    assert model.generate(GenerationRequest(prompt, seconds=0.5)).audio.frames == 22050
    with pytest.raises(RequestError, match="at most 4096"):
        GenerationRequest(f"{prompt} + wind")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("rain +", "no sound on one side of a '\\+'"),
        ("+ rain", "no sound on one side"),
        ("rain + + wind", "no sound on one side"),
        ("rain + (-6 dB)", "no sound on one side"),
        ("rain + !", "no letter or digit"),
        ("a + b + c + d + e", "names 5 sounds; at most 4"),
        ("rain + wind (40.5 dB)", "level 40.5 dB is out of range: allowed are -40 to 40 dB"),
        ("rain + wind (-999 dB)", "level -999 dB is out of range"),
    ],
)
def test_prompts_of_several_sounds_that_are_refused(prompt: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        GenerationRequest(prompt)


def levels_in(mixture: np.ndarray, *parts: np.ndarray) -> list[float]:
    """Factors of orthogonal parts in a mixture, in dB of each part's own level."""
    flat = [part.astype(np.float64).ravel() for part in parts]
    return [float(20 * np.log10(mixture.ravel() @ part / (part @ part) * part.std())) for part in flat]


def test_levels_are_those_asked_for() -> None:
    time = np.arange(4410) / 44100
    one, two, three = (
        (peak * np.sin(2 * np.pi * 100 * turns * time)).astype(np.float32)[None]
        for turns, peak in ((1, 0.9), (2, 0.01), (3, 3.0))
    )
    layers = [Layer("one"), Layer("two"), Layer("three", -6.0)]
    mixture = mix_layers([one, two, three], layers)
    assert mixture.dtype == np.float32 and mixture.shape == one.shape
    common = 20 * np.log10(np.sqrt(np.mean([0.9**2, 0.01**2, 3.0**2]) / 2))
    assert levels_in(mixture, one, two, three) == pytest.approx([common, common, common - 6.0], abs=1e-4)


def test_an_offset_is_no_level_and_nothing_is_made_of_silence() -> None:
    generator = np.random.default_rng(0)
    sound = generator.standard_normal((2, 1000)).astype(np.float32)
    silence = np.full((2, 1000), 1e-7, dtype=np.float32)
    assert np.abs(mix_layers([sound, silence], [Layer("a"), Layer("b")]) - sound).max() < 1e-6
    assert np.array_equal(mix_layers([silence, silence], [Layer("a"), Layer("b")]), 2 * silence)
    shifted = mix_layers([sound + np.float32(0.5), sound], [Layer("a"), Layer("b")])
    assert shifted.std() == pytest.approx(2 * sound.std(), rel=1e-3)
    assert mix_layers([sound], [Layer("a")]) is sound


def test_a_mixture_is_that_of_its_sounds_made_alone(model: TextToAudio) -> None:
    """The first sound has the noise that it has alone; the second a stream of its own."""
    waveforms = []
    decoder = model.model.backend.decoder

    class Kept:
        def __getattr__(self, name: str) -> object:
            return getattr(model.model.backend, name)

        def decoder(self, latent: np.ndarray) -> np.ndarray:
            waveforms.append(decoder(latent))
            return waveforms[-1]

    kept = TextToAudio(dataclasses.replace(model.model, backend=Kept()))  # type: ignore[arg-type]
    request = GenerationRequest("rain + rain (-6 dB)", seconds=0.5, seed=3)
    result = kept.generate(request)
    alone = kept.generate(GenerationRequest("rain", seconds=0.5, seed=3))
    first, second, single = (waveform[0, :, : alone.audio.frames] for waveform in waveforms)
    assert np.array_equal(first, single) and not np.array_equal(first, second)
    expected = finish_waveform(mix_layers([first, second], request.layers), alone.audio.frames, 44100)
    assert np.array_equal(result.audio.samples, expected.samples)
    assert result.request == request and result.recipe()["prompt"] == "rain + rain (-6 dB)"


def test_noise_of_sounds_and_steps_never_meets(model: TextToAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_tta.runtime import pipeline

    streams: list[int] = []
    inner = pipeline.gaussian_noise

    def noise(seed: int, shape: tuple[int, ...], stream: int = 0) -> np.ndarray:
        streams.append(stream)
        return inner(seed, shape, stream)

    monkeypatch.setattr(pipeline, "gaussian_noise", noise)
    generation = model.model.generation.model_copy(update={"sampler": "ping-pong", "max_steps": 8})
    ping_pong = TextToAudio(dataclasses.replace(model.model, generation=generation))
    ping_pong.generate(GenerationRequest("rain + wind + birds", seconds=0.5, steps=8))
    assert streams == list(range(24))


def test_progress_counts_all_sounds_and_warnings_name_theirs(model: TextToAudio) -> None:
    told: list[Progress] = []
    long = "wind " * 200
    result = model.generate(GenerationRequest(f"rain + {long}", seconds=0.5), on_progress=told.append)
    assert [round(progress.fraction * 8, 6) for progress in told] == list(range(9))
    assert [progress.stage for progress in told[:4]] == [progress.stage for progress in told[4:8]]
    (warning,) = (warning for warning in result.warnings if "tokens were left out" in warning)
    assert warning.startswith('"wind wind') and 'wind": the prompt is too long' in warning


def test_a_mixture_can_be_cancelled_between_its_sounds(model: TextToAudio) -> None:
    seen: list[str] = []

    def stop(progress: Progress) -> bool:
        seen.append(progress.stage)
        return len(seen) < 5

    with pytest.raises(Cancelled, match="before tokenizer"):
        model.generate(GenerationRequest("rain + wind", seconds=0.5), on_progress=stop)
