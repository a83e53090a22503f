"""Gains in time: where they act, that a fresh one changes nothing, and that training finds the ones it should."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_data import RATE, write_checkpoint, write_clips

from edge_tta.catalog import read_metadata_csv
from edge_tta.config import AudioSpec, CodecConfig, ModelConfig, from_dict, to_dict
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import save_part
from edge_tta.model.codec import Codec
from edge_tta.model.envelope import Envelope, interpolation
from edge_tta.model.presets import preset
from edge_tta.train.data.clip_cache import load_or_build_clip_cache
from edge_tta.train.stages.codec import CodecStage
from edge_tta.train.stages.envelope import LOUDEST, QUIETEST, EnvelopeStage, EnvelopeStageConfig, level

TINY = preset("edge-tiny")
SPEC = CodecConfig(frame_width=8, stft_hop=32, n_fft=64, envelope_steps=4)
BARE = replace(TINY, codec=replace(TINY.codec, envelope_steps=0))


@pytest.fixture
def envelope() -> Envelope:
    return Envelope(SPEC, AudioSpec(channels=2)).eval()


def test_values_lie_in_the_middle_of_their_steps() -> None:
    matrix = interpolation(4, 32)
    assert matrix.shape == (6, 32)
    torch.testing.assert_close(matrix.sum(0), torch.ones(32))
    torch.testing.assert_close(torch.ones(6) @ matrix, torch.ones(32))
    # Values on a line stay on it: the middle of the first own step, index 1, is sample 3.5.
    line = torch.arange(6, dtype=torch.float32)
    torch.testing.assert_close(line @ matrix, 1 + (torch.arange(32) - 3.5) / 8)


def test_gains_go_on_across_hops(envelope: Envelope) -> None:
    draw = torch.Generator().manual_seed(0)
    log_gain = torch.randn(1, 2, 5, 4, generator=draw)
    made = envelope.shaped(torch.ones(1, 2, 160), log_gain)
    middles = log_gain.exp().reshape(2, 20)
    # A sample half-way between the middles of two steps has the mean of their gains, at the seams of hops, too.
    found = made[0].reshape(2, 20, 8)
    between = (found[:, :-1, 7] + found[:, 1:, 0]) / 2
    torch.testing.assert_close(between, (middles[:, :-1] + middles[:, 1:]) / 2)
    torch.testing.assert_close((found[..., 3] + found[..., 4])[:, 1:-1] / 2, _around(middles))
    torch.testing.assert_close(made[0, :, 0], middles[:, 0])
    torch.testing.assert_close(made[0, :, -1], middles[:, -1])


def _around(middles: torch.Tensor) -> torch.Tensor:
    """Half a sample on either side of a middle, lines go to both neighbours by a sixteenth."""
    return middles[:, 1:-1] * (15 / 16) + (middles[:, :-2] + middles[:, 2:]) / 32


def test_one_step_is_made_quiet_and_nothing_beyond_its_neighbours(envelope: Envelope) -> None:
    log_gain = torch.zeros(1, 2, 5, 4)
    log_gain[0, 1, 2, 1] = -20.0
    made = envelope.shaped(torch.ones(1, 2, 160), log_gain)
    assert (made[0, 0] == 1).all()
    changed = (made[0, 1] != 1).nonzero()[:, 0]
    assert (changed.min(), changed.max()) == (64 + 4, 64 + 8 + 8 + 3)
    assert made[0, 1].min() < 0.07


def test_a_decoder_that_gets_an_envelope_sounds_as_it_did(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        codec, bare = Codec(TINY.codec, TINY.audio).eval(), Codec(BARE.codec, BARE.audio).eval()
    kept = {name: weight for name, weight in codec.state_dict().items() if ".envelope." not in name}
    bare.load_state_dict(kept)
    latent = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(codec.decode(latent), bare.decode(latent))
    assert bare.decoder.envelope is None


def test_gains_must_divide_a_hop_and_older_models_have_none() -> None:
    with pytest.raises(ConfigError, match=r"envelope_steps 3 does not divide codec\.stft_hop 16"):
        replace(TINY, codec=replace(TINY.codec, envelope_steps=3))
    older = to_dict(BARE)
    del older["codec"]["envelope_steps"]
    assert from_dict(ModelConfig, older) == BARE


def test_levels_are_those_about_the_middle_of_a_step() -> None:
    steady = torch.full((1, 1, 64), 0.1)
    found = level(steady, 8)
    assert found.shape == (1, 1, 8)
    # The first and the last window reach beyond the sound.
    torch.testing.assert_close(found[0, 0, 1:-1], torch.full((6,), math.log(0.1)))
    begun = torch.cat([torch.zeros(1, 1, 32), torch.ones(1, 1, 32)], dim=-1)
    rising = level(begun, 8)[0, 0]
    assert rising[2] < -9 < -2 < rising[3] < rising[4] < rising[5]
    assert math.isclose(rising[5], 0.0, abs_tol=1e-4)


@pytest.fixture
def stage(tmp_path: Path) -> EnvelopeStage:
    """On the codec of a checkpoint from before there were gains in time."""
    write_checkpoint(tmp_path / "model", ())
    tiny = Codec(BARE.codec, BARE.audio)
    save_part(tmp_path / "start", BARE, "codec", tiny)
    write_clips(tmp_path / "clips")
    clips = read_metadata_csv(tmp_path / "clips")
    cache = load_or_build_clip_cache(clips, tmp_path / "cache", RATE)
    config = EnvelopeStageConfig(str(tmp_path / "start"), pool=20, crop_frames=16, batch=8, wave_batch=2)
    return EnvelopeStage(config, TINY, clips, cache, lambda *_: None)


def test_what_is_asked_for_is_the_ratio_of_levels(stage: EnvelopeStage) -> None:
    original = 0.1 * torch.randn(2, 1, 256, generator=torch.Generator().manual_seed(3))
    for factor, wanted in ((2.0, -math.log(2)), (0.5, math.log(2)), (1e4, QUIETEST), (1e-3, LOUDEST)):
        found = stage.wanted(original, factor * original)
        assert found.shape == (2, 1, 16, 4)
        torch.testing.assert_close(found, torch.full_like(found, wanted), atol=1e-3, rtol=0)


def test_the_pool_is_decoded_as_the_codec_decodes(stage: EnvelopeStage) -> None:
    told: list[tuple[str, int, int]] = []
    again = EnvelopeStage(stage.settings, TINY, stage.clips, stage.cache, lambda *what: told.append(what))
    assert told == [("decoding crops", 0, 20), ("decoding crops", 16, 20), ("decoding crops", 20, 20)]
    assert all(torch.equal(one, other) for one, other in zip(stage.pool, again.pool, strict=True))
    assert [part.shape[0] for part in stage.pool] == [20, 20, 20]
    assert torch.equal(stage.batch(7), again.batch(7)) and not torch.equal(stage.batch(7), stage.batch(8))


def test_only_gains_learn_and_they_learn_what_they_should(stage: EnvelopeStage, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in stage.codec.state_dict().items()}
    (parameters,) = stage.groups().values()
    optimiser = torch.optim.Adam(parameters, 1e-2)
    generator = torch.Generator().manual_seed(0)
    first = stage.validate()
    for step in range(60):
        losses = stage.losses("envelope", stage.batch(step), generator)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    # The codec's weights are random, so its levels are far off; gains bring them near.
    assert stage.validate()["validation_envelope"] < 0.5 * first["validation_envelope"]
    changed = {n for n, w in stage.codec.state_dict().items() if not torch.equal(w, before[n])}
    assert changed == {n for n in before if n.startswith("decoder.envelope.")}
    stage.export(tmp_path / "made")
    assert (tmp_path / "made" / "codec.safetensors").is_file()


def test_a_start_is_needed_and_must_fit(stage: EnvelopeStage, tmp_path: Path) -> None:
    config, clips, cache = stage.settings, stage.clips, stage.cache

    def made(config: EnvelopeStageConfig, model: ModelConfig) -> EnvelopeStage:
        return EnvelopeStage(config, model, clips, cache, lambda *_: None)

    with pytest.raises(ConfigError, match=r"give envelope\.start"):
        made(replace(config, start=""), TINY)
    with pytest.raises(ConfigError, match="edge-tiny has no gains in time"):
        made(config, BARE)
    with pytest.raises(ConfigError, match="pool 0 is out of range: allowed are numbers from 1"):
        replace(config, pool=0)
    wider = replace(TINY, codec=replace(TINY.codec, frame_width=16))
    with pytest.raises(ConfigError, match="start holds a codec of another shape than edge-tiny has"):
        made(config, wider)


def test_validation_and_samples_are_made_on_the_device_that_trains(
    stage: EnvelopeStage, tmp_path: Path
) -> None:
    """On the meta device a tensor left on the CPU is an error of its own; here only values are missing."""
    stage.to(torch.device("meta"))
    with pytest.raises(RuntimeError, match=r"item|meta tensor"):
        stage.validate()
    with pytest.raises(RuntimeError, match="meta tensor"):
        stage.sample(tmp_path / "samples")
    with pytest.raises(RuntimeError, match=r"item|meta tensor"):
        CodecStage.validate(stage)
