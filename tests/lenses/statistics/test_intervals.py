from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lenses.statistics import intervals as statistics
from lenses.statistics.correlations import kendall, pearson, ranks, ranks_of_ties, spearman
from lenses.statistics.intervals import (
    benjamini_hochberg,
    bootstrap,
    largest_by_luck,
    luck_beyond,
    luck_outside,
    mean_with_p,
    sign_flip,
    wilson,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (3, 10), (10, 10), (997, 1000), (0, 1)])
def test_wilson_equals_scipy(correct: int, n: int) -> None:
    expected = stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert np.allclose(wilson(correct, n), expected, atol=1e-12)


def test_wilson_of_nothing_is_everything_and_works_on_grids() -> None:
    low, high = wilson(np.array([[0, 5]]), np.array([[0, 5]]))
    assert low[0, 0] == 0
    assert high[0, 0] == 1
    assert high[0, 1] == 1
    assert low.shape == (1, 2)
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(3, 2)


def test_bootstrap_finds_the_normal_interval_of_a_mean() -> None:
    estimates = np.random.default_rng(1).normal(3, 2, size=(400, 2, 3))
    found = bootstrap(estimates)
    error = estimates.std(axis=0) / 20
    assert np.allclose(found.estimate, estimates.mean(axis=0))
    assert np.allclose(found.low, found.estimate - 1.96 * error, atol=0.1 * error.max())
    assert np.allclose(found.high, found.estimate + 1.96 * error, atol=0.1 * error.max())
    assert (found.n == 400).all()


def test_one_number_a_prompt_gives_plain_numbers() -> None:
    found = bootstrap(np.arange(6.0))
    rows = pd.DataFrame([{"low": found.low, "n": found.n}])
    assert (rows["low"].dtype, rows["n"].dtype) == (np.float64, np.int64)


def test_bootstrap_is_the_wider_of_t_and_of_resampled_t_one_by_one() -> None:
    estimates = np.random.default_rng(2).exponential(size=12)
    rng, ratios = np.random.default_rng(3), []
    for _ in range(40_000):
        drawn = rng.choice(estimates, 12)
        ratios.append((drawn.mean() - estimates.mean()) / (drawn.std(ddof=1) / np.sqrt(12)))
    below, above = np.quantile(ratios, [0.025, 0.975])
    error, student = estimates.std(ddof=1) / np.sqrt(12), stats.t.ppf(0.975, 11)
    found = bootstrap(estimates[:, None], resamples=50_000)
    assert found.low[0] == pytest.approx(estimates.mean() - max(student, above) * error, abs=0.1)
    assert found.high[0] == pytest.approx(estimates.mean() + max(student, -below) * error, abs=0.1)


SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "exponential": lambda rng, size: rng.exponential(size=size) - 1,
    "lognormal": lambda rng, size: rng.lognormal(0, 0.5, size) - np.exp(0.125),
}


@pytest.mark.parametrize("n", [5, 8, 16, 31])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_called_95_percent_cover_the_truth(shape, n) -> None:
    drawn = SHAPES[shape](np.random.default_rng(n), (n, 3_000))
    found = bootstrap(drawn, resamples=2_000)
    assert ((found.low <= 0) & (found.high >= 0)).mean() >= 0.93


def test_one_far_number_among_others_that_are_nearly_alike_does_not_set_the_ends_anywhere() -> None:
    values = np.r_[0.27, 1e-6 * np.arange(15)][:, None]
    found, error = bootstrap(values), values.std(ddof=1) / np.sqrt(16)
    assert found.low[0] == pytest.approx(values.mean() - stats.t.ppf(0.975, 15) * error, rel=1e-6)
    assert found.high[0] == pytest.approx(values.mean() + 10 * error, rel=0.1)


