"""The whole way on the tiny preset: codec, text encoder, flow matching, MeanFlow, export, int8, sound."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tiny_data import write_teacher

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle.manifest import STAGES, Generation
from edge_tta.errors import ConfigError, DataError, TrainingError
from edge_tta.model.checkpoint import load_model_checkpoint, read_note
from edge_tta.model.presets import preset
from edge_tta.train.checkpoint import newest_run_state
from edge_tta.train.couple_data import CODEC, latents_of
from edge_tta.train.frozen import load_frozen
from edge_tta.train.recipes import list_recipes, load_recipe
from edge_tta.train.run import run_recipe
from edge_tta.train.teacher import Teacher
from export.assemble import export_bundle
from export.bundle_text import BundleText
from export.recipe import ExportRecipe, VariantRecipe

RATE = 44100
RECIPES = {name: load_recipe(name) for name in list_recipes()}
PUBLIC = {name for name, recipe in RECIPES.items() if recipe.generator and recipe.generator.public_text}
"""Recipes on public weights have a test of their own."""
GENERATOR_RECIPES = tuple(
    name for name in RECIPES if RECIPES[name].stage == "generator" and name not in PUBLIC
)
TINY = preset("edge-tiny")


def write_clips(folder: Path) -> None:
    """Two labels that differ plainly: tones and noise bursts."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows = []
    for index in range(12):
        count = int(RATE * draw.uniform(0.3, 0.8))
        label = "piano" if index % 2 else "rain"
        time = np.arange(count) / RATE
        sound = (
            0.5 * np.sin(2 * np.pi * 300 * (1 + index) * time)
            if index % 2
            else 0.2 * draw.standard_normal(count)
        )
        soundfile.write(folder / f"{index}.wav", sound.astype(np.float32), RATE)
        rows.append(
            {
                "file": f"{index}.wav",
                "label": label,
                "licence": "CC0",
                "split": "val" if index > 9 else "train",
            }
        )
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained for a few steps by every packaged recipe."""
    root = tmp_path_factory.mktemp("workshop")
    write_clips(root / "clips")
    write_teacher(root / "teacher")
    common = [
        f"checkpoint={root / 'model'}",
        "preset=edge-tiny",
        f"data.folder={root / 'clips'}",
        f"data.cache={root / 'cache'}",
    ]
    few = ["loop.steps=4", "loop.warmup_steps=1", "loop.log_every=2"]
    windows = [
        "data.num_windows=12",
        "data.num_validation_windows=4",
        "data.windows.max_seconds=1.0",
        "data.windows.short_seconds=0.8",
        "generator.frames=400",
        'generator.sample_prompts=["rain"]',
    ]
    recipes = {
        "codec": [
            *few,
            "codec.batch=2",
            "codec.crop_frames=32",
            "codec.wave_batch=2",
            # A spectrum of 17 bins has no room for steps.
            "codec.coder_edges_hz=[]",
        ],
        "text-encoder": [
            *few,
            f"text_encoder.teacher={root / 'teacher'}",
            "text_encoder.layers=[1]",
            "text_encoder.phrases=50",
            "text_encoder.captions_per_label=2",
            "text_encoder.joined_captions=20",
            "text_encoder.batch=8",
        ],
        "text-wordings": [*few, "text_wordings.layers=1", "text_wordings.rows=6"],
        "codec-adversarial": [
            *few,
            "codec.batch=2",
            "codec.crop_frames=64",
            "codec.wave_batch=1",
            "codec.coder_edges_hz=[]",
            f"codec.start={root / 'model'}",
        ],
        "codec-envelope": [
            *few,
            "envelope.pool=4",
            "envelope.batch=2",
            "envelope.crop_frames=64",
            "envelope.wave_batch=1",
            "envelope.coder_edges_hz=[]",
            f"envelope.start={root / 'model'}",
        ],
        "tagger": [
            *few,
            f"checkpoint={root / 'tagger'}",
            "tagger.minimum_clips=2",
            "tagger.batch=4",
            "tagger.development_share=0.3",
            "tagger.network.widths=[8, 12, 16]",
            "tagger.network.embedding=8",
        ],
        "flow": [*few, *windows],
    }
    recipes["speech-tagger"] = [
        f"checkpoint={root / 'speech-tagger'}" if item.startswith("checkpoint=") else item
        for item in recipes["tagger"]
    ]
    for name in sorted(set(RECIPES) - set(recipes) - PUBLIC):
        generator = RECIPES[name].generator
        assert generator is not None, name
        given = [key for key in ("start", "teacher") if getattr(generator, key)]
        recipes[name] = [*few, *windows, *(f"generator.{key}={root / 'model'}" for key in given)]
        # Compiling takes longer than these few steps, and has tests of its own.
        recipes[name].append("generator.compile=false")
        if generator.dmd2 is not None:
            # With five steps of the fake score to one of its own the generator would not move in four.
            recipes[name].append("generator.dmd2.fake_steps=2")
        if generator.quantization is not None:
            recipes[name].append("generator.quantization.min_elements=64")
    for name, overrides in recipes.items():
        # The flow model stays the start of all methods: what each of them makes of it is another checkpoint.
        target = root / "model"
        if name in GENERATOR_RECIPES and name != "flow":
            target = root / "methods" / name
            shutil.copytree(root / "model", target)
        own = [item for item in common if not item.startswith("checkpoint=")]
        given_checkpoint = [item for item in overrides if item.startswith("checkpoint=")]
        checkpoint = given_checkpoint or [f"checkpoint={target}"]
        result = run_recipe(name, [*own, *checkpoint, *overrides], output=root / "runs" / name)
        assert result["finished"] and result["step"] == 4
    return root


def test_every_recipe_leaves_logs_samples_and_a_checkpoint(workshop: Path) -> None:
    for run in (workshop / "runs").iterdir():
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        losses = [value for line in lines for key, value in line.items() if key.endswith("loss")]
        assert losses and all(np.isfinite(losses)), run.name
        assert max(path.name for path in (run / "checkpoints").iterdir()) == "step-00000004"
        assert list((run / "tensorboard").iterdir())
    for name in ("codec", *GENERATOR_RECIPES):
        samples = workshop / "runs" / name / "samples" / "step-00000004"
        assert (samples / "spectrograms.png").stat().st_size > 500
        assert list(samples.glob("*.wav"))
    parts = {path.name for path in (workshop / "model").iterdir()}
    assert parts == {
        "config.json",
        "codec.safetensors",
        "text_encoder.safetensors",
        "generator.safetensors",
        "tokenizer.model",
    }


@pytest.mark.parametrize("name", [name for name in GENERATOR_RECIPES if name != "flow"])
def test_every_method_leaves_a_generator_that_moved_and_is_finite(workshop: Path, name: str) -> None:
    start = load_file(workshop / "model" / "generator.safetensors")
    made = load_file(workshop / "methods" / name / "generator.safetensors")
    assert all(torch.isfinite(value.float()).all() for value in made.values())
    assert any(not torch.equal(value, start[key]) for key, value in made.items())


def test_a_new_model_takes_codec_and_text_encoder_from_another(workshop: Path, tmp_path: Path) -> None:
    settings = [
        "preset=edge-tiny", f"checkpoint={tmp_path / 'new'}", f"generator.codec={workshop / 'model'}",
        f"data.folder={workshop / 'clips'}", f"data.cache={workshop / 'cache'}", "data.num_windows=12",
        "data.num_validation_windows=4", "data.windows.max_seconds=1.0", "data.windows.short_seconds=0.8",
        "generator.frames=200", "loop.steps=2", "generator.sample_prompts=[]",
    ]  # fmt: skip
    run_recipe("flow", settings, output=tmp_path / "run")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {path.name for path in (workshop / "model").iterdir()}
    for name in names - {"generator.safetensors"}:
        assert (tmp_path / "new" / name).read_bytes() == (workshop / "model" / name).read_bytes(), name
    loaded = load_model_checkpoint(tmp_path / "new")
    assert loaded.text_encoder and loaded.generator and loaded.codec and loaded.tokenizer
    assert read_note(tmp_path / "new", "generator", CODEC) == latents_of(loaded.codec)
    # Its own are used from then on.
    run_recipe("flow", [*settings, "generator.codec="], output=tmp_path / "again")
    other = preset("edge-tiny")
    wider = replace(other, text_encoder=replace(other.text_encoder, depth=other.text_encoder.depth + 1))
    with pytest.raises(ConfigError, match="text encoder of another shape"):
        load_frozen(wider, tmp_path / "new", None, None, tmp_path / "text")


def test_the_trained_checkpoint_becomes_a_bundle_that_sounds(workshop: Path, tmp_path: Path) -> None:
    text = BundleText(
        "0.0.1",
        "Test.",
        "Apache-2.0",
        "Made by the test.",
        "# Test\n",
        "id\n",
        "",
        "workshop",
        Generation(default_guidance=2.0, min_guidance=1.0, max_guidance=5.0, max_steps=4),
    )
    small = tmp_path / "small.toml"
    table = '{ weights = "int8", activations = "dynamic", reduce_range = true }'
    tables = "".join(f"[{stage}]\nscheme = {table}\nmin_elements = 64\n" for stage in STAGES)
    rules = (
        '[[decoder.layers]]\npattern = "decoder.excitation.*"\nreason = "0/1 matrix and its running sum"\n'
    )
    rules += '[[generator.layers]]\npattern = "*_in.*"\nreason = "flow matching leaves some at zero"\n'
    small.write_text(f'name = "small"\ntarget = "onnx"\n{tables}{rules}')
    recipe = ExportRecipe(
        "test", (VariantRecipe("ort", "int8", quantization=str(small)), VariantRecipe("ort", "fp32"))
    )
    bundle = export_bundle(load_model_checkpoint(workshop / "model"), tmp_path / "bundle", text, recipe)
    assert set(bundle.variants) == {"ort-int8", "ort-fp32"}
    assert min(bundle.variants["ort-fp32"].parity_snr_db.values()) > 60
    for precision in ("fp32", "int8"):
        with TextToAudio.open(tmp_path / "bundle", precision=precision, threads=1) as model:
            for steps in (1, 3):
                result = model.generate(GenerationRequest("rain on a roof", seconds=0.9, steps=steps, seed=3))
                assert result.audio.frames == round(0.9 * RATE)
                assert result.precision == precision


def test_resume_of_a_recipe_needs_to_be_asked_for(workshop: Path) -> None:
    common = [
        f"checkpoint={workshop / 'model'}",
        "preset=edge-tiny",
        f"data.folder={workshop / 'clips'}",
        f"data.cache={workshop / 'cache'}",
        "loop.steps=4",
        "loop.warmup_steps=1",
        "loop.log_every=2",
        "codec.batch=2",
        "codec.crop_frames=32",
        "codec.wave_batch=2",
        "codec.coder_edges_hz=[]",
    ]
    with pytest.raises(ConfigError, match="--resume"):
        run_recipe("codec", common, output=workshop / "runs" / "codec")
    record = (workshop / "runs" / "codec" / "recipe.json").read_bytes()
    # Told before any data are looked for: the folder is not there.
    refused = [*common, "loop.learning_rate=7e-4", f"data.folder={workshop / 'nowhere'}"]
    with pytest.raises(TrainingError, match=r"loop\.learning_rate 0\.0007 \(was 0\.0008\);"):
        run_recipe("codec", refused, output=workshop / "runs" / "codec", resume=True)
    # What was refused leaves no trace: this is the one readable record of how the run was made.
    assert (workshop / "runs" / "codec" / "recipe.json").read_bytes() == record
    harmless = [*common, "loop.log_every=1", "loop.checkpoint_every=3"]
    again = run_recipe("codec", harmless, output=workshop / "runs" / "codec", resume=True)
    assert again["finished"] and again["step"] == 4


def test_clips_without_a_permissive_licence_are_left_out(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    table = tmp_path / "clips" / "metadata.csv"
    table.write_text(table.read_text().replace("CC0", "CC-BY-NC-3.0"))
    with pytest.raises(DataError, match="no clip has a permissive licence"):
        run_recipe("codec", [f"data.folder={tmp_path / 'clips'}"], output=tmp_path / "run")


def test_without_a_folder_the_message_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.folder"):
        run_recipe("codec", output=tmp_path / "run")


def test_teacher_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        Teacher(tmp_path)
    write_teacher(tmp_path / "teacher")
    save_file({"something": torch.zeros(1)}, tmp_path / "teacher" / "model.safetensors")
    with pytest.raises(DataError, match="has no"):
        Teacher(tmp_path / "teacher", heads=2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_by_its_exit_code(workshop: Path, number: int, code: int) -> None:
    """A script that goes on to export must not take it for a finished one."""
    run = workshop / "runs" / f"stopped-{code}"
    arguments = [f"data.folder={workshop / 'clips'}", f"data.cache={workshop / 'cache'}", "preset=edge-tiny"]
    arguments += [f"checkpoint={workshop / f'stopped-{code}'}", "loop.steps=100000", "loop.log_every=1"]
    arguments += ["codec.batch=2", "codec.crop_frames=64", "codec.wave_batch=1", "codec.coder_edges_hz=[]"]
    command = [sys.executable, "-m", "edge_tta.cli", "train", "codec", "-q", "-o", str(run)]
    command += [part for item in arguments for part in ("--set", item)]
    # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        log = run / "log.jsonl"
        while process.poll() is None and not (log.is_file() and log.stat().st_size):
            time.sleep(0.05)
        process.send_signal(number)
        told = process.stderr.read() if process.stderr is not None else b""
    assert process.returncode == code, told
    assert b"--resume goes on" in told
    assert newest_run_state(run / "checkpoints") is not None
