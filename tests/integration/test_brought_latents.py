"""Latents made on one machine are trained on elsewhere, without clips, to the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_data import write_checkpoint, write_clips

from edge_tta.errors import ConfigError, DataError, EdgeTTAError
from edge_tta.model.checkpoint import load_model_checkpoint, load_part, read_config, save_part
from edge_tta.train.run import run_recipe

SETTINGS = (
    "preset=edge-tiny", "data.num_windows=10", "data.num_validation_windows=4", "data.windows.max_seconds=0.8",
    "data.windows.short_seconds=0.6", "generator.frames=300", "loop.steps=3", "loop.warmup_steps=1",
    "loop.validate_every=3",
)  # fmt: skip


def train(folder: Path, *settings: str) -> None:
    """Three steps of flow matching from a checkpoint in ``folder``."""
    if not (folder / "model").exists():
        write_checkpoint(folder / "model", ("codec", "text_encoder"))
    own = [f"checkpoint={folder / 'model'}", f"data.cache={folder / 'cache'}"]
    run_recipe("flow", [*SETTINGS, *own, *settings], output=folder / "run")


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that had clips; its checkpoint lies beside the cache."""
    folder = tmp_path_factory.mktemp("here")
    write_clips(folder / "clips")
    train(folder, f"data.folder={folder / 'clips'}")
    (found,) = (folder / "cache").glob("latents-*")
    return found


def test_the_same_weights_come_of_it(latents: Path, tmp_path: Path) -> None:
    shutil.copytree(latents, tmp_path / "brought")
    train(tmp_path, f"data.latents={tmp_path / 'brought'}")
    here, there = (load_model_checkpoint(folder / "model") for folder in (latents.parents[1], tmp_path))
    assert here.generator is not None and there.generator is not None
    theirs = there.generator.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in here.generator.state_dict().items())
    assert not list((tmp_path / "cache").glob("clips-*"))
    logs = [(folder / "run" / "log.jsonl").read_text() for folder in (latents.parents[1], tmp_path)]
    assert all('"validation"' in log for log in logs)


def test_what_does_not_belong_is_refused(latents: Path, tmp_path: Path) -> None:
    def refused(folder: Path, error: type[EdgeTTAError], message: str) -> None:
        with pytest.raises(error, match=message):
            train(tmp_path, f"data.latents={folder}")
        assert not (tmp_path / "run").exists()

    refused(tmp_path / "nowhere", ConfigError, "has no latents.json")
    for name, text in (("damaged", "{"), ("other", '{"codec": "0"}')):
        shutil.copytree(latents, tmp_path / name)
        (tmp_path / name / "latents.json").write_text(text)
    refused(tmp_path / "damaged", DataError, "damaged")
    refused(tmp_path / "other", DataError, "another codec")
    (tmp_path / "empty").mkdir()
    shutil.copy(latents / "latents.json", tmp_path / "empty")
    refused(tmp_path / "empty", DataError, "no shards of the train split")
    # A codec that was trained on has other latents, under whatever name.
    config = read_config(tmp_path / "model")
    codec = load_part(tmp_path / "model", config, "codec")
    with torch.no_grad():
        next(codec.encoder.parameters()).add_(1.0)
    save_part(tmp_path / "model", config, "codec", codec)
    refused(latents, DataError, "another codec")