@pytest.mark.parametrize("n", [16, 31])
def test_numbers_that_are_mostly_nothing_are_covered_by_intervals_with_an_end(n) -> None:
    rng = np.random.default_rng(n)
    drawn = (rng.random((n, 3_000)) < 0.3) * rng.exponential(size=(n, 3_000))
    drawn += 0.01 * rng.normal(size=drawn.shape)
    found = bootstrap(drawn, resamples=2_000)
    error = drawn.std(axis=0, ddof=1) / np.sqrt(n)
    assert ((found.low <= 0.3) & (found.high >= 0.3)).mean() >= 0.93
    assert (found.high - found.estimate <= 20 * error).all()


@pytest.mark.parametrize("values", [[1, 1, 1, 1, 0.95], [0, 0, 0, 0, 0, 0, 0, 1]])
def test_numbers_that_nearly_tie_have_an_interval_of_their_own_size(values) -> None:
    numbers = np.array(values)[:, None]
    found = bootstrap(numbers)
    width = 12 * max(numbers.std(ddof=1) / np.sqrt(len(numbers)), 1e-12)
    assert found.low[0] <= numbers.mean() <= found.high[0]
    assert found.high[0] - found.low[0] <= width


@pytest.mark.parametrize("value", [1.0, 0.0, -3.0, 1 / 3])
def test_numbers_that_are_all_alike_have_no_interval_without_a_range(value) -> None:
    rounded = value + np.float32(1e-7) * value * np.arange(8)
    for numbers in (np.full(8, value), rounded):
        found = bootstrap(numbers)
        assert np.isnan([found.low, found.high]).all()
        assert np.isnan(found.within(0, np.inf).high)
        assert found.estimate == pytest.approx(value)


def test_within_a_range_numbers_that_are_alike_may_hide_as_many_others_as_wilson_says() -> None:
    for n in (5, 8, 31):
        found, (_, most) = bootstrap(np.full(n, 0.75)).within(-1, 1), wilson(0, n)
        assert found.low == pytest.approx(0.75 - most * 1.75)
        assert found.high == pytest.approx(0.75 + most * 0.25)
        shares = bootstrap(np.ones(n)).within(0, 1)
        assert (shares.low, shares.high) == (pytest.approx(wilson(n, n)[0]), 1)
    few = bootstrap(np.ones(4)).within(0, 1)
    assert np.isnan([few.low, few.high]).all()


@pytest.mark.parametrize("n", [5, 8, 16, 31])
def test_shares_that_are_nearly_always_all_are_covered(n) -> None:
    rng = np.random.default_rng(n)
    ones = rng.random((n, 3_000)) < 0.95
    found = bootstrap(ones, resamples=2_000).within(0, 1)
    assert ((found.low <= 0.95) & (found.high >= 0.95)).mean() >= 0.93
    mixed = bootstrap(np.where(ones, 1, rng.random((n, 3_000))), resamples=2_000).within(0, 1)
    assert ((mixed.low <= 0.975) & (mixed.high >= 0.975)).mean() >= (0.93 if n < 31 else 0.9)


def test_below_five_there_is_no_interval() -> None:
    found = bootstrap(np.random.default_rng(0).normal(size=(4, 3)))
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    assert np.isfinite(found.estimate).all()


def test_bootstrap_is_seeded_and_leaves_missing_prompts_out(monkeypatch) -> None:
    estimates = np.random.default_rng(4).normal(size=(9, 50))
    estimates[6:, 0] = np.nan
    found, again = bootstrap(estimates, seed=5), bootstrap(estimates, seed=5)
    assert found.n[0] == 6
    assert found.n[1] == 9
    assert found.estimate[0] == pytest.approx(estimates[:6, 0].mean())
    assert np.array_equal(found.low, again.low)
    monkeypatch.setattr(statistics, "CHUNK", 100_000)
    assert np.allclose(bootstrap(estimates, seed=5).high, found.high)


def test_one_prompt_has_an_estimate_and_no_interval() -> None:
    found = bootstrap(np.array([[2.0, np.nan]]))
    assert found.estimate[0] == 2
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    assert np.isnan(found.estimate[1])
    assert found.n.tolist() == [1, 0]


