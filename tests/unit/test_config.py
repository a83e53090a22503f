"""Configurations: strict reading, exact digests, bounds that no file can argue away."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tta.config import (
    AudioSpec,
    CodecConfig,
    GeneratorConfig,
    ModelConfig,
    TextEncoderConfig,
    config_digest,
    dict_digest,
    from_dict,
    to_dict,
)
from edge_tta.errors import ConfigError
from edge_tta.model.presets import PRESETS


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner = field(default_factory=Inner)
    pair: tuple[int, float] = (1, 2.0)
    rates: tuple[float, ...] = ()
    tags: dict[str, int] = field(default_factory=dict)
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    either: int | str = 0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_everything_a_configuration_can_hold() -> None:
    text = """
    count = 3
    pair = [4, 5]
    rates = [1, 2.5]
    mode = "slow"
    maybe = 7
    either = "x"
    inner = {rate = 1}
    tags = {a = 1}
    """
    config = from_dict(Outer, tomllib.loads(text))
    assert config == Outer(3, Inner(1.0), (4, 5.0), (1.0, 2.5), {"a": 1}, "slow", 7, "x")
    assert isinstance(config.inner.rate, float) and isinstance(config.pair[1], float)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, ["count", "missing"]),
        ({"count": 1, "inner": {"rat": 1.0}}, ["inner", "'rat'", "did you mean 'rate'"]),
        ({"count": 1, "zzz": 1}, ["'zzz'", "known keys"]),
        ({"count": 1.5}, ["count", "int", "1.5"]),
        ({"count": True}, ["count", "int"]),
        ({"count": "1"}, ["count", "str"]),
        ({"count": 1, "inner": 3}, ["inner", "table"]),
        ({"count": 1, "inner": {"rate": True}}, ["inner.rate", "float"]),
        ({"count": 1, "pair": [1]}, ["pair", "2 values"]),
        ({"count": 1, "pair": 1}, ["pair", "list"]),
        ({"count": 1, "rates": [1, "x"]}, ["rates[1]"]),
        ({"count": 1, "mode": "medium"}, ["mode", "'fast'", "'slow'"]),
        ({"count": 1, "tags": {"a": "b"}}, ["tags.a"]),
        ({"count": 1, "tags": 1}, ["tags", "table"]),
        ({"count": 1, "maybe": "x"}, ["maybe"]),
        ({"count": 1, "either": 1.5}, ["either", "fits none"]),
        ([], ["Outer", "table"]),
    ],
)
def test_what_does_not_fit_is_named(data: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, data)
    for word in words:
        assert word in str(caught.value)


def test_none_is_accepted_where_it_is_meant() -> None:
    assert from_dict(Outer, {"count": 1, "maybe": None}).maybe is None


def test_digest_is_of_the_canonical_form() -> None:
    config = Inner()
    assert config_digest(config) == dict_digest({"name": "a", "rate": 0.5})
    # sha256 of {"name":"a","rate":0.5}
    assert config_digest(config) == hashlib.sha256(b'{"name":"a","rate":0.5}').hexdigest()
    assert ModelConfig().digest() == config_digest(ModelConfig())


def test_every_field_is_part_of_the_digest() -> None:
    base = AudioSpec()
    changes: dict[str, Any] = {
        "sample_rate": 48000,
        "channels": 2,
        "hop": 1024,
        "latent_channels": 32,
        "min_seconds": 1.0,
        "max_seconds": 10.0,
    }
    assert set(changes) == {f.name for f in dataclasses.fields(AudioSpec)}
    digests = {config_digest(dataclasses.replace(base, **{name: value})) for name, value in changes.items()}
    assert len(digests | {config_digest(base)}) == len(changes) + 1


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        AudioSpec().hop = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("seconds", "samples", "frames"),
    [(0.5, 22050, 11), (1.0, 44100, 22), (5.0, 220500, 108), (10.0, 441000, 216), (12.0, 529200, 259)],
)
def test_durations_in_samples_and_latent_frames(seconds: float, samples: int, frames: int) -> None:
    spec = AudioSpec()
    assert (spec.num_samples(seconds), spec.latent_frames(seconds)) == (samples, frames)


@given(st.floats(0.5, 12.0))
def test_the_latent_covers_the_sound_by_less_than_one_frame(seconds: float) -> None:
    spec = AudioSpec()
    surplus = spec.latent_frames(seconds) * spec.hop - spec.num_samples(seconds)
    assert 0 <= surplus < spec.hop
    assert abs(spec.num_samples(seconds) - seconds * 44100) <= 0.5


@pytest.mark.parametrize(
    ("cls", "values", "word"),
    [
        (AudioSpec, {"max_seconds": 1e9}, "max_seconds"),
        (AudioSpec, {"max_seconds": float("nan")}, "max_seconds"),
        (AudioSpec, {"min_seconds": 0.0}, "min_seconds"),
        (AudioSpec, {"min_seconds": 5.0, "max_seconds": 4.0}, "above"),
        (AudioSpec, {"hop": 0}, "hop"),
        (AudioSpec, {"hop": -2048}, "hop"),
        (AudioSpec, {"hop": 1}, "values"),
        (AudioSpec, {"channels": 3}, "channels"),
        (AudioSpec, {"sample_rate": 10**9}, "sample_rate"),
        (AudioSpec, {"latent_channels": 0}, "latent_channels"),
        (TextEncoderConfig, {"vocab_size": 2**40}, "vocab_size"),
        (TextEncoderConfig, {"max_tokens": 1}, "max_tokens"),
        (GeneratorConfig, {"kernel": 4}, "kernel 4 must be odd"),
        (GeneratorConfig, {"stem_kernel": 2}, "stem_kernel"),
        (GeneratorConfig, {"audio_blocks": 10**6}, "audio_blocks"),
        (GeneratorConfig, {"heads": 0}, "heads"),
        (CodecConfig, {"stft_hop": 256}, "not half of n_fft 1024"),
        (CodecConfig, {"n_fft": 6, "stft_hop": 3}, "multiple of four"),
        (CodecConfig, {"kernel": 6}, "odd"),
        (CodecConfig, {"decoder_frame_blocks": -1}, "decoder_frame_blocks"),
        (ModelConfig, {"schema_version": 2}, "schema_version"),
        (ModelConfig, {"audio": AudioSpec(latent_channels=32)}, "latent_channels"),
        (ModelConfig, {"text_encoder": TextEncoderConfig(width=96)}, "text_width"),
        (ModelConfig, {"audio": AudioSpec(hop=2000)}, "divide"),
    ],
)
def test_impossible_values_are_refused(cls: type, values: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        cls(**values)


def test_a_value_out_of_range_in_a_file_names_its_place() -> None:
    document = to_dict(ModelConfig())
    document["audio"]["hop"] = 0
    with pytest.raises(ConfigError, match=r"audio: hop 0 is out of range"):
        from_dict(ModelConfig, document)
