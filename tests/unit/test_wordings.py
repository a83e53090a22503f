"""Free wordings in training."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from edge_tta.errors import ConfigError, DataError
from edge_tta.flow.couples import Simulation
from edge_tta.flow.objectives.alpha_flow import AlphaFlow
from edge_tta.flow.objectives.arc import text_classes
from edge_tta.flow.objectives.improved_mean_flow import ImprovedMeanFlow
from edge_tta.flow.objectives.integrated_flow import IntegratedFlow
from edge_tta.flow.objectives.mean_flow import MeanFlow
from edge_tta.flow.objectives.method import Objective
from edge_tta.flow.objectives.one_step import OneStepDistillation
from edge_tta.flow.objectives.reflow import Reflow
from edge_tta.flow.path import Condition
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.data.captions import Captioner
from edge_tta.train.latents import Batch
from edge_tta.train.stages.generator import GeneratorStageConfig
from edge_tta.train.text_features import OnEncoded, TextFeatures
from edge_tta.train.wordings import TextVariety, WordingPool

LABELS = ("dog bark", "rain", "piano")
WIDTH = 6


class CountingText:
    """Features that say which text they are of: the sum of its ids, in every place."""

    width, digest = WIDTH, "counting"

    def encode(self, texts: Iterable[str], on_progress: OnEncoded | None = None) -> dict[str, TextFeatures]:
        return {
            text: TextFeatures(
                np.full((len(tokenize(text)), WIDTH), sum(tokenize(text)), dtype=np.float16),
                np.full(WIDTH, sum(tokenize(text)), dtype=np.float32),
            )
            for text in texts
        }


def tokenize(text: str) -> list[int]:
    return [ord(letter) for letter in text] + [1]


def pool_of(variety: TextVariety) -> tuple[WordingPool, Batch]:
    features = CaptionFeatures()
    pool = WordingPool(variety, Captioner.from_package(), LABELS, features, seed=3)
    features.encode(CountingText(), pool.captions)
    labels = tuple((LABELS[row % 3],) for row in range(60)) + (("dog bark", "rain"),) * 12
    captions = tuple(f"stored {row}" for row in range(len(labels)))
    features.encode(CountingText(), captions)
    seconds = torch.linspace(0.5, 9, len(labels))
    return pool, Batch(
        torch.zeros(len(labels), 4, 2), features.condition(captions, seconds), labels, captions, 0
    )


def test_rows_of_one_label_are_told_wordings_of_that_label_and_the_teacher_plain_words() -> None:
    pool, batch = pool_of(TextVariety(wording_share=0.5, wordings=20))
    varied = pool.vary(batch, seed=0, step=5)
    told = [new != old for new, old in zip(varied.captions, batch.captions, strict=True)]
    assert 15 <= sum(told[:60]) <= 45 and not any(told[60:])
    plain = varied.condition.plain
    assert plain is not None
    for row, (changed, labels) in enumerate(zip(told, batch.labels, strict=True)):
        asked = pool.plain[labels[0]] if changed else batch.captions[row]
        assert varied.captions[row] in (pool.free[labels[0]] if changed else batch.captions)
        assert float(plain.pooled[row, 0]) == sum(tokenize(asked))
        assert float(varied.condition.pooled[row, 0]) == sum(tokenize(varied.captions[row]))
    assert torch.equal(varied.condition.seconds, batch.condition.seconds)
    assert torch.equal(plain.seconds, batch.condition.seconds)


def test_the_text_of_a_step_depends_on_seed_and_step_alone() -> None:
    pool, batch = pool_of(TextVariety(wording_share=0.8, mixing_share=0.5, noise=0.3, dropped_tokens=0.2))
    first, again = pool.vary(batch, 0, 5), pool.vary(batch, 0, 5)
    assert first.captions == again.captions
    assert torch.equal(first.condition.tokens, again.condition.tokens)
    assert torch.equal(first.condition.text_mask, again.condition.text_mask)
    assert first.captions != pool.vary(batch, 0, 6).captions
    assert first.captions != pool.vary(batch, 1, 5).captions


def test_what_a_teacher_is_asked_stays_while_a_batch_is_reused() -> None:
    pool, batch = pool_of(TextVariety(wording_share=0.5, mixing_share=0.5, noise=0.3, dropped_tokens=0.2))
    first, later = (pool.vary(batch, 0, step) for step in (5, 6))
    assert first.condition.plain is not None and later.condition.plain is not None
    assert first.captions != later.captions
    assert torch.equal(first.condition.plain.pooled, later.condition.plain.pooled)
    assert torch.equal(first.condition.plain.tokens, later.condition.plain.tokens)
    told = [
        [new != old for new, old in zip(varied.captions, batch.captions, strict=True)]
        for varied in (first, later)
    ]
    assert told[0] == told[1]
    other = pool.vary(dataclasses.replace(batch, step=1), 0, 5)
    assert other.condition.plain is not None
    assert not torch.equal(first.condition.plain.pooled, other.condition.plain.pooled)


def test_sentence_vectors_may_be_those_of_another_wording() -> None:
    pool, batch = pool_of(TextVariety(wording_share=1.0, mixing_share=1.0, wordings=20))
    varied = pool.vary(batch, 0, 0)
    own = torch.tensor([sum(tokenize(text)) for text in varied.captions[:60]])
    found = varied.condition.pooled[:60, 0]
    assert float((found != own).float().mean()) > 0.8
    for row in range(60):
        sums = {float(sum(tokenize(text))) for text in pool.free[batch.labels[row][0]]}
        assert float(found[row]) in sums


def test_noise_and_dropped_tokens_disturb_the_student_only() -> None:
    pool, batch = pool_of(TextVariety(noise=0.5, dropped_tokens=0.4))
    clean, varied = batch.condition, pool.vary(batch, 0, 0).condition
    assert varied.plain is not None
    assert torch.equal(varied.plain.tokens, clean.tokens) and torch.equal(varied.plain.pooled, clean.pooled)
    ratio = float((varied.pooled - clean.pooled).std() / clean.pooled.std())
    # Rows draw their strength uniformly up to twice the mean: root mean square 2 / sqrt(3) of it.
    assert ratio == pytest.approx(0.5 * 2 / 3**0.5, rel=0.15)
    lost = clean.text_mask & ~varied.text_mask
    assert not bool((varied.text_mask & ~clean.text_mask).any())
    assert float(lost.sum() / clean.text_mask.sum()) == pytest.approx(0.4, abs=0.08)
    ends = clean.text_mask.sum(1) - 1
    assert bool(varied.text_mask[torch.arange(len(ends)), ends].all())


def test_settings_out_of_range_are_refused() -> None:
    for settings in (
        {"wording_share": 1.1},
        {"noise": -0.1},
        {"dropped_tokens": float("nan")},
        {"wordings": 0},
    ):
        with pytest.raises(ConfigError):
            TextVariety(**settings)
    assert not TextVariety().active and TextVariety(noise=0.1).active


class Listener(torch.nn.Module):
    """Notes the sentence vectors it is told, and answers by them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.told: list[torch.Tensor] = []

    def forward(self, z: torch.Tensor, time: torch.Tensor, duration: torch.Tensor, tokens: torch.Tensor,
                pooled: torch.Tensor, *_: object, **__: object) -> torch.Tensor:  # fmt: skip
        self.told.append(pooled.detach().clone())
        return z * self.weight + 1e-3 * pooled[:, :1, None]


