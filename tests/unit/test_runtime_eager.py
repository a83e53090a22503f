"""The torch modules as a backend agree with the exported graphs; a sound through the codec keeps its length."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
import torch
from typer.testing import CliRunner

from edge_tta.audio import Audio, read_audio, write_audio
from edge_tta.cli.main import app
from edge_tta.errors import BackendError, ConfigError, DataError, MissingExtraError
from edge_tta.flow.path import Condition
from edge_tta.flow.ping_pong import ping_pong as torch_ping_pong
from edge_tta.model.checkpoint import save_part
from edge_tta.model.reconstruct import reconstruct_file
from edge_tta.noise import gaussian_noise
from edge_tta.runtime import GenerationRequest, TextToAudio
from edge_tta.runtime.eager_backend import EagerBackend
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.runtime.sampler import ping_pong
from export.tiny import tiny_checkpoint

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint the committed tiny bundle was made from, stored as training stores it."""
    directory = tmp_path_factory.mktemp("tiny")
    tiny = tiny_checkpoint()
    for part in ("text_encoder", "generator", "codec"):
        save_part(directory, tiny.config, part, getattr(tiny, part))
    assert tiny.tokenizer is not None
    (directory / "tokenizer.model").write_bytes(tiny.tokenizer)
    return directory


@pytest.mark.parametrize("steps", [1, 3])
def test_eager_and_exported_graphs_agree(steps: int) -> None:
    # Float weights in both: a checkpoint on disk is bf16, and phases that are summed up over time would show it.
    request = GenerationRequest("a dog barking in the distance", 0.5, seed=11, steps=steps, guidance=3.0)
    with TextToAudio.open(TINY, backend="ort", precision="fp32", threads=1) as ort:
        exported = ort.generate(request)
        eager = TextToAudio(
            dataclasses.replace(ort.model, backend=EagerBackend(tiny_checkpoint(), threads=1))
        )
        made = eager.generate(request)
    assert signal_to_noise_db(exported.audio.samples, made.audio.samples) > 60


def test_ping_pong_of_the_runtime_is_that_of_training() -> None:
    tiny, seconds = tiny_checkpoint(), 0.5
    frames = tiny.config.audio.latent_frames(seconds)

    def draw(stream: int) -> NDArray[np.float32]:
        return gaussian_noise(5, (frames, tiny.config.audio.latent_channels), stream)[None]

    with TextToAudio.open(TINY, backend="ort", precision="fp32", threads=1) as ort:
        ids = ort.model.tokenizer.encode("a dog barking").ids[None]
        backend = EagerBackend(tiny, threads=1)
        text = backend.text_encoder(ids)
        found = ping_pong(
            lambda z, now, width: backend.generator(z, now, width, text, seconds, 2.0), draw(0), 4, draw
        )
        generation = ort.model.generation.model_copy(update={"sampler": "ping-pong"})
        request = GenerationRequest("a dog barking", seconds, seed=5, steps=4, guidance=2.0)
        sound = TextToAudio(dataclasses.replace(ort.model, generation=generation)).generate(request)
        walked = ort.generate(request)
    assert tiny.generator is not None
    features = [torch.from_numpy(part) for part in text]
    condition = Condition(features[0], features[1], torch.ones(ids.shape).bool(), torch.tensor([seconds]))
    trained = torch_ping_pong(
        tiny.generator,
        torch.from_numpy(draw(0)),
        condition,
        4,
        lambda step: torch.from_numpy(draw(step)),
        2.0,
    )
    np.testing.assert_allclose(found, trained.numpy(), atol=1e-4)
    # The bundle decides which one is walked.
    with torch.no_grad():
        assert tiny.codec is not None
        expected = tiny.codec.decode(trained)[0].numpy()
    finished, *_ = finish_waveform(expected, sound.audio.frames, sound.audio.sample_rate)
    assert signal_to_noise_db(finished, sound.audio.samples) > 40
    assert signal_to_noise_db(finished, walked.audio.samples) < 20


