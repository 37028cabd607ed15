"""What is not known is never significant: every statistic, given a NaN, gives one or leaves it out.

A comparison with NaN is false, so "how many draws reach it" would be none: the smallest p of all.
"""

import numpy as np
import pytest

from lenses.digits import geometry
from lenses.statistics import word_scores
from lenses.statistics.against_random import above_zero_and_random, against_random
from lenses.statistics.correlations import kendall, pearson, spearman
from lenses.statistics.fixed_effects import filler_effects
from lenses.statistics.frames import p_any
from lenses.statistics.intervals import (
    bootstrap,
    largest_by_luck,
    luck_above_zero,
    luck_as_far,
    sign_flip,
    wilson,
)
from lenses.statistics.ranking import area_under_curve, rank_correlation, top_overlap
from lenses.statistics.resampled import p_above_zero, pseudo_values, stretched

RNG = np.random.default_rng(0)
NULL = RNG.normal(size=(200, 3))
FAR = np.array([9.0, np.nan, 0.0])
"""Far beyond its null, unknown, and in its middle."""


@pytest.mark.parametrize(
    "p",
    [
        lambda: luck_as_far(FAR, NULL),
        lambda: word_scores.one_sided_p(FAR, NULL),
        lambda: word_scores.max_t(FAR, NULL),
        lambda: geometry.max_t(FAR, NULL),
        lambda: p_any(np.tile(FAR, (12, 1)) + RNG.normal(size=(12, 3)) / 9),
        lambda: np.array([geometry.beyond_controls(x, np.zeros(40)) for x in FAR]),
        lambda: sign_flip(np.tile(FAR, (12, 1))),
        lambda: luck_above_zero(np.tile(FAR, (12, 1))),
    ],
)
def test_p_of_what_is_unknown_is_one_and_others_keep_theirs(p):
    far, unknown, near = p()
    assert far < 0.05
    assert unknown == 1
    assert near > 0.2


def test_a_null_with_gaps_reaches():
    null = NULL.copy()
    null[:60] = np.nan
    assert (luck_as_far(np.full(3, 9.0), null) > 0.29).all()
    assert (word_scores.max_t(np.full(3, 9.0), null) == 1).all()
    assert (geometry.max_t(np.full(3, 9.0), null) == 1).all()


def test_intervals_of_what_is_unknown_are_unknown():
    numbers = RNG.normal(5, 1, size=(9, 3))
    numbers[:, 1], numbers[2:, 2] = np.nan, np.nan
    found = bootstrap(numbers)
    assert np.isfinite([found.low[0], found.high[0]]).all()
    assert np.isnan([found.estimate[1], *found.low[1:], *found.high[1:]]).all()
    assert found.n.tolist() == [9, 0, 2]
    assert np.isnan(pseudo_values(np.array(1.0), np.array([1.0, np.nan])))[1]
    draws = np.full((50, 1), np.nan)
    assert np.isnan(stretched(np.array([np.nan]), draws, 9, (-1, 1))).all()
    assert np.isnan(p_above_zero(np.array([np.nan]), draws, 9)).all()
    some = np.where(RNG.random((50, 1)) < 0.3, np.nan, RNG.normal(9, 1, size=(50, 1)))
    assert np.isnan(stretched(np.array([np.nan]), some, 9, (-1, 1))).all()
    assert not p_above_zero(np.array([np.nan]), some, 9) < 0.05
    low, high = wilson(np.array([np.nan]), np.array([9]))
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("which", [against_random, above_zero_and_random])
def test_a_model_that_is_unknown_decides_nothing(which):
    own, random = RNG.normal(5, 1, size=9), RNG.normal(0, 1, size=(3, 9))
    assert which(own, random).verdict == "holds"
    assert which(own * np.nan, random).verdict == "not tested"
    gone = random.copy()
    gone[1] = np.nan
    assert which(own, gone).verdict == "not tested"
    gone = random.copy()
    gone[1, 0] = np.nan  # a prompt that one model has no number of is left out for all
    assert which(own, gone).n in (8, 9)


def test_correlations_and_ranks_of_what_is_unknown_are_unknown():
    x = np.stack([RNG.normal(size=(1, 8))] * 2)
    x[1, 0, 3] = np.nan
    y = RNG.normal(size=(2, 1, 8))
    for correlation in (pearson, spearman, kendall):
        known, unknown = correlation(x[:, 0], y[:, 0])
        assert np.isfinite(known)
        assert np.isnan(unknown)
    for score in (rank_correlation, top_overlap):
        assert np.isfinite(score(x, y)[0])
        assert np.isnan(score(x, y)[1])
    assert np.isnan(area_under_curve(x, y > 0)[1])


def test_a_cell_that_is_unknown_takes_no_part_in_luck():
    cells = RNG.normal(size=(20, 3))
    alone = largest_by_luck(cells[:, :2], np.random.default_rng(0), 50)
    cells[4, 2] = np.nan
    assert np.allclose(largest_by_luck(cells, np.random.default_rng(0), 50), alone)


def test_an_effect_that_is_unknown_stays_so():
    values = RNG.normal(size=(6, 2, 4, 2))
    values[0, 0, 0, 1] = np.nan
    found = filler_effects(values, np.zeros((6, 2, 4, 0)), np.ones((6, 4), dtype=bool))
    assert np.isfinite([found.estimate[0, 0], found.p[0, 0]]).all()
    assert np.isnan([found.estimate[0, 1], found.low[0, 1], found.p[0, 1]]).all()