def test_sign_flip_agrees_with_scipy_and_is_exact_when_all_signs_agree() -> None:
    differences = np.random.default_rng(6).normal(0.4, 1, size=15)
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip(differences[:, None])[0] == pytest.approx(exact, abs=0.015)
    # Two of the 2^4 sign patterns reach the observed sum.
    assert sign_flip(np.ones((4, 1)) * 0.1)[0] == pytest.approx(2 / 16, abs=0.01)
    assert sign_flip(np.array([[7.0]]))[0] == 1


def test_a_mean_is_tested_against_the_number_it_is_held_against() -> None:
    values = np.random.default_rng(2).normal(1, 1, size=7)
    found = mean_with_p(values, 0.4, seed=3)
    column = bootstrap(values[:, None], 3)
    ends = (column.estimate[0], column.low[0], column.high[0])
    assert found == (*ends, 7, sign_flip(values[:, None] - 0.4, 3)[0])
    signs = np.array(list(product([-1, 1], repeat=7)))
    exact = (np.abs(signs @ (values - 0.4)) >= abs((values - 0.4).sum()) - 1e-12).mean()
    assert abs(found.p - exact) < 0.02


def test_luck_beyond_is_the_t_test_of_an_interval_by_t() -> None:
    drawn = np.random.default_rng(1).normal(1, 1, 9)
    half = stats.t.isf(0.025, 8) * stats.sem(drawn)
    assert luck_beyond(drawn.mean(), half, 9) == pytest.approx(stats.ttest_1samp(drawn, 0).pvalue)


def test_luck_outside_is_small_where_the_whole_interval_lies_between_the_bounds() -> None:
    rows = pd.DataFrame({"estimate": [0, 0.2, 0.4, 0], "n": 30}).assign(
        low=lambda t: t["estimate"] - 0.2, high=lambda t: t["estimate"] + 0.2
    )
    rows.loc[3, ["low", "high"]] = np.nan
    p = luck_outside(rows, below=0.3)
    assert p[0] < 0.05 < p[1]
    assert p[2:].tolist() == [1, 1], "beyond the bound, and without an interval"
    assert luck_outside(rows.loc[0], below=0.2) == pytest.approx(0.05)
    assert luck_outside(rows.loc[0], above=-0.1, below=9) > 0.05
    assert luck_outside(rows.loc[0], above=-0.3, below=0.3) == p[0]


def test_numbers_at_a_bound_are_seldom_called_below_it() -> None:
    drawn = np.random.default_rng(0).normal(0.25, 1, (12, 2000))
    assert np.mean(luck_outside(bootstrap(drawn, resamples=500), below=0.25) <= 0.05) <= 0.03


def test_the_largest_by_luck_of_one_cell_is_binomial_and_copies_of_it_add_nothing() -> None:
    once = largest_by_luck(np.ones((9, 1)), np.random.default_rng(0), 20_000)
    heads = stats.binom.sf([4, 6, 8], 9, 0.5)  # of 9 signs at least 5, 7, all: sums 1, 5, 9
    found = [(once >= total / 3 - 1e-9).mean() for total in (1, 5, 9)]
    assert np.allclose(found, heads, atol=0.01)
    copies = largest_by_luck(np.ones((9, 50)), np.random.default_rng(0), 20_000)
    assert np.allclose(once, copies)
    silent = largest_by_luck(np.zeros((9, 4)), np.random.default_rng(0), 10)
    assert not silent.any()


def test_the_largest_by_luck_keeps_the_error_of_a_grid_that_shares_prompts() -> None:
    rng, rejected = np.random.default_rng(3), 0
    for seed in range(200):
        shared = rng.normal(size=(30, 1))
        cells = shared + rng.normal(size=(30, 25))
        luck = largest_by_luck(cells, np.random.default_rng(seed), 400)
        own = (cells.sum(0) / np.sqrt((cells**2).sum(0))).max()
        rejected += (1 + (luck >= own).sum()) / 401 <= 0.05
    assert 2 <= rejected <= 20  # 10 are expected


def test_benjamini_hochberg_by_hand() -> None:
    p = np.array([[0.01, 0.04], [0.03, 0.20]])
    assert np.allclose(benjamini_hochberg(p), [[0.04, 0.16 / 3], [0.16 / 3, 0.20]])


