"""Training the text encoder on free wordings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from numpy.random import default_rng

from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import load_model_checkpoint, save_part
from edge_tta.model.presets import preset
from edge_tta.train.data.captions import Captioner
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe
from edge_tta.train.stages.wording import WordingStage, WordingStageConfig, is_held_out, spread
from tests.support.tiny_data import write_checkpoint

GRAMMAR = """
[labels.{label}]
kind = "event"
settings = "none"
events = ["{label}"]
nouns = ["{label}"]
wordings = [{wordings}]
"""
SHIPPED = Path(__file__).parents[2] / "checkpoints/edge-10m"
WORDS = {
    "rain": ["wet weather on the roof", "a downpour", "drizzle outside", "it pours"],
    "dog": ["a hound speaks up", "canine alarm", "a puppy yaps", "the terrier again"],
    "bell": ["a chime in a tower", "ding dong", "the carillon", "a gong far away"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wordings") / "model"
    write_checkpoint(folder, ("text_encoder",))
    return folder


def settings(**changes: object) -> WordingStageConfig:
    return dataclasses.replace(WordingStageConfig(layers=1, rows=12), **changes)  # type: ignore[arg-type]


def stage_of(model: Path, **changes: object) -> WordingStage:
    return WordingStage(settings(**changes), preset("edge-tiny"), model)


def test_features_are_spread_in_order_over_more_and_fewer_tokens() -> None:
    features = torch.arange(4.0)[None, :, None].repeat(4, 1, 1)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    onto = torch.tensor(
        [[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]
    ).bool()
    found = spread(features, mask, onto)[..., 0]
    assert found[0].tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert found[1][onto[1]].tolist() == [0, 3]
    assert found[2][onto[2]].tolist() == [0, 1, 2]
    assert found[3][onto[3]].tolist() == [1]


def test_the_encoder_at_the_start_keeps_captions_and_is_far_from_wordings(model: Path) -> None:
    figures = stage_of(model).validate()
    assert figures["distance_stored"] == pytest.approx(0, abs=1e-9)
    assert figures["distance_wording"] > 0.1 and figures["distance_joined"] > 0.1


def test_only_the_last_layers_learn(model: Path) -> None:
    stage = stage_of(model)
    depth = len(stage.student.layers)
    stage.losses("text_encoder", stage.batch(0), torch.Generator())["loss"].backward()
    moved = {name for name, weight in stage.student.named_parameters() if weight.grad is not None}
    assert moved and all(name.startswith(f"layers.{depth - 1}.") for name in moved)
    assert len(stage.groups()["text_encoder"]) == len(moved)
    assert all(weight.grad is None for weight in stage.start.parameters())


def test_a_batch_depends_on_the_step_alone(model: Path) -> None:
    stage = stage_of(model)
    first, again, other = stage.batch(4), stage.batch(4), stage.batch(5)
    assert torch.equal(first.told, again.told) and torch.equal(first.plain, again.plain)
    assert first.told.shape != other.told.shape or not torch.equal(first.told, other.told)


def test_plain_words_are_told_in_their_share_and_mean_what_they_meant(model: Path) -> None:
    stage, rows = stage_of(model, plain_share=0.5, stored_share=0.0, joined_share=0.0), 0
    plain = {stage.captioner.plain(label) for label in stage.captioner.labels}
    for step in range(20):
        rng = default_rng([0, step])
        told, meant = stage._pair(stage.captioner, rng, None)
        assert meant in plain
        rows += told.lower().rstrip(".") == meant
    assert 4 <= rows <= 16
    figures = stage_of(model, plain_share=1.0, stored_share=0.0, joined_share=0.0, dropped_tokens=0.0)
    error = figures.losses("text_encoder", figures.batch(0), torch.Generator())["loss"].detach()
    # A final full stop is all that differs.
    assert float(error) < 0.1 * figures.validate()["distance_wording"]


def test_a_run_that_goes_on_keeps_the_features_of_the_first_start(model: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    for name in ("config.json", "text_encoder.safetensors", "tokenizer.model"):
        (later / name).write_bytes((model / name).read_bytes())
    loaded = load_model_checkpoint(later, parts=("text_encoder",))
    assert loaded.text_encoder is not None
    with torch.no_grad():
        loaded.text_encoder.layers[-1].query.weight.mul_(3)
    save_part(later, loaded.config, "text_encoder", loaded.text_encoder)
    assert stage_of(later).validate()["distance_stored"] < 1e-9
    held = stage_of(later, teacher=str(model))
    assert held.validate()["distance_stored"] > 1e-6
    start = load_model_checkpoint(model, parts=("text_encoder",)).text_encoder
    assert start is not None
    assert all(
        torch.equal(weight, start.state_dict()[name]) for name, weight in held.start.state_dict().items()
    )


def test_held_out_wordings_are_never_told(model: Path) -> None:
    stage, grammar = stage_of(model, held_out=0.3), Captioner.from_package()
    for label, words in grammar.labels.items():
        held = {text for text in words.wordings if is_held_out(text, 0.3)}
        assert set(stage.captioner.labels[label].wordings) == set(words.wordings) - held
        if held:
            assert set(stage.validation.labels[label].wordings) == held
    held_out = sum(len(words.wordings) for words in stage.validation.labels.values())
    assert 0.28 < held_out / sum(len(words.wordings) for words in grammar.labels.values()) < 0.32


def test_lost_tokens_are_hidden_and_the_end_of_sentence_is_not(model: Path) -> None:
    whole, lossy = stage_of(model, dropped_tokens=0.0).batch(3), stage_of(model, dropped_tokens=0.9).batch(3)
    assert torch.equal(whole.told, lossy.told)
    assert int(lossy.told_mask.sum()) < int(whole.told_mask.sum())
    ends = whole.told_mask.sum(1) - 1
    assert bool(lossy.told_mask[torch.arange(len(ends)), ends].all())


def test_two_labels_are_joined_the_same_way_in_free_and_in_plain_words() -> None:
    grammar, rng = Captioner.from_package(), default_rng(0)
    told, plain = zip(*(grammar.join_free("rain", "dog bark", rng) for _ in range(200)), strict=True)
    assert all(grammar.plain("rain") in text and grammar.plain("dog bark") in text for text in plain)
    assert len(set(plain)) <= 12 and len(set(told)) > 100


def test_training_brings_wordings_to_the_features_of_the_plain_words(model: Path, tmp_path: Path) -> None:
    grammar, target = tmp_path / "three.toml", tmp_path / "target"
    quoted = {label: ", ".join(f'"{text}"' for text in texts) for label, texts in WORDS.items()}
    grammar.write_text(
        "".join(GRAMMAR.format(label=label, wordings=texts) for label, texts in quoted.items()), "utf-8"
    )
    target.mkdir()
    for name in ("config.json", "text_encoder.safetensors", "tokenizer.model"):
        (target / name).write_bytes((model / name).read_bytes())
    options = {"captions": str(grammar), "held_out": 0.2, "dropped_tokens": 0.0}
    before = stage_of(model, **options)
    overrides = [
        "preset=edge-tiny", f"checkpoint={target}", "loop.steps=150", "loop.learning_rate=1e-2",
        "loop.average_decay=0.9", "loop.warmup_steps=5", "text_wordings.layers=1", "text_wordings.rows=12",
        *(f"text_wordings.{name}={value}" for name, value in options.items()),
    ]  # fmt: skip
    assert run_recipe("text-wordings", overrides, output=tmp_path / "run")["finished"]
    after = stage_of(model, **options)
    encoder = load_model_checkpoint(target, parts=("text_encoder",)).text_encoder
    assert encoder is not None
    after.student.load_state_dict(encoder.state_dict())
    first, last = before.validate(), after.validate()
    assert last["distance_trained"] < 0.6 * first["distance_trained"]
    assert last["distance_stored"] < last["distance_trained"]


def test_what_cannot_be_trained_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layers is 99"):
        stage_of(model, layers=99)
    with pytest.raises(ConfigError, match="no free wordings"):
        stage_of(model, captions="digits")
    write_checkpoint(tmp_path / "generator", ("generator",))
    with pytest.raises(ConfigError, match="has no text_encoder"):
        WordingStage(settings(), preset("edge-tiny"), tmp_path / "generator")
    with pytest.raises(ConfigError, match=r"held_out 1\.5 is out of range: allowed are 0 to 1"):
        settings(held_out=1.5)
    with pytest.raises(ConfigError, match="more than 1"):
        settings(stored_share=0.5, plain_share=0.6)
    with pytest.raises(ConfigError, match="has no text_encoder"):
        stage_of(model, teacher=str(tmp_path / "generator"))
    with pytest.raises(ConfigError, match="another text encoder or tokenizer"):
        stage_of(model, teacher=str(SHIPPED))
    assert load_recipe("text-wordings").part == "text_encoder"