TAUGHT = (
    MeanFlow(),
    ImprovedMeanFlow(),
    AlphaFlow(),
    IntegratedFlow(teacher_steps=2),
    Reflow(simulation=Simulation(steps=2)),
    Reflow(simulation=Simulation(steps=2, classifier_free=False)),
    OneStepDistillation(Simulation(steps=2)),
)
VARIETY = TextVariety(wording_share=0.85, mixing_share=0.5, noise=0.3, dropped_tokens=0.4)


@pytest.mark.parametrize("objective", TAUGHT)
def test_every_teacher_hears_the_plain_words_and_the_student_those_of_the_step(objective: Objective) -> None:
    pool, batch = pool_of(VARIETY)
    told = pool.vary(batch, 0, 8).condition
    assert told.plain is not None
    teacher, student = Listener(), Listener()
    objective.method(student, teacher).losses("generator", batch.latents, told, 0, torch.Generator())
    rows = {tuple(row.tolist()) for row in told.plain.pooled}
    assert teacher.told and all(tuple(row.tolist()) in rows for part in teacher.told for row in part)
    assert not any(tuple(row.tolist()) in rows for part in student.told for row in part)


@pytest.mark.parametrize("objective", TAUGHT[3:])
def test_a_run_taken_up_in_the_middle_of_a_reuse_asks_as_an_unbroken_one(objective: Objective) -> None:
    pool, batch = pool_of(VARIETY)
    first, later = (pool.vary(batch, 0, step).condition for step in (8, 9))

    def last_loss(*conditions: Condition) -> torch.Tensor:
        method = objective.method(Listener(), Listener())
        for condition in conditions:
            found = method.losses("generator", batch.latents, condition, 4, torch.Generator().manual_seed(0))
        return found["loss"]

    assert torch.equal(last_loss(first, later), last_loss(later))