def test_checkpoint_directory_as_a_model(checkpoint: Path) -> None:
    request = GenerationRequest("a dog barking in the distance", 0.5, seed=11, guidance=3.0)
    with TextToAudio.open(checkpoint, backend="eager", precision="fp32", threads=1) as eager:
        made, again = eager.generate(request), eager.generate(request)
    assert made.audio.samples.tobytes() == again.audio.samples.tobytes()
    assert (made.backend, made.precision, made.threads) == ("eager", "fp32", 1)
    assert made.bundle.startswith("edge-tiny@")
    with TextToAudio.open(TINY, backend="ort", precision="fp32", threads=1) as ort:
        exported = ort.generate(request)
    # bf16 keeps 8 bits: the same sound, roughly.
    assert signal_to_noise_db(exported.audio.samples, made.audio.samples) > 10


def test_threads_of_the_process_are_left_alone(checkpoint: Path) -> None:
    before = torch.get_num_threads()
    with TextToAudio.open(checkpoint, backend="eager", precision="fp32", threads=before + 1) as model:
        model.warmup()
    assert torch.get_num_threads() == before


def test_eager_refuses_what_it_cannot_do(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match="backend eager runs fp32, not int8"):
        TextToAudio.open(checkpoint, backend="eager")
    with pytest.raises(BackendError, match="backend eager runs a model checkpoint"):
        TextToAudio.open(backend="eager", precision="fp32")
    with pytest.raises(ConfigError, match="is no checkpoint"):
        TextToAudio.open(tmp_path, backend="eager", precision="fp32")
    with TextToAudio.open(checkpoint, backend="eager", precision="fp32") as model:
        backend = model.model.backend
    with pytest.raises(BackendError, match="the backend is closed"):
        backend.decoder(np.zeros((1, 2, 4), np.float32))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "edge_tta.runtime.eager_backend", raising=False)
    with pytest.raises(MissingExtraError, match="the eager backend needs the 'train' extra"):
        TextToAudio.open(checkpoint, backend="eager", precision="fp32")


def test_limits_come_from_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    directory.mkdir()
    for path in checkpoint.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    facts = (
        'default_guidance = 2.5\nmin_guidance = 1.0\nmax_guidance = 4.0\nmax_steps = 2\nversion = "1.0.0"\n'
    )
    (directory / "bundle.toml").write_text(facts)
    with TextToAudio.open(directory, backend="eager", precision="fp32") as model:
        assert model.generate(GenerationRequest("wind", 0.5)).guidance == 2.5
        assert model.model.generation.max_steps == 2
    (directory / "bundle.toml").write_text("max_steps = 2\n")
    with pytest.raises(ConfigError, match="default_guidance"):
        TextToAudio.open(directory, backend="eager", precision="fp32")


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (22050, 2)])
def test_reconstruct(checkpoint: Path, tmp_path: Path, rate: int, channels: int) -> None:
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate // 2 + 13) / rate)
    source = Audio(np.tile(tone.astype(np.float32), (channels, 1)), rate)
    write_audio(source, tmp_path / "in.wav")
    arguments = ["reconstruct", str(tmp_path / "in.wav"), "-o", str(tmp_path / "out.wav")]
    result = CliRunner().invoke(app, [*arguments, "--checkpoint", str(checkpoint)])
    assert result.exit_code == 0, result.stderr
    made = read_audio(tmp_path / "out.wav")
    assert (made.channels, made.sample_rate) == (1, 44100)
    assert abs(made.frames - round(source.frames * 44100 / rate)) <= 1
    assert made.peak > 0


def test_reconstruct_refuses(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.wav"
    with pytest.raises(DataError, match=r"missing.wav"):
        reconstruct_file(tmp_path / "missing.wav", output, checkpoint)
    with pytest.raises(ConfigError, match="is no checkpoint"):
        reconstruct_file(tmp_path / "missing.wav", output, tmp_path)
    write_audio(Audio(np.zeros((1, 8000 * 121), np.float32), 8000), tmp_path / "long.wav")
    with pytest.raises(DataError, match="121 s long, at most 120 s are allowed"):
        reconstruct_file(tmp_path / "long.wav", output, checkpoint)
    assert not output.exists()
