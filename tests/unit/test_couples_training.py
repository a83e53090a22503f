"""Couples made from a checkpoint, stored in shards, and learnt from: resumable, whole, and of one codec and encoder."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_data import write_checkpoint, write_clips
from typer.testing import CliRunner

from edge_tta.cli.main import app
from edge_tta.config import dict_digest, to_dict
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.flow.couple_store import read_couple_shard
from edge_tta.flow.couples import Anchoring, Simulation
from edge_tta.flow.objectives.flow_matching import FlowMatching
from edge_tta.flow.objectives.method import GENERATOR
from edge_tta.flow.objectives.one_step import OneStepDistillation
from edge_tta.flow.objectives.reflow import Reflow
from edge_tta.flow.sampler import sample
from edge_tta.model.checkpoint import load_model_checkpoint, read_config, save_part
from edge_tta.train.couple_data import CoupleData, origin_of
from edge_tta.train.couple_plan import CouplePlan, change_simulation, plan_of_recipe
from edge_tta.train.couples import make_couples
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.windows import WindowPolicy
from edge_tta.train.frozen import load_frozen
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe
from edge_tta.train.stages.generator import GeneratorStage, GeneratorStageConfig

SHORT = WindowPolicy(min_seconds=0.06, short_seconds=0.1, max_seconds=0.2, mixture_share=0.3)
"""16 to 64 latent frames of the tiny model."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    write_checkpoint(folder)
    return folder


def plan_of(model: Path, **changes: Any) -> CouplePlan:
    simulation = Simulation(steps=2, min_guidance=2.0, max_guidance=6.0)
    plan = CouplePlan(
        str(model),
        simulation=simulation,
        windows=SHORT,
        frames=160,
        seed=5,
        text_cache=str(model.parent / "text"),
    )
    return dataclasses.replace(plan, **changes)


