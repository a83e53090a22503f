"""Frames of the generator that hold several of the codec: the same codec, latents and sounds in fewer, wider frames."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_checkpoint, write_clips

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError, DataError
from edge_tta.model.checkpoint import ModelCheckpoint, load_model_checkpoint
from edge_tta.model.codec import Codec
from edge_tta.model.presets import PRESETS, preset, stacked
from edge_tta.noise import gaussian_noise
from edge_tta.runtime.eager_backend import EagerBackend
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.train.couple_data import CODEC, TEXT_ENCODER, latent_digest, origin_of
from edge_tta.train.latents import LatentSet
from edge_tta.train.run import run_recipe
from edge_tta.train.text_conditioner import CompactText
from export.random_weights import random_checkpoint, write_random_bundle
from export.recipe import join_recipes, load_export_recipe
from export.tiny import tiny_checkpoint

TINY = preset("edge-tiny")
DOUBLE = stacked(TINY, 2)


@pytest.fixture
def codecs() -> tuple[Codec, Codec]:
    """One codec with single frames, and the same with two in one."""
    single, double = Codec(TINY.codec, TINY.audio).eval(), Codec(DOUBLE.codec, DOUBLE.audio).eval()
    draw = torch.Generator().manual_seed(0)
    single.set_latent_statistics(torch.randn(4, generator=draw), torch.rand(4, generator=draw) + 0.5)
    double.load_state_dict(single.state_dict(), strict=True)
    return single, double


def test_half_the_frames_of_twice_the_channels() -> None:
    assert (DOUBLE.audio.hop, DOUBLE.audio.latent_channels) == (256, 8)
    assert DOUBLE.codec_alone() == TINY.codec_alone() == (TINY.audio, TINY.codec)
    assert stacked(DOUBLE, 1) == TINY and stacked(TINY, 1) == TINY
    with pytest.raises(ConfigError, match=r"latent_channels differ: audio 8, codec 4, generator 8"):
        replace(DOUBLE, codec=TINY.codec)
    with pytest.raises(ConfigError, match=r"latent_channels differ: audio 4, codec 2 times 4, generator 4"):
        replace(TINY, codec=DOUBLE.codec)
    with pytest.raises(ConfigError, match=r"codec\.stack 3 does not divide the 16 STFT frames of audio\.hop"):
        stacked_by_hand = replace(DOUBLE.codec, stack=3)
        channels = {"latent_channels": 12}
        replace(
            DOUBLE,
            audio=replace(DOUBLE.audio, **channels),
            generator=replace(DOUBLE.generator, **channels),
            codec=stacked_by_hand,
        )


def test_the_codec_stays_the_same_to_the_bit(codecs: tuple[Codec, Codec]) -> None:
    single, double = codecs
    sound = torch.randn(2, 1, 6 * 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latent, wide = single.encode(sound), double.encode(sound)
        assert latent.shape == (2, 6, 4) and wide.shape == (2, 3, 8)
        assert torch.equal(latent.reshape(2, 3, 8), wide)
        assert torch.equal(single.decode(latent), double.decode(wide))
        assert torch.equal(single.decoder.spectrum(latent).delay, double.decoder.spectrum(wide).delay)
    # A latent lies in memory as it did, so the same seed is the same noise.
    assert np.array_equal(gaussian_noise(3, (6, 4)).reshape(3, 8), gaussian_noise(3, (3, 8)))


def write_shard(path: Path, lengths: list[int]) -> np.ndarray:
    """Windows of these lengths in frames of the codec."""
    values = np.arange(sum(lengths) * 4, dtype=np.float16).reshape(-1, 4)
    record = {"labels": ["rain"], "captions": ["rain"], "seconds": 9.0}
    records = np.frombuffer(json.dumps([record] * len(lengths)).encode(), dtype=np.uint8)
    np.savez(path, latents=values, lengths=np.array(lengths), records=records)
    return values


def test_stored_latents_serve_every_stack(tmp_path: Path) -> None:
    values = write_shard(tmp_path / "train-0000.npz", [7, 7, 7, 7, 7])
    mean, std = torch.arange(4.0), torch.tensor([1.0, 2.0, 4.0, 8.0])
    latents = LatentSet([tmp_path / "train-0000.npz"], mean, std, DOUBLE)
    latents.features["rain"] = np.zeros((1, 8), dtype=np.float16)
    latents.pooled["rain"] = np.zeros(8, dtype=np.float32)
    batch = latents.batch(0, 0, 12)
    # Seven frames are three pairs; the last one is left out.
    assert batch.latents.shape == (4, 3, 8) and list(latents.lengths) == [3] * 5
    windows = values.reshape(5, 7, 4)[:, :6]
    back = (batch.latents.reshape(4, 6, 4) * std + mean).numpy()
    assert all(any(np.array_equal(row, window) for window in windows) for row in back)
    assert float(batch.condition.seconds[0]) == pytest.approx(3 * 256 / 44100)


def test_windows_shorter_than_a_stacked_frame_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0000.npz", [7, 1])
    with pytest.raises(DataError, match="shorter than a latent frame of 2"):
        LatentSet([tmp_path / "train-0000.npz"], torch.zeros(4), torch.ones(4), DOUBLE)


def test_a_stacked_model_learns_from_latents_and_codec_of_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(tmp_path / "clips")
    write_checkpoint(tmp_path / "single", ("codec", "text_encoder"))
    settings = [
        "data.num_windows=10", "data.num_validation_windows=4", "data.windows.max_seconds=0.8",
        "data.windows.short_seconds=0.6", "generator.frames=300", "loop.steps=2", "loop.warmup_steps=1",
        f"data.cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    first = ["preset=edge-tiny", f"checkpoint={tmp_path / 'single'}", f"data.folder={tmp_path / 'clips'}"]
    run_recipe("flow", [*settings, *first], output=tmp_path / "run-single")
    (latents,) = (tmp_path / "cache").glob("latents-*")

    monkeypatch.setitem(PRESETS, "edge-tiny-stacked", replace(DOUBLE, name="edge-tiny-stacked"))
    own = ["preset=edge-tiny-stacked", f"checkpoint={tmp_path / 'double'}", f"data.latents={latents}"]
    source = f"generator.codec={tmp_path / 'single'}"
    run_recipe("flow", [*settings, *own, source], output=tmp_path / "run-double")
    made = load_model_checkpoint(tmp_path / "double")
    assert made.codec is not None and made.codec.decoder.config.stack == 2
    assert made.generator is not None and made.generator.config.latent_channels == 8
    names = "codec.safetensors", "text_encoder.safetensors"
    assert all(
        (tmp_path / "double" / n).read_bytes() == (tmp_path / "single" / n).read_bytes() for n in names
    )
    # From then on with its own.
    run_recipe("flow", [*settings, *own], output=tmp_path / "again")

    # Its codec can be trained on from there, gains in time and all.
    codec = [
        "preset=edge-tiny-stacked", f"checkpoint={tmp_path / 'codec'}", f"codec.start={tmp_path / 'single'}",
        f"data.folder={tmp_path / 'clips'}", f"data.cache={tmp_path / 'cache'}", "codec.freeze_encoder=true",
        "codec.coder_edges_hz=[]",
    ]  # fmt: skip
    run_recipe("codec", [*codec, "loop.steps=1", "loop.learning_rate=1e-12"], output=tmp_path / "run-codec")
    trained = load_model_checkpoint(tmp_path / "codec", parts=("codec",)).codec
    assert trained is not None and trained.decoder.config.stack == 2
    start = made.codec.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in trained.state_dict().items())

    monkeypatch.setitem(PRESETS, "edge-tiny-other", _another_codec())
    other = ["preset=edge-tiny-other", f"checkpoint={tmp_path / 'other'}", f"data.latents={latents}", source]
    with pytest.raises(ConfigError, match="codec of another shape"):
        run_recipe("flow", [*settings, *other], output=tmp_path / "run-other")


def _another_codec() -> ModelConfig:
    return replace(DOUBLE, name="edge-tiny-other", codec=replace(DOUBLE.codec, frame_width=16))


def test_couples_of_another_stack_are_refused(codecs: tuple[Codec, Codec]) -> None:
    tiny = tiny_checkpoint()
    assert tiny.text_encoder is not None and tiny.tokenizer is not None
    text = CompactText(tiny.text_encoder, tiny.tokenizer)  # type: ignore[arg-type]
    single, double = (origin_of(codec, text) for codec in codecs)
    assert single[CODEC] != double[CODEC] and single[TEXT_ENCODER] == double[TEXT_ENCODER]
    assert latent_digest(codecs[0]) == latent_digest(codecs[1])


@pytest.fixture(scope="module")
def checkpoint() -> ModelCheckpoint:
    tokenizer = tiny_checkpoint().tokenizer
    assert tokenizer is not None
    return random_checkpoint(DOUBLE, tokenizer)


def test_a_stacked_bundle_sounds_as_its_checkpoint(checkpoint: ModelCheckpoint, tmp_path: Path) -> None:
    recipe = join_recipes([load_export_recipe("onnx")], precisions=("fp32",))
    write_random_bundle(checkpoint, tmp_path / "bundle", recipe)
    request = GenerationRequest("a dog barking in the distance", 0.5, seed=11, steps=2, guidance=3.0)
    with TextToAudio.open(tmp_path / "bundle", precision="fp32", threads=1) as ort:
        exported = ort.generate(request)
        eager = TextToAudio(dataclasses.replace(ort.model, backend=EagerBackend(checkpoint, threads=1)))
        made = eager.generate(request)
    assert exported.audio.samples.shape == (1, 22050)
    assert signal_to_noise_db(exported.audio.samples, made.audio.samples) > 60
