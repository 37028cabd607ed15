"""Place against carry: matched differences by hand, and models that mark one or the other."""

import numpy as np
import pandas as pd
import pytest

from lenses.digits.carry_flag import beside_random, flag_rows, matched_difference
from tests.lenses.digits.readings import TEXTS, WORDS, reading

HUNDRED = WORDS.places.index(2)


def test_a_matched_difference_is_that_of_loops() -> None:
    rng = np.random.default_rng(0)
    score, group = rng.normal(size=(60, 3)), rng.integers(0, 4, 60)
    treated, weight = rng.random(60) < 0.4, rng.integers(0, 3, (5, 60)).astype(float)
    found = matched_difference(score, treated, group, weight)
    for draw, w in enumerate(weight):
        total, precision = 0.0, 0.0
        for one in range(4):
            sides = [(group == one) & (treated == side) for side in (True, False)]
            n1, n0 = (w[side].sum() for side in sides)
            if n1 and n0:
                m1, m0 = (np.average(score[side], axis=0, weights=w[side]) for side in sides)
                total, precision = (
                    total + n1 * n0 / (n1 + n0) * (m1 - m0),
                    precision + (n1 * n0 / (n1 + n0)),
                )
        assert found[draw] == pytest.approx(total / precision)


def test_without_any_pair_there_is_no_difference() -> None:
    found = matched_difference(
        np.ones((2, 1)), np.array([True, False]), np.arange(2), np.ones((1, 2))
    )
    assert np.isnan(found).all()


def marked(by: str) -> pd.DataFrame:
    """A reading in which the word hundred is 2 up at hundreds (place), or after a carry."""
    digits = TEXTS.digits
    logits = np.random.default_rng(0).normal(size=(len(digits), 3, len(WORDS.ids))) * 0.1
    up = (digits["place"] == 2) if by == "place" else (digits["carry"] == 1)
    logits[up.to_numpy(), 1, HUNDRED] += 2
    own, twin = reading(logits), reading(np.zeros_like(logits))
    random = [flag_rows(one, seed=0) for one in (twin, twin)]
    return beside_random(own, random, seed=0).set_index(["statistic", "layer"])


def test_a_word_that_marks_its_place_is_no_carry_flag() -> None:
    found = marked("place")
    assert found.loc[("word by place", 1), "estimate"] == pytest.approx(2, abs=0.1)
    assert found.loc[("word by carry", 1), "estimate"] == pytest.approx(0, abs=0.15)
    assert found.loc[("place minus carry", 1), "low"] > 1
    assert found.loc[("place minus carry", 1), "null"] == 0
    assert found.loc[("place minus carry", 2), "high"] < 1


def test_a_carry_flag_is_seen_to_be_one() -> None:
    found = marked("carry")
    assert found.loc[("word by carry", 1), "estimate"] == pytest.approx(2, abs=0.15)
    assert abs(found.loc[("word by place", 1), "estimate"]) < 0.2
    assert found.loc[("place minus carry", 1), "high"] < -1


def test_without_the_word_there_are_no_rows() -> None:
    assert flag_rows(reading(), 0, place=5).empty
