"""A trained model's number among those of random models."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import Claim
from lenses.statistics.against_random import (
    above_zero_and_random,
    above_zero_and_twins,
    against_random,
    against_twins,
    as_high_by_luck,
    beyond_random,
)


def prompts(mean, count=24, seed=0):
    return np.random.default_rng(seed).normal(mean, 0.05, count)


RANDOM = np.stack([prompts(mean, seed=i + 1) for i, mean in enumerate((0.2, 0.3, 0.4))])


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.8, "holds"), (-0.2, "fails"), (0.3, "undecided"), (0.4, "undecided"), (0.6, "undecided")],
)
def test_it_must_lie_beyond_all_of_them_and_one_more(mean, verdict):
    found = against_random(prompts(mean), RANDOM)
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(prompts(mean).mean())
    assert found.low < found.estimate < found.high
    assert np.allclose(found.random, RANDOM.mean(1))
    assert (found.p < 0.05) == (verdict == "holds")


@pytest.mark.parametrize("compare", [against_random, above_zero_and_random])
def test_without_any_prompt_nothing_is_tested(compare):
    found = compare(np.empty(0), np.empty((3, 0)))
    assert (found.verdict, found.n) == ("not tested", 0)
    assert "not one prompt" in found.note


def test_a_random_model_without_numbers_lets_nothing_hold():
    random = RANDOM.copy()
    random[1] = np.nan
    for compare in (against_random, above_zero_and_random):
        assert compare(prompts(0.6), random).verdict == "not tested"


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
    [(0.8, "holds"), (-0.2, "fails"), (0.1, "undecided"), (0.3, "undecided"), (0.6, "undecided")],
)
def test_above_zero_and_above_the_highest_random_model(mean, verdict):
    own = prompts(mean)
    found = above_zero_and_random(own, RANDOM)
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(own.mean())
    assert np.allclose(found.random, RANDOM.mean(1))
    assert (found.p < 0.05) == (verdict == "holds")


def by_t_test(own, random):
    """Student's t of two samples, one of which is a single case, written out (equal spread)."""
    return stats.ttest_ind([own], random, alternative="greater").pvalue


@pytest.mark.parametrize("count", [2, 3, 4, 20])
def test_one_more_model_is_a_sample_of_one(count):
    random = np.random.default_rng(count).normal(size=count)
    for own in (-1.0, 0.5, 3.0):
        assert as_high_by_luck(own, random) == pytest.approx(by_t_test(own, random))
    assert as_high_by_luck(random.mean() + 1, random[:1] * 0) <= 0.5
    assert as_high_by_luck(np.nan, random) == 1
    assert as_high_by_luck(1.0, np.full(count, 0.5)) == 1 / (count + 1)
    assert as_high_by_luck(0.5, np.full(count, 0.5)) == 1


@pytest.mark.parametrize(("count", "cases"), [(2, 5), (4, 8), (4, 200)])
def test_models_that_are_alike_may_hide_one_case_in_one_of_them(count, cases):
    models = np.full((count, cases), 0.25)
    models[0, 0] = 1.0
    luck = as_high_by_luck(1.0, np.full(count, 0.25), cases)
    hidden = by_t_test(1.0 + models[0].mean() / count - 0.25 / count, models.mean(1))
    assert luck == pytest.approx(hidden)


def test_random_models_that_are_all_alike_are_no_certainty():
    for sign in (1, -1):
        own, random = sign * prompts(0.8), np.zeros((4, 24))
        found = against_random(own, random)
        assert found.verdict == ("holds" if sign == 1 else "fails")
        assert min(found.one_more, 1 - found.one_more) > 1e-6
    alike = against_random(np.ones(8), np.full((4, 8), 0.5) + 0.1 * np.arange(4)[:, None])
    assert (alike.verdict, np.isnan(alike.low)) == ("not tested", True)


@pytest.mark.parametrize("judge", [against_random, above_zero_and_random])
@pytest.mark.parametrize("count", [2, 4])
def test_one_more_random_model_seldom_beats_the_others(judge, count):
    """However many prompts tell it from each of them: 2 and 4 models are no population.

    By being the highest of all alone, it would in 1 of 3 and in 1 of 5 cases.
    """
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        means = rng.normal(10, 1, (count + 1, 1))
        own, *random = means + rng.normal(0, 0.01, (count + 1, 8))
        held += judge(own, np.array(random)).verdict == "holds"
    assert held / 400 <= 0.075  # .05, and twice the error of 400 draws


def test_beyond_random_models_is_beyond_the_highest_of_them_and_one_more():
    own = np.stack([prompts(mean) for mean in (0.8, 0.45, 0.3)], axis=1)
    found, p = beyond_random(own, RANDOM[:, :, None].repeat(3, axis=2))
    assert found.estimate == pytest.approx([0.5, 0.15, 0], abs=0.03)
    assert found.low == pytest.approx([0.4, 0.05, -0.1], abs=0.04)
    assert found.high == pytest.approx([0.6, 0.25, 0.1], abs=0.04)
    assert p[0] < 0.05
    assert (p[1:] > 0.05).all(), "one more model may lie as high, whatever the prompts say"


@pytest.mark.parametrize("count", [2, 4])
def test_a_model_like_the_random_ones_is_seldom_beyond_them(count):
    wrong = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        drawn = rng.normal(0.5, 0.05, (count + 1, 1, 1)) + rng.normal(0, 0.02, (count + 1, 8, 1))
        _, p = beyond_random(drawn[0], drawn[1:], seed)
        wrong.append(p[0] <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_what_random_models_leave_open_is_told():
    found = against_random(prompts(0.6), RANDOM)
    assert found.decide.startswith("random models that are more alike: one more would lie as high")
    assert found.of_one_more in found.note
    claim = Claim.mechanical("More than with random weights.", found, above=0.0, more="prompts")
    assert (claim.verdict, claim.decide) == ("undecided", found.decide)
    assert against_random(prompts(0.3), RANDOM).decide == ""


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


def test_rows_of_twins_are_held_against_them_one_by_one():
    values = np.random.default_rng(0).normal(size=(3, 6))
    rows = pd.DataFrame(
        {"weights": np.repeat(["random 1", "own", "random 0"], 6), "case": list(range(6)) * 3,
         "value": values.ravel()}
    ).sample(frac=1, random_state=0)  # fmt: skip
    found = against_twins(rows, "case", "value", 3)
    expected = against_random(values[1], values[[2, 0]], 3)
    for name in ("estimate", "low", "high", "n", "p", "verdict"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.random.tolist() == expected.random.tolist()
