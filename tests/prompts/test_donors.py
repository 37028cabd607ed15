"""Donors against whole-number arithmetic: which carry, which digit, and nothing above."""

from dataclasses import replace

import numpy as np
import pytest

from prompts.donors import DONORS, donors_of
from prompts.pairs import base, cascade, local


def drawn(place, run, *, padded=True, count=200):
    rng = np.random.default_rng(1)
    if run:
        return cascade(place, run, 4, count, rng, padded=padded)
    return local(place, 4, count, rng, padded=padded)


def digit(number, place):
    return number // 10**place % 10


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("place", "run"), [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1)])
def test_carry_and_digit_come_apart_as_each_donor_says(place, run, padded):
    pairs, at = drawn(place, run, padded=padded), place + run + 1
    clean = pairs.clean.a + pairs.clean.b
    for kind in DONORS:
        donors = donors_of(pairs, kind, np.random.default_rng(2))
        a, b, old = donors.sums.a, donors.sums.b, clean[donors.rows]
        below = 10**at
        carry = (a % below + b % below) // below
        own = (pairs.clean.a % below + pairs.clean.b % below)[donors.rows] // below
        column = digit(pairs.clean.a, at)[donors.rows] + digit(pairs.clean.b, at)[donors.rows]
        assert (donors.own == digit(a + b, at)).all()
        assert (donors.by_carry == (column + carry) % 10).all()
        assert ((carry != own) == (kind != "same_carry")).all()
        differs = digit(a + b, at) != digit(old, at)
        assert (differs == (kind == "cross")).all()
        if kind == "cross":
            assert (donors.own != donors.by_carry).all()
            assert (donors.by_carry != digit(old, at)).all()
        assert ((a + b) // (10 * below) == old // (10 * below)).all(), "no digit above changes"
        addends = [(a, pairs.clean.a), (b, pairs.clean.b)]
        other = [digit(new, at) != digit(was, at)[donors.rows] for new, was in addends]
        assert np.any(other, axis=0).all()
        assert len(donors) > 0.4 * len(pairs)
        if not padded:
            assert (digit(a, 3) > 0).all()
            assert (digit(b, 3) > 0).all()


def test_donors_of_another_kind_are_refused():
    donors = donors_of(drawn(1, 0), "cross", np.random.default_rng(0))
    for kind in ("same_answer", "same_carry"):
        with pytest.raises(ValueError, match=f"{kind}: donors differ in more or less"):
            replace(donors, kind=kind)


@pytest.mark.parametrize(
    "pairs", [local(3, 4, 8, np.random.default_rng(0)), base(1, 4, 8, np.random.default_rng(0))]
)
def test_a_digit_without_a_column_or_a_carry_has_no_donor(pairs):
    with pytest.raises(ValueError, match="has no column for a donor"):
        donors_of(pairs, "cross", np.random.default_rng(0))
