"""Intervals of numbers that are no means: they cover where percentiles of resamples do not."""

import numpy as np
import pytest
from scipy import stats

from lenses.heads.league import League
from lenses.heads.standings import leads
from lenses.statistics import fixed_effects
from lenses.statistics.intervals import bootstrap, luck_above_zero, wilson
from lenses.statistics.resampled import leave_one_out, p_above_zero, pseudo_values, stretched
from lenses.statistics.word_scores import advantage_by_prompt
from tests.lenses.statistics.test_intervals import SHAPES

SIZES = (5, 8, 16, 31)
TRIALS = 3_000
ENOUGH = 0.93
ANY = (-np.inf, np.inf)
every_case = pytest.mark.parametrize(
    ("shape", "n"), [(shape, n) for shape in SHAPES for n in SIZES], ids=str
)


def test_pseudo_values_of_a_mean_are_the_numbers() -> None:
    numbers = np.random.default_rng(0).normal(size=(7, 3))
    without = leave_one_out(7) @ numbers / 6
    assert np.allclose(pseudo_values(numbers.mean(0), without), numbers)


@every_case
def test_intervals_of_slopes_cover(shape, n, monkeypatch) -> None:
    """The difference between two fillers, a covariate held fixed, at positions that resemble."""
    monkeypatch.setattr(fixed_effects, "DRAWS", 10)  # of the null, which is not asked for
    rng = np.random.default_rng(n)
    held = rng.normal(size=(n, 2, 4, 1))
    texts = SHAPES[shape](rng, (n, 2, 1, TRIALS // 3)) * np.array([0, 1])[:, None, None]
    values = texts + rng.normal(size=(n, 2, 4, TRIALS // 3)) / 3 + 2 * held
    found = fixed_effects.filler_effects(values, held, np.ones((n, 4), dtype=bool))
    assert ((found.low <= 0) & (found.high >= 0)).mean() >= ENOUGH


@every_case
def test_intervals_of_advantages_cover(shape, n) -> None:
    """Three classes with other shares of each prompt; every prompt has all of them."""
    rng = np.random.default_rng(n)
    label = np.array([0, 0, 0, 1, 1, 2] * n)
    prompt = np.repeat(np.arange(n), 6)
    score = SHAPES[shape](rng, (n, TRIALS))[prompt] + rng.normal(size=(6 * n, TRIALS)) / 3
    score += np.array([1.0, -2.0, 1.0])[label][:, None]
    found = bootstrap(advantage_by_prompt(score, label, prompt), resamples=2_000)
    assert ((found.low <= 0) & (found.high >= 0)).mean() >= ENOUGH


@every_case
@pytest.mark.parametrize(
    "noise", [1, *(pytest.param(noise, marks=pytest.mark.slow) for noise in (0.3, 0.5, 2))]
)
def test_intervals_of_rank_correlations_cover(shape, n, noise) -> None:
    """How much better one measure of 16 heads ranks effects than another; all of them noisy."""
    rng, trials = np.random.default_rng(n), 250
    effect = rng.normal(size=(trials, 16))
    one, other = (k * effect + rng.normal(size=effect.shape) for k in (1, 0.3))
    truth = _spearman(one, effect) - _spearman(other, effect)
    mean = np.stack([one, other, effect])[:, :, None]
    numbers = mean + noise * SHAPES[shape](rng, (3, trials, n, 16))
    draws = rng.multinomial(n, np.full(n, 1 / n), size=400) / n
    x, y, z = np.einsum("dn,stnh->sdth", np.concatenate([np.full((1, n), 1 / n), draws]), numbers)
    estimate, *drawn = _spearman(x, z) - _spearman(y, z)
    low, high = stretched(estimate, np.array(drawn), n, (-2, 2))
    assert ((low <= truth) & (truth <= high)).mean() >= ENOUGH


def _spearman(x, y) -> np.ndarray:
    ranks = [stats.rankdata(v, axis=-1) for v in (x, y)]
    x, y = (v - v.mean(-1, keepdims=True) for v in ranks)
    return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


@pytest.mark.parametrize("n", SIZES)
def test_p_of_resamples_rejects_as_seldom_as_it_says(n) -> None:
    rng = np.random.default_rng(n)
    numbers = rng.normal(size=(n, 4_000))
    draws = rng.multinomial(n, np.full(n, 1 / n), size=2_000) / n
    p = p_above_zero(numbers.mean(0), draws @ numbers, n)
    for level in (0.05, 0.025, 0.005):
        assert (p <= level).mean() <= level * 1.3


def test_p_goes_with_the_interval() -> None:
    rng, n = np.random.default_rng(1), 12
    numbers = rng.normal(0.5, 1, size=(n, 2_000))
    draws = rng.multinomial(n, np.full(n, 1 / n), size=4_000) / n @ numbers
    estimate = numbers.mean(0)
    low, _ = stretched(estimate, draws, n, ANY)
    p = p_above_zero(estimate, draws, n)
    assert ((low > 0) == (p <= 0.025)).mean() > 0.98
    below = np.clip(p_above_zero(-estimate, -draws, n), 0.5, 1)
    assert (below[p < 0.4] > 0.5).all()


def test_few_prompts_and_what_no_draw_knows_have_neither_interval_nor_p() -> None:
    draws = np.random.default_rng(0).normal(size=(50, 2))
    draws[:, 1] = np.nan
    estimate = np.array([0.3, np.nan])
    assert np.isnan(stretched(estimate, draws, 4, ANY)).all()
    assert np.isnan(p_above_zero(estimate, draws, 4)).all()
    low, high = stretched(estimate, draws, 5, ANY)
    assert low[0] < 0.3 < high[0]
    assert np.isnan([low[1], high[1], p_above_zero(estimate, draws, 5)[1]]).all()


def test_luck_above_zero_is_half_of_two_sided_and_its_complement() -> None:
    numbers = np.array([[1.0, -1.0]] * 6)
    assert luck_above_zero(numbers).tolist() == pytest.approx([1 / 64, 63 / 64], abs=0.003)


def test_a_league_of_few_prompts_has_no_intervals() -> None:
    rng = np.random.default_rng(0)
    names = ("layer_index", "norm_share", "own")
    parts = rng.normal(size=(4, 3, 2, 5)), rng.normal(size=(4, 1, 2, 5, 3))
    rows = leads(League(names, *parts, np.zeros(3, dtype=bool)), "own", ["zero"], "prompt")
    assert np.isfinite(rows["difference"]).all()
    assert rows[["low", "high", "p"]].isna().all(axis=None)


def test_an_interval_ends_where_its_number_can_be_no_more() -> None:
    draws = np.array([[-0.9], [0.9], [0.8], [-0.8]])
    low, high = stretched(np.array([0.5]), draws, 5, (-1, 1))
    assert (low[0], high[0]) == (-1, 1)


def test_resamples_that_are_all_alike_may_hide_others() -> None:
    low, high = stretched(np.ones(1), np.ones((50, 1)), 8, (-1, 1))
    assert low[0] == pytest.approx(2 * wilson(8, 8)[0] - 1)
    assert high[0] == 1
