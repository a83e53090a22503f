"""A start or teacher of other latents is refused in one line, where anything says which ones it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_tta.errors import ConfigError
from edge_tta.model import checkpoint
from edge_tta.model.checkpoint import load_part, part_files, read_note, save_part
from edge_tta.model.codec import Codec
from edge_tta.model.presets import preset
from edge_tta.train.couple_data import CODEC, latents_of
from edge_tta.train.couple_plan import CouplePlan
from edge_tta.train.couples import make_couples
from edge_tta.train.frozen import FrozenParts
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import frozen_parts
from tests.support.tiny_data import write_checkpoint

TINY = preset("edge-tiny")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole checkpoint, whose codec the runs below have."""
    write_checkpoint(tmp_path / "model")
    return tmp_path / "model"


def codec_of(directory: Path) -> Codec:
    loaded = load_part(directory, TINY, "codec")
    assert isinstance(loaded, Codec)
    return loaded


def change_codec(directory: Path, part: str) -> None:
    """As training would, and by as much as bf16 tells apart."""
    codec = codec_of(directory)
    with torch.no_grad():
        for weight in codec.get_submodule(part).parameters():
            weight.add_(0.25)
    save_part(directory, TINY, "codec", codec)


def run_of(model: Path, start: Path, key: str = "start") -> FrozenParts:
    settings = ["preset=edge-tiny", f"checkpoint={model}", f"data.cache={model.parent / 'cache'}"]
    places = {"start": model, "teacher": model, key: start}
    settings += [f"generator.{name}={place}" for name, place in places.items()]
    return frozen_parts(load_recipe("integrated-flow", settings), TINY)


def alone(folder: Path, note: tuple[str, str] | None = None) -> Path:
    """A generator in a folder of its own."""
    save_part(folder, TINY, "generator", load_part(folder.parent / "model", TINY, "generator"), note)
    return folder


@pytest.mark.parametrize("key", ["start", "teacher"])
def test_a_generator_beside_another_codec_is_refused(model: Path, tmp_path: Path, key: str) -> None:
    write_checkpoint(tmp_path / "other")
    run_of(model, tmp_path / "other", key)
    # A new decoder makes other sounds of the same latents.
    change_codec(tmp_path / "other", "decoder.magnitude")
    run_of(model, tmp_path / "other", key)
    change_codec(tmp_path / "other", "encoder")
    ours, theirs = (latents_of(codec_of(tmp_path / name))[:12] for name in ("model", "other"))
    with pytest.raises(ConfigError) as caught:
        run_of(model, tmp_path / "other", key)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'other'} has a generator for the latents of another codec")
    assert f"({theirs}, this run has {ours} of {model})" in message and "\n" not in message


def test_what_the_weights_say_counts_before_the_codec_beside_them(model: Path, tmp_path: Path) -> None:
    ours = latents_of(codec_of(model))
    run_of(model, alone(tmp_path / "nothing said"))
    run_of(model, alone(tmp_path / "the same", (CODEC, ours)))
    with pytest.raises(ConfigError, match="latents of another codec"):
        run_of(model, alone(tmp_path / "other", (CODEC, "0" * 64)))
    # The codec was trained on beside a generator of before.
    write_checkpoint(tmp_path / "moved on")
    change_codec(tmp_path / "moved on", "encoder")
    run_of(model, alone(tmp_path / "moved on", (CODEC, ours)))


def test_couples_are_not_made_by_a_teacher_of_other_latents(model: Path, tmp_path: Path) -> None:
    teacher = alone(tmp_path / "other", (CODEC, "0" * 64))
    plan = CouplePlan(checkpoint=str(model), teacher=str(teacher), text_cache=str(tmp_path / "text"))
    with pytest.raises(ConfigError, match="latents of another codec"):
        make_couples(plan, tmp_path / "couples", 4, "cpu")
    assert not (tmp_path / "couples").exists()


def test_a_note_is_in_every_file_of_a_part_and_leaves_equal_bytes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MAX_SHARD_BYTES", 4000)
    folders = [alone(tmp_path / name, (CODEC, "a" * 64)) for name in ("one", "two")]
    files = [part_files(folder, "generator") for folder in folders]
    assert len(files[0]) > 2
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert all(b"a" * 64 in path.read_bytes()[:4000] for path in files[0])
    assert read_note(folders[0], "generator", CODEC) == "a" * 64
    assert read_note(model, "generator", CODEC) is None and read_note(tmp_path, "generator", CODEC) is None
    files[0][0].write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="safetensors"):
        read_note(folders[0], "generator", CODEC)
