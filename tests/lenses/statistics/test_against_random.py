"""A trained model's number among those of random models."""

import numpy as np
import pandas as pd
import pytest

from lenses.statistics.against_random import (
    above_zero_and_random,
    above_zero_and_twins,
    against_random,
)


def prompts(mean, count=24, seed=0):
    return np.random.default_rng(seed).normal(mean, 0.05, count)


RANDOM = np.stack([prompts(mean, seed=i + 1) for i, mean in enumerate((0.2, 0.3, 0.4))])


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.6, "holds"), (0.05, "fails"), (0.3, "undecided"), (0.4, "undecided")]
)
def test_it_must_lie_beyond_all_of_them(mean, verdict):
    found = against_random(prompts(mean), RANDOM)
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(prompts(mean).mean())
    assert found.low < found.estimate < found.high
    assert np.allclose(found.random, RANDOM.mean(1))
    assert (found.p < 0.05) == (verdict == "holds")


def test_prompts_without_a_number_are_left_out():
    own, random = prompts(0.6), RANDOM.copy()
    own[0], random[1, 3] = np.nan, np.nan
    kept = np.r_[1:3, 4:24]
    assert against_random(own, random).n == 22
    assert against_random(own, random).estimate == pytest.approx(prompts(0.6)[kept].mean())


def test_too_few_prompts_decide_nothing():
    assert against_random(prompts(0.9)[:3], RANDOM[:, :3]).verdict == "not tested"
    assert "the smallest possible p is 0.25" in against_random(prompts(0.9), RANDOM).note


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.6, "holds"), (-0.2, "fails"), (0.1, "fails"), (0.3, "undecided"), (0.4, "undecided")],
)
def test_above_zero_and_above_the_highest_random_model(mean, verdict):
    own = prompts(mean)
    found = above_zero_and_random(own, RANDOM)
    against = own - RANDOM[2]
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(own.mean())
    assert np.allclose(found.random, RANDOM.mean(1))
    assert (found.p < 0.05) == (min(own.mean(), against.mean()) > 0.02)


def test_being_above_random_models_that_lie_below_zero_is_not_enough():
    found = above_zero_and_random(prompts(-0.05), RANDOM - 1)
    assert found.verdict == "fails"
    assert found.p > 0.95


@pytest.mark.parametrize("missing", ["own", "random 0"])
def test_a_model_without_any_value_is_not_tested(missing):
    rows = pd.DataFrame(
        [(p, w, 1.0 + p) for p in range(6) for w in ("own", "random 0") if w != missing],
        columns=["prompt", "weights", "value"],
    )
    assert above_zero_and_twins(rows, "value") is None