@given(arrays(float, st.integers(0, 30), elements=st.sampled_from([0, 1e-9, 0.01, 0.3, 0.95, 1])))
def test_benjamini_hochberg_is_that_of_scipy(p) -> None:
    q = benjamini_hochberg(p)
    assert np.array_equal(q, stats.false_discovery_control(p))
    assert (q >= p).all()


@pytest.mark.parametrize("p", [np.nan, -0.1, 1.1])
def test_what_is_no_p_value_is_not_corrected(p) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg(np.array([0.2, p]))


@given(arrays(int, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=st.integers(-2, 2)))
def test_ranks_are_those_of_scipy(values) -> None:
    assert np.array_equal(ranks(values), stats.rankdata(values, axis=-1))
    for found, how in zip(ranks_of_ties(values), ("min", "max"), strict=True):
        assert np.array_equal(found, stats.rankdata(values, method=how, axis=-1))


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=70)


@given(points)
def test_correlations_equal_scipy_with_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert all(np.isnan(f(x, y)) for f in (pearson, spearman, kendall))
        return
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)


def test_correlations_work_on_rows() -> None:
    x, y = np.random.default_rng(7).normal(size=(2, 4, 3, 33))
    for ours, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        rows = zip(x.reshape(-1, 33), y.reshape(-1, 33), strict=True)
        expected = np.reshape([theirs(a, b).statistic for a, b in rows], (4, 3))
        assert np.allclose(ours(x, y), expected)


def test_two_points_are_no_correlation() -> None:
    two = np.array([[0.0, 1.0]])
    assert all(np.isnan(f(two, two)).all() for f in (pearson, spearman, kendall))


def test_a_row_with_a_nan_is_undefined() -> None:
    x, y = np.random.default_rng(8).normal(size=(2, 2, 9))
    x[0, 4] = np.nan
    for correlation in (pearson, spearman, kendall):
        found = correlation(x, y)
        assert np.isnan(found[0])
        assert not np.isnan(found[1])


def test_an_interval_ends_where_a_share_does() -> None:
    shares = np.array([[0.9], [1.0], [0.97], [1.0], [0.8]])
    found = bootstrap(shares)
    assert found.low > 0.5
    assert found.high > 1
    cut = found.within(0, 1)
    assert (cut.high, cut.low, cut.estimate) == (1, found.low, found.estimate)


def test_draws_of_few_prompts_are_kept_and_are_those_that_are_made():
    for prompts in (8, 52, 60):  # of 60 too many numbers are drawn to keep them
        made = list(statistics._draw(prompts, 10_000, 3))
        for _ in range(2):
            drawn = list(statistics._drawn(prompts, 10_000, 3))
            assert [some for some, _ in drawn] == [some for some, _ in made]
            assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(drawn, made, strict=True))
    one, again = (next(statistics._drawn(8, 10_000, 3))[1] for _ in range(2))
    assert one is again
    assert not one.flags.writeable
    many, anew = (next(statistics._drawn(60, 10_000, 3))[1] for _ in range(2))
    assert many is not anew
    other = next(statistics._drawn(8, 10_000, 4))[1]
    assert not np.array_equal(one, other)


def test_equal_numbers_without_a_range_may_hide_others_across_zero() -> None:
    found = bootstrap(np.stack([np.full(8, 3.0), np.full(8, -3.0), np.zeros(8)], axis=1))
    assert np.isnan(found.low).all()
    found = found.either_side()
    hidden = wilson(np.array([0]), np.array([8]))[1].item()
    np.testing.assert_allclose(found.low[:2], [3 - 6 * hidden, -3 - 6 * hidden])
    assert 0 < found.low[0] < 3 < found.high[0]
    assert np.isnan([found.low[2], found.high[2]]).all()
    few = bootstrap(np.full(4, 3.0)).either_side()
    assert np.isnan(few.low)
    apart = np.arange(8.0)
    assert bootstrap(apart).either_side() == bootstrap(apart)
