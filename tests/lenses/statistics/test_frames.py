from itertools import product

import numpy as np
import pandas as pd
import pytest

from lenses.statistics.frames import best_elsewhere, frame_means, p_any, p_elsewhere
from lenses.statistics.intervals import sign_flip


def test_means_over_sentences_of_a_frame_leave_out_what_is_missing():
    values = np.array([[1.0, np.nan], [5.0, np.nan], [3.0, 7.0], [2.0, np.nan]])
    found = frame_means(values, ["b", "a", "b", "a"])
    wanted = pd.DataFrame(values).groupby(["b", "a", "b", "a"], sort=False).mean()
    assert np.array_equal(found, wanted.to_numpy(), equal_nan=True)


def test_the_best_is_chosen_in_other_frames():
    values = np.array([[9.0, 1.0], [0.0, 2.0], [0.0, 1.5]])
    chosen, value = best_elsewhere(values)
    assert chosen.tolist() == [1, 0, 0]
    assert value.tolist() == [1.0, 0.0, 0.0]


def test_the_best_of_many_heads_that_do_nothing_is_nothing_in_the_mean():
    rng = np.random.default_rng(0)
    found = [best_elsewhere(rng.normal(size=(16, 200)))[1].mean() for _ in range(200)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 200**0.5


def test_one_frame_leaves_nothing_to_choose_by():
    with pytest.raises(ValueError, match="one frame"):
        best_elsewhere(np.ones((1, 3)))


def test_p_of_one_cell_is_that_of_sign_flips():
    values = np.random.default_rng(1).normal(0.5, 1, (12, 1))
    assert p_any(values)[0] == pytest.approx(sign_flip(values)[0], abs=0.01)


def test_p_any_counts_all_flips_of_few_frames():
    """Three frames: of eight flips, two reach what all signs alike give, in the larger cell."""
    values = np.array([[1.0, 10.0], [1.0, 10.0], [1.0, 10.0]])
    small, large = p_any(values, resamples=4000)
    assert large == pytest.approx(2 / 8, abs=0.03)
    assert small == 1


def test_chance_rarely_makes_any_of_many_cells_significant():
    rng = np.random.default_rng(2)
    found = [p_any(rng.normal(size=(12, 50)), seed, 400).min() <= 0.05 for seed in range(200)]
    assert np.mean(found) < 0.1


def test_p_of_what_was_chosen_elsewhere_counts_every_flip_of_few_frames():
    values = np.random.default_rng(3).normal(0.6, 1, (5, 4))
    own = best_elsewhere(values)[1].sum()
    flips = [np.array(signs)[:, None] * values for signs in product([-1, 1], repeat=5)]
    exact = np.mean([best_elsewhere(one)[1].sum() >= own - 1e-9 for one in flips])
    assert p_elsewhere(values, resamples=8000) == pytest.approx(exact, abs=0.02)


def test_chance_rarely_makes_what_was_chosen_elsewhere_significant():
    rng = np.random.default_rng(4)
    found = [p_elsewhere(rng.normal(size=(12, 50)), seed, 400) <= 0.05 for seed in range(200)]
    assert 0.01 < np.mean(found) < 0.1


def test_a_cell_that_differs_in_every_frame_is_found_elsewhere():
    values = np.random.default_rng(5).normal(size=(12, 50))
    values[:, 7] += 3
    assert p_elsewhere(values) < 0.01
