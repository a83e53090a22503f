"""Paper conditioning from end to end: training on a public T5, couples of it, export with it, sound."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the public extra")

from public_weights import write_clap, write_t5
from tiny_data import write_checkpoint, write_clips
from typer.testing import CliRunner, Result

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.cli.main import app
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.local_weights import folder_digest
from edge_tta.model.checkpoint import load_model_checkpoint, read_config
from edge_tta.model.public_t5 import FILES
from edge_tta.model.text_source import TextSource, read_text_source
from edge_tta.runtime.golden import check_golden
from edge_tta.train.couple_plan import plan_of_recipe
from edge_tta.train.couples import make_couples
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe

SMALL = """
name = "small"
target = "onnx"
[generator]
scheme = { weights = "int8", activations = "dynamic", reduce_range = true }
min_elements = 64
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, a codec, public weights, and a model trained on them: flow matching, then MeanFlow."""
    root = tmp_path_factory.mktemp("public")
    write_clips(root / "clips")
    write_checkpoint(root / "codec", ("codec",))
    write_t5(root / "t5")
    write_clap(root / "clap")
    for recipe, start in (("meanaudio-flow", None), ("meanaudio", "flow")):
        target = "flow" if start is None else "mean"
        outcome = train(
            root, recipe, target, start, "generator.text.wording_share=0.5", "generator.text.noise=0.1"
        )
        assert outcome["finished"]
    return root


def overrides(root: Path, target: str, start: str | None, *more: str) -> list[str]:
    return [
        "preset=edge-tiny", f"checkpoint={root / target}", f"generator.codec={root / 'codec'}",
        f"generator.public_text.t5={root / 't5'}", f"data.folder={root / 'clips'}", f"data.cache={root / 'cache'}",
        "data.num_windows=12", "data.num_validation_windows=4", "data.windows.max_seconds=1.0",
        "data.windows.short_seconds=0.8", "generator.frames=400", 'generator.sample_prompts=["rain"]',
        "loop.steps=3", "loop.warmup_steps=1", "loop.log_every=1", "loop.accumulate=1", "loop.precision=fp32",
        *([] if start is None else [f"generator.start={root / start}"]), *more,
    ]  # fmt: skip


def train(root: Path, recipe: str, target: str, start: str | None, *more: str) -> dict[str, object]:
    return run_recipe(recipe, overrides(root, target, start, *more), output=root / "runs" / target)


def test_the_checkpoint_is_whole_and_says_what_it_was_told_by(root: Path) -> None:
    for name in ("flow", "mean"):
        folder = root / name
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "codec.safetensors", "generator.safetensors", "text_source.json"
        }  # fmt: skip
        config = read_config(folder)
        assert config.name == "edge-tiny-t5" and config.generator.text_width == 8
        assert config.text_encoder.max_tokens == 77
        assert read_text_source(folder) == TextSource(folder_digest(root / "t5", FILES), 77)
        own, theirs = ((root / place / "codec.safetensors").read_bytes() for place in (name, "codec"))
        assert own == theirs
        lines = [json.loads(line) for line in (root / "runs" / name / "log.jsonl").read_text().splitlines()]
        assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
        assert "validation_velocity_error" in lines[-1]["validation"]
        assert list((root / "runs" / name / "samples" / "step-00000003").glob("*.wav"))
    first, second = (
        load_model_checkpoint(root / name, ("generator",)).generator for name in ("flow", "mean")
    )
    assert first is not None and second is not None
    assert any(not a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    # One set of latents and one of features serve both runs.
    assert len(list((root / "cache").glob("latents-*"))) == 1
    assert len(list((root / "cache" / "text").iterdir())) == 1


def test_a_run_that_is_repeated_encodes_nothing(root: Path) -> None:
    shards = {path: path.stat().st_mtime_ns for path in (root / "cache" / "text").rglob("*.npz")}
    outcome = run_recipe(
        "meanaudio",
        overrides(root, "mean", "flow", "generator.text.wording_share=0.5", "generator.text.noise=0.1"),
        resume=True,
        output=root / "runs" / "mean",
    )
    assert outcome["finished"] and outcome["step"] == 3
    assert {path: path.stat().st_mtime_ns for path in (root / "cache" / "text").rglob("*.npz")} == shards


def test_a_dry_run_reads_no_weights(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "t5" / "config.json", tmp_path)
    settings = overrides(root, "mean", None, f"generator.public_text.t5={tmp_path}")
    outcome = run_recipe("meanaudio", settings, dry_run=True)
    generator = load_model_checkpoint(root / "mean", ("generator",)).generator
    assert generator is not None
    assert outcome["parameters"] == sum(weight.numel() for weight in generator.parameters())
    with pytest.raises(ConfigError, match=r"give generator\.public_text\.t5"):
        run_recipe("meanaudio", dry_run=True)


def test_another_text_is_refused_before_training(root: Path, tmp_path: Path) -> None:
    other = write_t5(tmp_path / "other", num_layers=1)
    write_checkpoint(tmp_path / "compact")
    mine = f"checkpoint={tmp_path / 'made'}"
    cases = {
        "the T5 .* this run has the T5": [f"generator.public_text.t5={other}"],
        "with up to 20 tokens": ["generator.public_text.max_tokens=20"],
        "and the CLAP": [f"generator.public_text.clap={root / 'clap'}", "generator.start=" + str(root / "flow")],
        "trained on the features of a compact": [f"generator.start={tmp_path / 'compact'}"],
        "holds another model": [f"checkpoint={root / 'codec'}"],
    }  # fmt: skip
    for message, more in cases.items():
        with pytest.raises(ConfigError, match=message) as caught:
            run_recipe("meanaudio", overrides(root, "mean", "flow", mine, *more), output=tmp_path / "run")
        assert "\n" not in str(caught.value)
    # Nor may a recipe forget what its checkpoint was told by.
    forgetful = [text for text in overrides(root, "mean", None) if "public_text" not in text]
    with pytest.raises(ConfigError):
        run_recipe("flow", [*forgetful, "generator.codec="], output=tmp_path / "run")
    assert not (tmp_path / "made").exists() and not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_with_another_codec_is_refused(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "made"
    shutil.copytree(root / "flow", target)
    codec = target / "codec.safetensors"
    codec.write_bytes(codec.read_bytes()[:-1] + b"\1")
    with pytest.raises(ConfigError, match="a codec of its own"):
        run_recipe(
            "meanaudio", overrides(root, "mean", "flow", f"checkpoint={target}"), output=tmp_path / "run"
        )


def test_couples_are_made_and_learnt_from(root: Path, tmp_path: Path) -> None:
    more = [
        f"generator.teacher={root / 'flow'}",
        "generator.reflow.simulation.steps=2",
        "generator.max_frames=64",
    ]
    recipe = load_recipe("reflow", overrides(root, "reflow", "flow", *more))
    plan = plan_of_recipe(recipe)
    outcome = make_couples(plan, tmp_path / "couples", 12, "cpu", shard_couples=8)
    assert outcome["made"] == 12
    learn = [*more, f"generator.couples={tmp_path / 'couples'}"]
    assert train(root, "reflow", "reflow", "flow", *learn)["finished"]
    assert (root / "reflow" / "codec.safetensors").is_file() and (
        root / "reflow" / "text_source.json"
    ).is_file()
    other = write_t5(tmp_path / "other", num_layers=1)
    changed = overrides(root, "reflow", "flow", *more, f"generator.public_text.t5={other}")
    with pytest.raises(ConfigError, match="was trained on the features of the T5"):
        make_couples(plan_of_recipe(load_recipe("reflow", changed)), tmp_path / "others", 12, "cpu")
    write_checkpoint(tmp_path / "compact")
    compact = [
        "preset=edge-tiny",
        f"checkpoint={tmp_path / 'compact'}",
        f"generator.start={tmp_path / 'compact'}",
    ]
    with pytest.raises(DataError, match="another text encoder"):
        run_recipe("reflow", [*compact, learn[-1], "loop.steps=1"], output=tmp_path / "run")
    result = run("couples", "--checkpoint", str(root / "flow"), "-o", str(tmp_path / "none"), "-q")
    assert result.exit_code == 2 and "told its texts by a public T5" in result.stderr


@pytest.fixture(scope="module")
def described(root: Path) -> Path:
    """The trained checkpoint with what a bundle says about itself, and a recipe for small layers."""
    pytest.importorskip("optimum.exporters.onnx", reason="needs the public extra")
    folder = root / "described"
    shutil.copytree(root / "mean", folder)
    (folder / "MODEL_CARD.md").write_text("# Test\n")
    (folder / "ATTRIBUTIONS.csv").write_text("id\n")
    (folder / "bundle.toml").write_text(
        'version = "0.0.1"\ndescription = "Test"\nlicence = "Apache-2.0"\ntraining_data = "Of the test"\n'
        "default_guidance = 3.0\nmin_guidance = 1.0\nmax_guidance = 5.0\nmax_steps = 4\n"
    )
    (root / "small.toml").write_text(SMALL)
    (root / "export.toml").write_text(
        f'name = "test"\n[[variants]]\nbackend = "ort"\nprecision = "int8"\nquantization = "{root / "small.toml"}"\n'
        '[[variants]]\nbackend = "ort"\nprecision = "fp32"\n'
    )
    return folder


def test_the_exported_bundle_runs_with_the_public_text_encoder(
    root: Path, described: Path, tmp_path: Path
) -> None:
    arguments = ("export", str(described), "--target", str(root / "export.toml"), "-q", "--json")
    result = run(*arguments, "--text-encoder", str(root / "t5"), "-o", str(tmp_path / "bundle"))
    assert result.exit_code == 0, result.output
    parity = json.loads(result.stdout)["parity_snr_db"]
    assert min(parity["ort-fp32"].values()) > 60
    assert parity["ort-int8"]["text_encoder"] > 20
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.read(bundle.manifest.tokenizer) == (root / "t5" / "spiece.model").read_bytes()
    assert {"optimum", "transformers"} <= set(bundle.manifest.provenance.tools)
    for precision in ("fp32", "int8"):
        with TextToAudio.open(bundle, backend="ort", precision=precision, threads=1) as model:
            sounds = [
                model.generate(GenerationRequest(prompt, seconds=0.5, steps=steps, seed=1)).audio.samples
                for prompt, steps in (
                    ("rain on a tin roof", 1),
                    ("an engine idles", 1),
                    ("an engine idles", 2),
                )
            ]
        assert all(np.isfinite(sound).all() and np.abs(sound).max() > 0 for sound in sounds)
        assert not np.array_equal(sounds[0], sounds[1]) and not np.array_equal(sounds[1], sounds[2])
    assert all(figure.snr_db > 60 for figure in check_golden(bundle) if figure.variant == "ort-fp32")


def test_what_cannot_be_exported_says_why(root: Path, described: Path, tmp_path: Path) -> None:
    other = write_t5(tmp_path / "other", num_layers=1)
    write_checkpoint(tmp_path / "compact")
    for name in ("bundle.toml", "MODEL_CARD.md", "ATTRIBUTIONS.csv"):
        shutil.copy(described / name, tmp_path / "compact")
    with_clap = tmp_path / "with-clap"
    shutil.copytree(described, with_clap)
    source = json.loads((with_clap / "text_source.json").read_text())
    (with_clap / "text_source.json").write_text(json.dumps({**source, "clap_sha256": "0" * 64}))
    t5 = ["--text-encoder", str(root / "t5")]
    for checkpoint, more, message in (
        (described, [], "give the folder of that T5 with --text-encoder"),
        (described, ["--text-encoder", str(other)], "is another T5"),
        (described, ["--text-encoder", str(tmp_path)], "not a T5 folder"),
        (with_clap, t5, "CLAP's sentence vector"),
        (tmp_path / "compact", t5, "leave --text-encoder out"),
    ):
        result = run("export", str(checkpoint), "-o", str(tmp_path / "bundle"), "-q", *more)
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert result.stderr.count("\n") == 1 and not (tmp_path / "bundle").exists()
    result = run("generate", "rain", "--bundle", str(described), "--backend", "eager", "--precision", "fp32")
    assert result.exit_code == 2 and "export it with --text-encoder" in result.stderr


def test_with_clap_the_features_are_wider_and_train_as_well(root: Path) -> None:
    outcome = train(root, "meanaudio-flow", "clap-model", None, f"generator.public_text.clap={root / 'clap'}")
    assert outcome["finished"]
    assert read_config(root / "clap-model").generator.text_width == 12
    source = read_text_source(root / "clap-model")
    assert source is not None and len(source.clap_sha256) == 64


def test_a_damaged_text_source_is_one_line(tmp_path: Path) -> None:
    strange = '{"t5_sha256": "0", "max_tokens": 77, "clip": ""}'
    for text, message in (("{", "text_source.json"), (strange, "unknown key")):
        (tmp_path / "text_source.json").write_text(text)
        with pytest.raises(ConfigError, match=message) as caught:
            read_text_source(tmp_path)
        assert "\n" not in str(caught.value)
