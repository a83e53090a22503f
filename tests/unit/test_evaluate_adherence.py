"""Ranks of labels among seven, counted clip by clip, label by label and beside real clips."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tta.evaluate.adherence import adherence, both_present, ranks, relative_top5
from edge_tta.evaluate.balance import label_weights
from edge_tta.evaluate.tagger import Tagger, TaggerConfig, Tags, build_network

LABELS = "abcdefg"
CONFIG = TaggerConfig(widths=(8, 12, 16), embedding=8, dropout=0.0)


@pytest.fixture(scope="module")
def judge() -> Tagger:
    return Tagger(build_network(len(LABELS), CONFIG), list(LABELS), CONFIG, "digest")


def verdicts(logits: np.ndarray) -> Tags:
    return Tags(np.zeros((len(logits), 2), dtype=np.float32), logits)


def test_adherence_counts_ranks(judge: Tagger) -> None:
    logits = np.zeros((4, 7), dtype=np.float32)
    logits[0, 0] = 1.0  # a first
    logits[1] = [0.5, 6, 5, 4, 3, 2, 1]  # a last
    logits[2] = [2, 6, 5, 4, 3, 1, 0]  # a fifth
    logits[3, 1] = 1.0  # b first
    tags = verdicts(logits)
    assert ranks(tags, ["a", "a", "a", "b"], judge).tolist() == [0, 6, 4, 0]
    found = adherence(tags, ["a", "a", "a", "b"], judge)
    assert found.top1.value == 0.5
    assert found.top5.value == 0.75
    assert [(row.label, row.n, row.top1, row.top5) for row in found.labels] == [
        ("a", 3, 1, 2),
        ("b", 1, 1, 1),
    ]
    rows = adherence(tags, ["a", "g", "a", "b"], judge).worst_first()
    assert [(row.label, row.top5 / row.n) for row in rows] == [("g", 0.0), ("a", 1.0), ("b", 1.0)]
    both = both_present(tags, [("a", "g"), ("b", "c"), ("b", "c"), ("a", "b")], judge)
    assert both.value == 0.75


def test_the_share_of_the_real_clips_own_is_over_common_labels(judge: Tagger) -> None:
    def tags(hits: list[bool], labels: list[str]) -> Tags:
        logits = np.zeros((len(hits), len(LABELS)), dtype=np.float32)
        for row, (hit, label) in enumerate(zip(hits, labels, strict=True)):
            logits[row, LABELS.index(label)] = 1.0 if hit else -1.0
        return verdicts(logits)

    made_of, real_of = ["a", "a", "b", "b", "c", "c"], ["a", "a", "a", "b"]
    made = adherence(tags([True, False, True, True, False, False], made_of), made_of, judge)
    weights = label_weights(real_of, made_of)
    real = adherence(tags([True, False, False, True], real_of), real_of, judge, weights)
    assert real.top1.value == pytest.approx((1 / 3 + 1) / 2)
    # Of a and b: 3 of 4 against a third and all.
    assert relative_top5(made, real) == pytest.approx(0.75 / ((1 / 3 + 1) / 2))
    assert relative_top5(adherence(tags([True], ["c"]), ["c"], judge), real) is None
