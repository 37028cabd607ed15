"""Differences of paired shares against published numbers and simulated cases."""

import numpy as np
import pytest
from scipy import stats

from lenses.statistics.paired import paired_shares


def cases(both: int, one: int, other: int, none: int):
    rows = [(1, 1)] * both + [(1, 0)] * one + [(0, 1)] * other + [(0, 0)] * none
    return np.array(rows, dtype=bool).T


def test_it_is_newcombes_interval_worked_by_hand():
    # No correlation (phi = 0): squares of the distances to Wilson's ends add up.
    found = paired_shares(*cases(1, 3, 1, 3))
    low, high = ((0.5 - e) for e in (0.2152, 0.7848))
    other = 0.25 - 0.0715, 0.5907 - 0.25
    assert found.estimate == 0.25
    assert found.low == pytest.approx(0.25 - np.hypot(low, other[1]), abs=1e-3)
    assert found.high == pytest.approx(0.25 + np.hypot(high, other[0]), abs=1e-3)


def test_certain_cases_have_an_interval_too():
    found = paired_shares(*cases(0, 7, 0, 0))
    assert found.estimate == found.high == 1
    assert 0 < found.low < 1
    assert found.p == pytest.approx(2 / 2**7)
    assert paired_shares(*cases(5, 0, 0, 5)).p == 1


def test_it_covers():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1_000):
        shared = rng.random(20) < 0.5
        one = np.where(shared, rng.random(20) < 0.9, rng.random(20) < 0.5)
        other = np.where(shared, rng.random(20) < 0.6, rng.random(20) < 0.2)
        found = paired_shares(one, other)
        hits += found.low <= 0.3 <= found.high
    assert stats.binomtest(hits, 1_000, 0.95).pvalue > 1e-3 or hits > 950
