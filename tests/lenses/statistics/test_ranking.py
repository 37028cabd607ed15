"""Scores of rankings against scipy's and scikit-learn's, a pair at a time."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lenses.statistics import ranking
from lenses.statistics.ranking import (
    area_under_curve,
    grouped,
    mean_of_known,
    means,
    rank_correlation,
    rank_correlation_tau,
    rank_of,
    resampled_means,
    top_overlap,
)

RNG = np.random.default_rng(0)
MEASURE, EFFECT = RNG.normal(size=(2, 5, 3, 20)).round(1)  # with ties


def test_groups_are_layers_or_all_heads() -> None:
    heads = np.arange(24).reshape(2, 3, 4)
    assert grouped(heads, "within layers").shape == (2, 3, 4)
    assert (grouped(heads, "pooled")[1, 0] == np.arange(12, 24)).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(rank_correlation, stats.spearmanr), (rank_correlation_tau, stats.kendalltau)],
)
def test_correlations_are_means_over_groups(ours, theirs) -> None:
    expected = [
        np.mean([theirs(*pair).statistic for pair in zip(*row, strict=True)])
        for row in zip(MEASURE, EFFECT, strict=True)
    ]
    np.testing.assert_allclose(ours(MEASURE, EFFECT), expected)


@pytest.mark.parametrize("score", [rank_correlation, rank_correlation_tau])
def test_what_ranks_nothing_scores_0_and_equal_effects_are_left_out(score) -> None:
    same, rising = np.zeros((1, 2, 4)), np.arange(8.0).reshape(1, 2, 4)
    assert score(same, rising) == [0]
    assert np.isnan(score(rising, same)).all()
    half = rising.copy()
    half[0, 1] = 3
    np.testing.assert_allclose(score(rising, half), [1])
    np.testing.assert_allclose(score(half, rising), [0.5])


def test_the_area_equals_scikit_learns() -> None:
    matters = EFFECT > 0.5
    found = area_under_curve(MEASURE, matters)
    expected = [
        np.mean([roc_auc_score(*pair) for pair in zip(m, x, strict=True)])
        for m, x in zip(matters, MEASURE, strict=True)
    ]
    np.testing.assert_allclose(found, expected)
    matters[0, 1] = True  # a group of one kind is left out
    expected = np.mean([roc_auc_score(matters[0, i], MEASURE[0, i]) for i in (0, 2)])
    np.testing.assert_allclose(area_under_curve(MEASURE, matters)[0], expected)
    assert np.isnan(area_under_curve(MEASURE, np.ones_like(matters))).all()


def test_the_top_of_twenty_are_two() -> None:
    rising = np.arange(20.0)[None, None]
    assert top_overlap(rising, rising) == [1]
    assert top_overlap(rising, -rising) == [0]
    swapped = rising.copy()
    swapped[..., [0, 19]] = swapped[..., [19, 0]]
    assert top_overlap(rising, swapped) == [0.5]


def test_ties_at_the_top_count_by_their_chance() -> None:
    np.testing.assert_allclose(top_overlap(np.zeros((1, 1, 20)), np.arange(20.0)[None, None]), 0.1)


def test_the_largest_is_first() -> None:
    values = np.array([[5.0, 1.0, 3.0, 3.0], [0.0, 9.0, 2.0, 1.0]])
    assert rank_of(values, 0).tolist() == [1, 4]
    assert rank_of(values, 2).tolist() == [2.5, 2]


def test_means_leave_out_what_is_unknown() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [8.0, 4.0]])
    found = means(values, np.array([[1, 1, 1], [2, 1, 0]], dtype=float))
    np.testing.assert_allclose(found, [[4, 4], [5 / 3, np.nan]])


def test_resampled_means_are_of_prompts_drawn_with_replacement(monkeypatch) -> None:
    values = np.eye(6)
    draws = np.concatenate([x for (x,) in resampled_means([values], 3, 200)])
    assert draws.shape == (200, 6)
    np.testing.assert_allclose(draws.sum(1), 1)
    assert np.isin(np.round(draws * 6, 9), np.arange(7)).all()
    np.testing.assert_allclose(draws.mean(0), 1 / 6, atol=0.03)
    monkeypatch.setattr(ranking, "CHUNK", 60)
    parts = list(resampled_means([values, values * 2], 3, 200))
    assert len(parts) > 10
    np.testing.assert_allclose(np.concatenate([x for x, _ in parts]), draws)
    np.testing.assert_allclose(np.concatenate([y for _, y in parts]), draws * 2)


def test_means_over_the_last_axes_leave_out_what_is_undefined() -> None:
    values = np.array([[[1.0, np.nan], [3.0, np.nan]], [[np.nan] * 2] * 2])
    assert mean_of_known(values, 2).tolist()[0] == 2
    assert np.isnan(mean_of_known(values, 2)[1])
    np.testing.assert_array_equal(mean_of_known(values[0]), [1, 3])
