"""Real clips beside generated ones: labels count for as much in both, however many clips a folder has of each."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.balance import draw_sets, label_weights, matched_counts
from edge_tta.evaluate.embedder_figures import Judged, compare, text_score
from edge_tta.evaluate.embedders import Heard
from edge_tta.evaluate.frechet import distance_to, frechet_distance, moments
from edge_tta.evaluate.frechet_limit import frechet_limit
from edge_tta.evaluate.label_figures import inception_score, matched_divergence
from edge_tta.evaluate.statistics import mean_estimate, share_estimate

FOLDER = ("bell",) * 8 + ("rain",) * 2 + ("dog",)
ASKED = ("bell", "rain", "dog") * 4


def fresh() -> np.random.Generator:
    return np.random.default_rng(0)


def test_weights_give_labels_the_shares_of_the_other_set() -> None:
    weights = label_weights(FOLDER, ASKED)
    assert weights == pytest.approx([1 / 24] * 8 + [1 / 6] * 2 + [1 / 3])
    uneven = label_weights(FOLDER, ("bell", "dog", "dog", "dog", "owl"))
    assert uneven == pytest.approx([1 / 32] * 8 + [0.0] * 2 + [3 / 4])
    with pytest.raises(DataError, match="without a common label"):
        label_weights(FOLDER, ("owl",))


def test_sets_have_as_many_clips_of_each_label() -> None:
    counts = matched_counts(ASKED, (*FOLDER, "owl"))
    # The least of the two are 4, 2 and 1: on average 2.3, so that three bells are the most.
    assert counts == {"bell": 3, "dog": 1, "rain": 2}
    assert matched_counts(ASKED, ("owl",)) == {}
    for labels, number in ((FOLDER, 1), (ASKED * 3, 4)):
        sets = draw_sets(labels, counts, fresh())
        assert len(sets) == number
        assert len(set(np.concatenate(sets).tolist())) == 6 * number
        for rows in sets:
            assert {name: [labels[row] for row in rows].count(name) for name in counts} == counts
            assert list(rows) == sorted(rows)


def test_weighted_figures_are_those_of_labels_in_equal_shares() -> None:
    """Figures of a folder with many bells, weighted, beside those of one that has every label twice."""
    even = ("bell", "bell", "rain", "rain", "dog", "dog")
    values = {"bell": 1.0, "rain": 2.0, "dog": 6.0}
    weights = label_weights(FOLDER, even)
    mean = mean_estimate([values[name] for name in FOLDER], fresh(), groups=FOLDER, weights=weights)
    assert mean.value == pytest.approx(3.0) and mean.low == 1.0 and mean.high == 6.0
    hits = np.array([name != "bell" for name in FOLDER])
    share = share_estimate(hits, groups=FOLDER, weights=weights)
    assert (share.value, share.n) == (pytest.approx(2 / 3), 11)
    assert share.low < share.value < share.high
    vectors = {name: np.eye(3)[place] for place, name in enumerate(values)}
    table, flat = np.stack([vectors[name] for name in FOLDER]), np.stack([vectors[name] for name in even])
    assert inception_score(table, fresh(), groups=FOLDER, weights=weights).value == pytest.approx(
        inception_score(flat, fresh()).value
    )
    towards = np.tile([1.0, 0.0, 0.0], (11, 1))
    assert text_score(table, towards, fresh(), weights=weights).value == pytest.approx(1 / 3)
    soft = 0.9 * table + 0.1 / 3
    even_soft = 0.9 * flat + 0.1 / 3
    found = matched_divergence(soft, FOLDER, even_soft[::-1], even, fresh(), weights=weights)
    expected = matched_divergence(even_soft, even, even_soft[::-1], even, fresh())
    assert found is not None and expected is not None
    assert found.value == pytest.approx(expected.value)


def test_weighted_moments_are_free_of_bias() -> None:
    clips = np.random.default_rng(1).standard_normal((40, 3))
    equal = moments(clips, np.full(40, 0.3))
    for one, other in zip(equal, moments(clips), strict=True):
        np.testing.assert_allclose(one, other)
    weights = np.repeat([1.0, 4.0], 20)
    draws = [moments(np.random.default_rng(seed).standard_normal((40, 3)), weights) for seed in range(400)]
    covariance = np.mean([covariance for _, covariance in draws], axis=0)
    np.testing.assert_allclose(covariance, np.eye(3), atol=0.05)
    # Fewer clips than dimensions, by the other way.
    wide, reference = (np.random.default_rng(seed).standard_normal((8, 30)) for seed in (2, 3))
    counts = np.arange(1.0, 9.0)
    assert distance_to(reference, 8)(wide, counts) == pytest.approx(
        distance_to(reference, 1000)(wide, counts), rel=1e-6
    )
    assert distance_to(reference, 8)(wide) == pytest.approx(frechet_distance(reference, wide), rel=1e-6)


def test_the_distance_of_unlimited_clips_is_that_of_labels_in_equal_shares() -> None:
    draw = np.random.default_rng(0)
    kinds = 3.0 * draw.standard_normal((12, 6))
    reference = kinds[np.repeat(np.arange(12), 200)] + draw.standard_normal((2400, 6))
    labels = np.repeat(np.arange(12), [120, 90, *[6] * 10])
    clips = kinds[labels] + draw.standard_normal((len(labels), 6))
    weights = label_weights([str(label) for label in labels], [str(label) for label in range(12)])
    plain, weighted = (
        frechet_limit(clips, reference, fresh(), groups=labels, weights=counts) for counts in (None, weights)
    )
    assert plain is not None and weighted is not None
    # The same sounds as the reference's, but too many of two labels.
    assert plain.value > 2.0 and weighted.value < 0.7
    same = frechet_limit(clips, reference, fresh(), groups=labels, weights=np.ones(len(labels)))
    assert same is not None and same.value == pytest.approx(plain.value)


class Ear:
    """An embedder that is never asked: everything was heard before."""

    name, sample_rate, digest = "ear", 44100, "0"

    def embed(self, clips: object) -> np.ndarray:
        raise AssertionError


def test_real_clips_are_compared_by_label() -> None:
    """Real clips like those asked for, in other shares: every figure of them is that of a perfect generator."""
    place = {"bell": 0, "rain": 1, "dog": 2}
    draw = np.random.default_rng(0)

    def judged(labels: tuple[str, ...], weights: np.ndarray | None = None) -> Judged:
        vectors = np.stack([4.0 * np.eye(3)[place[name]] for name in labels])
        embeddings = (vectors + 1e-3 * draw.standard_normal(vectors.shape)).astype(np.float32)
        shares = (0.05 + 0.85 * np.eye(3)[[place[name] for name in labels]]).astype(np.float32)
        texts = np.ones((len(labels), 3), dtype=np.float32) * np.array([1.0, 2.0, 3.0], dtype=np.float32)
        return Judged(Heard(embeddings, shares), labels, labels, texts, weights)

    asked = ASKED * 4
    folder = ("bell",) * 60 + ("rain",) * 20 + ("dog",) * 4
    real = judged(folder, label_weights(folder, asked))
    found = compare(Ear(), judged(asked), real, judged(ASKED * 10), fresh())
    for name in ("Fréchet distance, unlimited clips", "text score", "inception-type score"):
        comparison = found.get(name)
        assert comparison is not None and comparison.real is not None
        assert comparison.real.value == pytest.approx(comparison.generated.value, abs=0.02), name
    distance = found.get("Fréchet distance")
    assert distance is not None and distance.real is not None
    # 16, 16 and 4 are there on both sides, at most 12 of each are taken.
    assert distance.generated.n == distance.real.n == 28
    assert distance.real.value == pytest.approx(distance.generated.value, abs=0.02)