@pytest.mark.parametrize("variety", [VARIETY, TextVariety(noise=0.3), TextVariety(dropped_tokens=0.3)])
def test_disturbed_copies_of_a_caption_are_one_text_to_a_contrast(variety: TextVariety) -> None:
    pool, batch = pool_of(variety)
    captions = tuple(f"stored {row % 2}" for row in range(len(batch.labels)))
    # Mixtures keep their captions, so that two texts are left.
    alike = dataclasses.replace(
        batch,
        captions=captions,
        labels=(("dog bark", "rain"),) * len(captions),
        condition=pool.features.condition(captions, batch.condition.seconds),
    )
    classes = text_classes(pool.vary(alike, 0, 1).condition)
    assert classes.tolist() == [row % 2 for row in range(len(captions))]


def test_noise_does_not_depend_on_padding() -> None:
    ratios = []
    for padding in (0, 40):
        pool, batch = pool_of(TextVariety(noise=0.3))
        pool.features.features["long"] = np.zeros((30 + padding, WIDTH), dtype=np.float16)
        pool.features.pooled["long"] = np.zeros(WIDTH, dtype=np.float32)
        captions = ("long", *batch.captions[1:])
        clean = pool.features.condition(captions, batch.condition.seconds)
        varied = pool.vary(dataclasses.replace(batch, captions=captions, condition=clean), 0, 1).condition
        rows = clean.text_mask[1:]
        noise = (varied.tokens - clean.tokens)[1:][rows]
        ratios.append(float(noise.std() / clean.tokens[clean.text_mask].std()))
    # Rows draw their strength uniformly up to twice the mean.
    assert ratios == pytest.approx([0.3 * 2 / 3**0.5] * 2, rel=0.15)


def test_stored_couples_have_no_use_for_other_words() -> None:
    with pytest.raises(ConfigError, match=r"generator\.text varies windows"):
        GeneratorStageConfig(couples="somewhere", reflow=Reflow(), text=TextVariety(noise=0.1))


def test_plain_words_follow_their_rows() -> None:
    plain = Condition(
        torch.zeros(3, 2, WIDTH),
        torch.arange(3.0)[:, None].expand(3, WIDTH),
        torch.ones(3, 2).bool(),
        torch.ones(3),
    )
    told = Condition(plain.tokens, plain.pooled + 10, plain.text_mask, plain.seconds, plain)
    picked, doubled = told.rows(torch.tensor([2, 0])), told.twice()
    assert picked.plain is not None and picked.plain.pooled[:, 0].tolist() == [2.0, 0.0]
    assert doubled.plain is not None and len(doubled.plain.pooled) == len(doubled.pooled) == 6


def test_free_wordings_are_many_and_can_be_said() -> None:
    grammar = Captioner.from_package()
    rng = default_rng(1)
    for label in grammar.labels:
        drawn = [grammar.free(label, rng) for _ in range(60)]
        assert all(grammar.can_say(label, text) for text in drawn), label
        assert len(set(drawn)) > 24, label
    assert min(len(words.wordings) for words in grammar.labels.values()) >= 10


def test_packaged_wordings_are_many_and_each_says_one_label() -> None:
    text = resources.files("edge_tta.train.data").joinpath("wordings.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    grammar = Captioner.from_package()
    assert {row["label"] for row in rows} == set(grammar.labels)
    assert min(Counter(row["label"] for row in rows).values()) >= 30
    assert max(Counter(row["wording"].lower() for row in rows).values()) == 1
    for row in rows:
        assert row["wording"].isascii() and row["wording"] == " ".join(row["wording"].split())
        assert any(letter.isalnum() for letter in row["wording"])


def test_a_grammar_names_a_file_of_further_wordings(tmp_path: Path) -> None:
    grammar = tmp_path / "grammar.toml"
    lines = [
        "[labels.rain]",
        'kind = "texture"',
        'settings = "none"',
        'events = ["rain"]',
        'nouns = ["rain"]',
    ]
    grammar.write_text(
        "\n".join(['wordings = "more.csv"', *lines, 'wordings = ["a shower"]']), encoding="utf-8"
    )
    with pytest.raises(DataError, match="cannot be read"):
        Captioner.load(str(grammar))
    more = tmp_path / "more.csv"
    more.write_text("label,wording\nrain,wet weather\n", encoding="utf-8")
    assert Captioner.load(str(grammar)).labels["rain"].wordings == ("a shower", "wet weather")
    for wrong in ("label,wording\nsnow,quiet\n", "label,text\nrain,wet\n"):
        more.write_text(wrong, encoding="utf-8")
        with pytest.raises(DataError, match="no caption grammar"):
            Captioner.load(str(grammar))
