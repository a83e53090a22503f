"""Requests are checked where they are made; results tell how to make the sound again."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from edge_tta.audio import Audio
from edge_tta.errors import RequestError
from edge_tta.runtime import GenerationRequest, GenerationResult, Timings

LAST_SEED = 2**63 - 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("seconds", 0, "seconds 0 is out of range"),
        ("seconds", -1, "seconds -1 is out of range"),
        ("seconds", math.nan, "seconds must be a finite number, got nan"),
        ("seconds", math.inf, "seconds must be a finite number, got inf"),
        ("seconds", "8", "seconds must be a number, got str"),
        ("seconds", True, "seconds must be a number, got bool"),
        ("seed", -1, f"seed -1 is out of range: allowed are 0 to {LAST_SEED}"),
        ("seed", 2**63, f"allowed are 0 to {LAST_SEED}"),
        ("seed", 1.0, "seed must be a whole number, got float"),
        ("steps", 0, "steps 0 is out of range: allowed are 1 to 8"),
        ("steps", 9, "steps 9 is out of range: allowed are 1 to 8"),
        ("count", 0, "count 0 is out of range: allowed are 1 to 64"),
        ("count", 65, "count 65 is out of range: allowed are 1 to 64"),
        ("guidance", -0.1, "guidance -0.1 is out of range: it must be at least 0"),
        ("guidance", math.nan, "guidance must be a finite number, got nan"),
        ("prompt", "", "prompt is empty"),
        ("prompt", "   ", "prompt is empty"),
        ("prompt", "🎵🎶", "prompt holds no letter or digit"),
        ("prompt", "rain \ud800", "prompt is not valid Unicode"),
        ("prompt", "rain " * 200_000, "prompt has 1000000 bytes; at most 4096 are allowed"),
        ("prompt", "rain\x00", "prompt holds a NUL"),
        ("prompt", 7, "prompt must be text, got int"),
    ],
)
def test_bad_values_are_named(field: str, value: object, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(**{"prompt": "rain", field: value})  # type: ignore[arg-type]
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_limits_are_allowed() -> None:
    GenerationRequest("rain", seconds=1e-9, seed=LAST_SEED, steps=8, guidance=0.0)
    GenerationRequest("rain", seed=LAST_SEED - 63, count=64)


def test_last_variation_needs_a_seed() -> None:
    with pytest.raises(RequestError, match="leaves no room for count 2"):
        GenerationRequest("rain", seed=LAST_SEED, count=2)


def test_numpy_scalars_become_plain_numbers() -> None:
    request = GenerationRequest("rain", seconds=np.float32(1.5), seed=np.int64(7), guidance=np.float64(2))  # type: ignore[arg-type]
    assert request == GenerationRequest("rain", seconds=1.5, seed=7, guidance=2.0)
    assert [type(value) for value in (request.seconds, request.seed, request.guidance)] == [float, int, float]


def test_request_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GenerationRequest("rain").seed = 3  # type: ignore[misc]


def test_result_as_plain_values() -> None:
    audio = Audio(np.full((1, 22050), 0.5, dtype=np.float32), 44100)
    timings = Timings(load=2.0, decoder=0.1, total=0.25, peak_rss_bytes=7)
    request = GenerationRequest("rain", seconds=0.5, seed=3, steps=2)
    versions = {"edge_tta": "1.2.3"}
    result = GenerationResult(
        audio, request, 3.5, timings, "toy@0", "ort", "int8", 2, ("quiet",), versions=versions
    )
    assert result.recipe() == {
        "prompt": "rain",
        "seconds": 0.5,
        "seed": 3,
        "steps": 2,
        "guidance": 3.5,
        "bundle": "toy@0",
        "backend": "ort",
        "precision": "int8",
        "threads": 2,
        "versions": versions,
    }
    document = result.as_dict()
    assert document["real_time_factor"] == 0.5
    assert (document["frames"], document["sample_rate"], document["peak"]) == (22050, 44100, 0.5)
    assert document["timings"]["peak_rss_bytes"] == 7
    assert document["warnings"] == ["quiet"] and document["gain"] == 1.0
