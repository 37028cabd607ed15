"""Ratios of entropies against plain means, and against texts that differ in surprisal alone."""

import numpy as np
import pytest
import torch

from lenses.states.certainty import entropies, ratio
from lenses.statistics.intervals import bootstrap


def test_entropies_are_those_of_the_definition_also_where_p_is_zero() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    expected = [np.log(2), -sum(x * np.log(x) for x in (0.2, 0.3, 0.5))]
    assert entropies(p.log()) == pytest.approx(expected, abs=1e-6)


def made(rng: np.random.Generator, factor: float, prompts: int = 20):
    """Entropy that follows surprisal, times a factor in the first text, which surprises less."""
    surprisal = np.stack([rng.exponential(1, (prompts, 30)), rng.exponential(3, (prompts, 30))], 1)
    entropy = (1 + surprisal) * rng.lognormal(0, 0.2, surprisal.shape)
    entropy[:, 0] *= factor
    return entropy, surprisal, np.ones((prompts, 30), dtype=bool)


def test_one_range_is_the_ratio_of_means_over_known_tokens() -> None:
    entropy, surprisal, known = made(np.random.default_rng(0), 0.5)
    known[3, 10:] = False
    found = ratio(entropy, surprisal, known, bins=1)
    means = [entropy[:, i][known].mean() for i in (0, 1)]
    assert found.estimate == pytest.approx(means[0] / means[1])


def test_what_surprisal_explains_is_gone_and_what_it_does_not_is_found() -> None:
    entropy, surprisal, known = made(np.random.default_rng(1), 1.0)
    assert ratio(entropy, surprisal, known, bins=1).high < 0.7
    alike = ratio(entropy, surprisal, known, bins=20)
    assert 0.93 < alike.estimate < 1.05
    halved = ratio(*made(np.random.default_rng(1), 0.5), bins=20)
    assert halved.low < 0.5 < halved.high
    assert halved.p < 1e-3


@pytest.mark.slow
def test_the_interval_covers_in_95_of_100() -> None:
    rng, covered = np.random.default_rng(2), 0
    truth = ratio(*made(rng, 0.5, prompts=20_000)).estimate
    for _ in range(400):
        found = ratio(*made(rng, 0.5, prompts=8))
        covered += found.low <= truth <= found.high
    assert covered / 400 >= 0.93


def test_texts_without_a_common_range_have_no_ratio() -> None:
    surprisal = np.stack([np.zeros((4, 5)), np.ones((4, 5))], axis=1)
    assert np.isnan(ratio(np.ones((4, 2, 5)), surprisal, np.ones((4, 5), bool), bins=2).estimate)


def test_below_five_prompts_there_is_no_interval() -> None:
    found = ratio(*made(np.random.default_rng(3), 0.5, prompts=4))
    assert np.isfinite(found.estimate)
    assert np.isnan([found.low, found.high]).all()


def test_the_interval_is_of_each_prompts_own_part() -> None:
    """Left out one by one by hand: n log-ratios of all less n - 1 of the others."""
    entropy, surprisal, known = made(np.random.default_rng(4), 0.5, prompts=6)
    found = ratio(entropy, surprisal, known, bins=1)

    def log_ratio(rows) -> float:
        return np.log(entropy[rows, 0].mean() / entropy[rows, 1].mean())

    others = [[j for j in range(6) if j != i] for i in range(6)]
    own = np.array([6 * log_ratio(range(6)) - 5 * log_ratio(rows) for rows in others])
    ends = bootstrap(own)
    assert (found.low, found.high) == pytest.approx((np.exp(ends.low), np.exp(ends.high)))