@pytest.fixture(scope="module")
def couples(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 couples in shards of 12."""
    folder = tmp_path_factory.mktemp("couples") / "set"
    assert make_couples(plan_of(model), folder, 28, "cpu", shard_couples=12)["made"] == 28
    return folder


@pytest.fixture(scope="module")
def folder_of_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds") / "clips"
    write_clips(folder)
    return folder


def data_of(model: Path, couples: Path) -> CoupleData:
    frozen = load_frozen(read_config(model), model, None, None, model.parent / "text")
    data = CoupleData(couples, origin_of(frozen.codec, frozen.text))
    data.encode(frozen.text, data.captions)
    return data


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_progress_is_told_after_every_batch_with_the_time_that_is_left(model: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    make_couples(plan_of(model), tmp_path, 28, "cpu", lambda *news: told.append(news), shard_couples=12)
    done = [item[0] for item in told]
    assert done == sorted(done) and done[-1] == 28 and len(set(done)) > 4
    assert {item[1] for item in told} == {28}
    assert told[0][2] > 0 and told[-1][2] == 0


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    model: Path, couples: Path, tmp_path: Path
) -> None:
    def stop(done: int, *_: object) -> None:
        if done > 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_couples(plan_of(model), tmp_path, 28, "cpu", stop, shard_couples=12)
    assert [path.name for path in tmp_path.iterdir()] == ["couples-00000.safetensors"]
    outcome = make_couples(plan_of(model), tmp_path, 28, "cpu", shard_couples=12)
    assert outcome["made"] == 16 and outcome["couples"] == 28 and outcome["shards"] == 3
    assert bytes_of(tmp_path) == bytes_of(couples)
    assert make_couples(plan_of(model), tmp_path, 28, "cpu", shard_couples=12)["made"] == 0


def test_a_larger_count_adds_and_a_damaged_shard_is_made_again(
    model: Path, couples: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    shutil.copytree(couples, folder)
    (folder / "couples-00000.safetensors").write_bytes(b"half")
    assert make_couples(plan_of(model), folder, 36, "cpu", shard_couples=12)["made"] == 24
    assert len(data_of(model, folder)) == 36
    kept = [f"couples-{number:05d}.safetensors" for number in range(2)]
    assert all((folder / name).read_bytes() == (couples / name).read_bytes() for name in kept)


def test_a_folder_of_other_couples_is_refused(model: Path, couples: Path, tmp_path: Path) -> None:
    before = bytes_of(couples)
    other = write_checkpoint(tmp_path / "other")
    assert other.generator is not None
    with torch.no_grad():
        other.generator.audio_out.linear.bias += 1
    save_part(tmp_path / "other", other.config, "generator", other.generator)
    for plan in (plan_of(model, seed=6), plan_of(model, frames=100), plan_of(tmp_path / "other")):
        with pytest.raises(OutputError, match="other networks or settings"):
            make_couples(plan, couples, 28, "cpu", shard_couples=12)
    assert bytes_of(couples) == before


def test_stored_couples_are_what_the_sampler_makes_of_their_own_caption(model: Path, couples: Path) -> None:
    data, generator = data_of(model, couples), load_model_checkpoint(model).generator
    assert generator is not None
    lengths = set()
    for step in range(5):
        batch = data.batch(0, step, 120)
        lengths.add(batch.couples.noise.shape[1])
        for row in range(len(batch.captions)):
            one = slice(row, row + 1)
            guidance = float(batch.couples.guidance[row])
            assert 2 <= guidance <= 6
            made = sample(
                generator,
                batch.couples.noise[one],
                batch.condition.rows(one),
                2,
                guidance,
                classifier_free=True,
            )
            torch.testing.assert_close(made, batch.couples.data[one], atol=5e-3, rtol=5e-3)
    assert len(lengths) > 1 and all(length % 8 == 0 for length in lengths)
    spoken = {record["caption"]: record["seconds"] for record in data.stored.records}
    assert len(spoken) > 20
    assert all(0.04 < seconds <= 0.2 for seconds in spoken.values())


def test_durations_take_as_many_latent_frames_as_the_couple_has(model: Path, couples: Path) -> None:
    data, audio = data_of(model, couples), load_model_checkpoint(model, ()).config.audio
    for record, length in zip(data.stored.records, data.stored.lengths.tolist(), strict=True):
        assert abs(audio.latent_frames(record["seconds"]) - length) <= 1


def changed(model: Path, folder: Path, part: str, tensor: str) -> Path:
    """A copy of the checkpoint with one tensor of a part changed."""
    shutil.copytree(model, folder)
    loaded = load_model_checkpoint(model)
    module = getattr(loaded, part)
    state = module.state_dict()
    state[tensor] = state[tensor] + 0.5
    module.load_state_dict(state)
    save_part(folder, loaded.config, part, module)
    return folder


@pytest.mark.parametrize(
    ("part", "tensor", "what"),
    [
        ("codec", "encoder.frame_in.bias", "another codec"),
        ("codec", "decoder.latent_std", "another codec"),
        ("codec", "decoder.latent_in.bias", ""),
        ("text_encoder", "positions", "another text encoder"),
    ],
)
def test_couples_of_another_codec_or_text_encoder_are_refused(
    model: Path, couples: Path, tmp_path: Path, part: str, tensor: str, what: str
) -> None:
    other = changed(model, tmp_path / "model", part, tensor)
    if not what:
        # A new decoder for the same latents is no other codec.
        assert len(data_of(other, couples)) == 28
        return
    with pytest.raises(DataError, match=what) as caught:
        data_of(other, couples)
    assert "\n" not in str(caught.value) and "couples-00000" in str(caught.value)


def test_a_folder_without_couples_says_how_to_make_them(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="edge-tta couples"):
        data_of(model, tmp_path)


def stage_of(model: Path, couples: Path, **settings: Any) -> GeneratorStage:
    frozen = load_frozen(read_config(model), model, None, None, model.parent / "text")
    config = GeneratorStageConfig(
        start=str(model), teacher="nowhere", couples=str(couples), frames=400, **settings
    )
    return GeneratorStage(config, read_config(model), data_of(model, couples), None, frozen)


def test_batches_are_never_paired_anew(model: Path, couples: Path) -> None:
    stage = stage_of(model, couples, reflow=Reflow(), reuse=8)
    data = data_of(model, couples)
    record_of = {}
    for index, caption in enumerate(record["caption"] for record in data.stored.records):
        record_of.setdefault(caption, []).append(data.stored.rows([index]).couples)
    seen = set()
    for step in range(12):
        batch = stage.batch(step)
        seen |= set(batch.captions)
        for row, caption in enumerate(batch.captions):
            assert any(
                torch.equal(batch.couples.noise[row], own.noise[0])
                and torch.equal(batch.couples.data[row], own.data[0])
                and batch.couples.guidance[row] == own.guidance[0]
                for own in record_of[caption]
            )
    # Not held for eight steps, as batches of a teacher would be.
    assert len(seen) > 15
    assert torch.equal(stage.batch(3).couples.noise, stage.batch(3).couples.noise)


@pytest.mark.parametrize("objective", [Reflow(), OneStepDistillation()])
def test_the_loss_on_stored_couples_falls(model: Path, couples: Path, objective: Any) -> None:
    name = "reflow" if isinstance(objective, Reflow) else "one_step"
    stage = stage_of(model, couples, **{name: objective})
    optimiser = torch.optim.Adam(stage.groups()[GENERATOR], 3e-3)
    losses = []
    for step in range(60):
        optimiser.zero_grad()
        found = stage.losses(GENERATOR, stage.batch(step), torch.Generator().manual_seed(step))
        found["loss"].backward()
        optimiser.step()
        losses.append(float(found["loss"].detach()))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    with pytest.raises(ConfigError, match="no teacher"):
        stage.method.losses(GENERATOR, torch.zeros(1, 8, 4), stage.batch(0).condition, 0, torch.Generator())


@pytest.mark.parametrize("recipe", ["reflow", "one-step"])
def test_recipes_train_from_couples_without_clips_or_teacher(
    model: Path, couples: Path, tmp_path: Path, recipe: str
) -> None:
    target = tmp_path / "made"
    shutil.copytree(model, target)
    overrides = [
        "preset=edge-tiny", f"checkpoint={target}", f"generator.start={model}", f"generator.couples={couples}",
        "loop.steps=3", "loop.warmup_steps=1", "loop.log_every=1", "generator.frames=200",
        f"data.cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    outcome = run_recipe(recipe, overrides, output=tmp_path / "run")
    assert outcome["finished"]
    seconds = sum(record["seconds"] for record in data_of(model, couples).stored.records)
    assert outcome["data"]["training"] == {"couples": 28, "hours": round(seconds / 3600, 4)}
    assert outcome["data"]["source"] == str(couples) and "validation" not in outcome["data"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [value for line in lines for key, value in line.items() if key.endswith("loss")]
    assert losses and np.isfinite(losses).all()
    start, made = (load_file(folder / "generator.safetensors") for folder in (model, target))
    assert any(not torch.equal(value, start[name]) for name, value in made.items())


def test_a_dry_run_looks_for_couples_and_for_clips_to_validate_on(
    couples: Path, folder_of_clips: Path, tmp_path: Path
) -> None:
    settings = ["preset=edge-tiny", f"data.folder={folder_of_clips}"]
    found = run_recipe("reflow", [*settings, f"generator.couples={couples}"], dry_run=True)["data"]
    assert found["training"]["couples"] == 28 and found["validation"]["clips"] == 4
    assert found["left_out"] == {"couples are learnt from in place of clips": 8}
    with pytest.raises(DataError, match="holds no couples"):
        run_recipe("reflow", [*settings, f"generator.couples={tmp_path}"], dry_run=True)
    (tmp_path / "couples-00000.safetensors").write_bytes(b"half")
    with pytest.raises(DataError, match=r"couples-00000\.safetensors: no shard of couples"):
        run_recipe("reflow", [*settings, f"generator.couples={tmp_path}"], dry_run=True)


def test_couples_are_for_objectives_that_learn_from_them() -> None:
    with pytest.raises(ConfigError, match="reflow and one_step"):
        GeneratorStageConfig(couples="somewhere", flow_matching=FlowMatching())


def test_new_settings_at_their_defaults_leave_the_digest_of_a_recipe() -> None:
    """Runs begun before there were couples, grammars, public text and wordings can be resumed."""
    recipe = load_recipe("reflow")
    plain = to_dict(recipe)
    for name in ("codec", "couples", "public_text", "quantization", "sample_seconds", "text"):
        del plain["generator"][name]
    for name in ("captions", "latents", "own_caption_share"):
        del plain["data"][name]
    del plain["text_wordings"], plain["envelope"]
    assert recipe.digest() == dict_digest(plain)
    for override in ("generator.couples=somewhere", "data.captions=digits", "data.own_caption_share=1"):
        assert load_recipe("reflow", [override]).digest() != recipe.digest()
    assert load_recipe("tagger").digest() != load_recipe("codec").digest()


def test_a_recipe_lends_teacher_simulation_and_labels(tmp_path: Path) -> None:
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "licence", "split"])
        for number in range(10):
            label = "rain" if number < 9 else "piano"
            writer.writerow([f"{number}.wav", label, "CC0", "train"])
        writer.writerow(["held.wav", "siren", "CC0", "val"])
    plan = plan_of_recipe(load_recipe("reflow", [f"data.folder={tmp_path}", "generator.teacher=there"]))
    assert plan.labels == ("piano", "rain") and plan.label_weights == (1.0, 3.0)
    assert plan.teacher == "there" and plan.simulation.steps == 16 and plan.simulation.classifier_free
    assert plan_of_recipe(load_recipe("one-step")).simulation.classifier_free is False
    assert plan_of_recipe(load_recipe("flow")).labels == ()
    with pytest.raises(ConfigError, match="codec"):
        plan_of_recipe(load_recipe("codec"))


def test_settings_of_the_command_line() -> None:
    base = Simulation(steps=16, min_guidance=2.0, max_guidance=6.0)
    assert change_simulation(base) == base
    found = change_simulation(base, 8, "4", anchored=True)
    assert found == Simulation(8, 4.0, 4.0, anchoring=Anchoring())
    own = dataclasses.replace(base, anchoring=Anchoring(iterations=2))
    assert change_simulation(own, guidance="1:3", anchored=True).anchoring == Anchoring(iterations=2)
    assert change_simulation(base, reflowed=True).classifier_free is False
    for settings in ({"guidance": "loud"}, {"guidance": "6:2"}, {"anchored": True, "reflowed": True}):
        with pytest.raises(ConfigError):
            change_simulation(base, **settings)  # type: ignore[arg-type]


def test_the_command_line_makes_anchored_couples(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["couples", "--checkpoint", str(model), "-o", str(tmp_path / "set"), "--count", "2"]
    arguments += ["--steps", "1", "--guidance", "4", "--anchored", "--captions", "digits", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    outcome = json.loads(result.stdout)
    assert outcome["schema"] == "couples/1" and outcome["couples"] == 2 and outcome["drift"] is not None
    _, document = read_couple_shard(tmp_path / "set" / "couples-00000.safetensors")
    assert document["simulation"]["anchoring"]["iterations"] == 10
    digits = set(Captioner.from_package("digits").labels)
    assert all(
        digits & set(text["caption"].lower().strip(".").replace(",", " ").split())
        for text in document["records"]
    )
    for wrong, word in (
        (["couples", "-o", "x"], "recipe or --checkpoint"),
        (["couples", "reflow", "--checkpoint", "y", "-o", "x"], "one of the two"),
        ([*arguments, "--guidance", "loud"], "guidance 'loud'"),
        ([*arguments, "--device", "abacus"], "abacus"),
        ([*arguments, "--set", "loop.steps=1"], "--set"),
        (["couples", "--checkpoint", str(tmp_path), "-o", "x", "-q"], "config.json"),
    ):
        refused = CliRunner().invoke(app, wrong)
        assert refused.exit_code == 2 and word in refused.stderr, refused.output
        assert refused.stderr.count("\n") == 1
