"""Verdicts follow from numbers, in one place; what was not measured is not tested."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from experiments import Claim, Estimate, corrected, percent
from experiments._contract.claims import AFFORDABLE, with_minus
from lenses.statistics.against_random import against_random
from lenses.statistics.intervals import bootstrap, luck_outside, share


def claim(found=None, **how):
    return Claim.learned("A sentence.", found, **how)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_a_verdict_follows_from_the_interval(low, width, threshold):
    found = Estimate(low + width / 2, low, low + width, 5)
    above = claim(found, above=threshold, decide="more").verdict
    assert (above == "holds") == (low > threshold)
    assert (above == "fails") == (low + width < threshold)
    below = claim(found, below=threshold, decide="more").verdict
    assert (below == "holds") == (low + width < threshold)


@pytest.mark.parametrize(
    "found",
    [
        Estimate(0.5, 0.4, 0.6, 9),
        pd.Series({"estimate": 0.5, "low": 0.4, "high": 0.6, "n": 9, "other": 1}),
        bootstrap(np.linspace(0.4, 0.6, 9)),
    ],
)
def test_an_estimate_may_come_from_a_row_or_a_statistic(found):
    made = claim(found, above=0.1)
    assert (made.estimate, made.n, made.verdict) == (pytest.approx(0.5), 9, "holds")


def test_cases_that_all_have_the_same_number_say_that_they_must_differ():
    made = claim(bootstrap(np.full(9, 0.5)), above=0.1)
    assert (made.estimate, made.n, made.verdict) == (0.5, 9, "not tested")
    assert "all have the same number" in made.needs
    assert claim(bootstrap(np.full(9, 0.5)).within(0, 1), above=0.1).verdict == "holds"
    assert claim(bootstrap(np.full(4, 0.5)), above=0.1).needs == "5 prompts or more"


def test_a_number_in_print_has_a_source():
    made = claim(Estimate(0.5, 0.4, 0.6, 9), above=0, reported=(0.7, "2602.01442"))
    assert made.model_dump(mode="json")["reported"] == [0.7, "2602.01442"]
    with pytest.raises(ValidationError, match="names its source"):
        claim(Estimate(0.5, 0.4, 0.6, 9), above=0, reported=(0.7, " "))


def test_a_share_is_nine_of_ten():
    found = share(9, 10)
    assert (round(found.low, 3), round(found.high, 3)) == (0.596, 0.982)
    assert share(0, 0) is None


@pytest.mark.parametrize(
    "found",
    [None, Estimate(float("nan"), float("nan"), float("nan"), 0),
     Estimate(0.4, float("nan"), float("nan"), 1)],
)  # fmt: skip
def test_without_an_interval_it_is_not_tested(found):
    made = claim(found, above=0, needs="2 prompts or more")
    assert (made.verdict, made.needs) == ("not tested", "2 prompts or more")
    assert made.estimate != 0


@pytest.mark.parametrize(
    "changed",
    [{"low": np.nan}, {"high": np.nan}, {"p": np.nan}, {"n": np.nan}, {"estimate": np.nan}],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("verdict", ["holds", None])
def test_what_is_judged_by_a_nan_is_not_tested(changed, verdict):
    row = pd.Series({"estimate": 2.0, "low": 1.0, "high": 3.0, "n": 9, "p": 0.01} | changed)
    claim = Claim.learned("It adds.", row, above=0, verdict=verdict, needs="more texts")
    assert claim.verdict == "not tested"


@pytest.mark.parametrize("name", ["above", "null", "p"])
def test_a_threshold_a_null_or_a_p_that_is_nan_tests_nothing(name):
    judged = {"above": 0.0} | {name: np.nan}
    claim = Claim.mechanical("It adds.", Estimate(2.0, 1.0, 3.0, 9), needs="more texts", **judged)
    assert claim.verdict == "not tested"
    assert (claim.threshold is None) == (name == "above")


def test_a_decided_claim_drops_what_would_decide_it():
    assert claim(Estimate(0.5, 0.4, 0.6, 9), above=0.1, decide="more prompts").decide == ""
    assert claim(Estimate(0.5, 0.4, 0.6, 9), above=0.5, decide="more prompts").decide


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Estimate(0.2, -0.1, 0.5, 10), "about 23 prompts, if the estimate stays as it is"),
        (Estimate(-0.129, -0.3, 0.03, 10), "more data will not make this hold"),
        (Estimate(0.001, -0.5, 0.5, 10), "too small an effect to decide at this size"),
    ],
)
def test_a_sample_size_is_told_only_where_it_would_help(found, says):
    made = claim(found, above=0, more="prompts")
    assert says in made.decide
    assert made.verdict == "undecided"


@pytest.mark.parametrize(
    ("right", "n", "judged"), [(8, 8, {"above": 0.9}), (0, 48, {"below": 0.05})]
)
def test_of_a_share_that_is_0_or_1_as_many_are_told_as_decide_it(right, n, judged):
    made = claim(share(right, n), **judged, more="texts")
    assert made.verdict == "undecided"
    told = int(made.decide.split()[1])
    judged["more"] = "texts"
    verdicts = [claim(share(right and some, some), **judged).verdict for some in (told - 1, told)]
    assert verdicts == ["undecided", "holds"]


@given(st.floats(0.001, 1), st.floats(0.001, 2), st.integers(2, 500))
def test_the_sample_size_told_is_affordable_and_larger(ahead, half, n):
    made = claim(Estimate(ahead, ahead - half, ahead + half, n), above=0, more="prompts")
    if made.decide.startswith("about"):
        assert n < int(made.decide.split()[1]) < AFFORDABLE


def test_an_interval_on_the_other_side_fails():
    made = claim(Estimate(-0.129, -0.199, -0.030, 9), above=0, more="prompts")
    assert (made.verdict, made.decide) == ("fails", "")


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [([0, 1e-5], "holds"), ([0, 1e-3], "fails"), ([0, float("nan"), 0], "fails"),
     (pd.Series([0, float("nan")]), "fails"), ([], "not tested"), ([float("inf")], "fails")],
)  # fmt: skip
def test_an_identity_fails_on_any_error_that_is_too_large_or_no_number(errors, verdict):
    made = Claim.identity("They sum.", errors, within=1e-4)
    assert (made.verdict, made.check) == (verdict, True)


def test_correction_counts_every_test_and_takes_back_what_luck_explains():
    many = [claim(Estimate(1, 0.5, 2, 9, p), above=0) for p in (0.001, 0.04, 0.5)]
    found = corrected([*many, claim(Estimate(1, 0.5, 2, 9), above=0)], "more prompts")
    assert [c.verdict for c in found] == ["holds", "undecided", "undecided", "holds"]
    assert found[0].p == pytest.approx(0.003)
    assert "among 3 claims" in found[1].decide
    assert corrected([]) == []


def estimates(mean, count=6000, n=10):
    """Of `count` samples of size n about `mean`: the mean, its interval, and p against 0."""
    drawn = np.stack([np.random.default_rng(seed).normal(mean, 1, n) for seed in range(count)])
    half = stats.t.isf(0.025, n - 1) * stats.sem(drawn, axis=1)
    p, means = stats.ttest_1samp(drawn, 0, axis=1).pvalue, drawn.mean(axis=1)
    rows = np.stack([means, means - half, means + half]).T
    return [Estimate(*row, n, of_it) for row, of_it in zip(rows.tolist(), p.tolist(), strict=True)]


def families(judged, trials=300, claims=20):
    """In how many families of claims, none of which is true, any fails before and after."""
    raw = [[judged(claims * trial + number) for number in range(claims)] for trial in range(trials)]
    fails = [[any(c.verdict == "fails" for c in f) for f in (one, corrected(one))] for one in raw]
    return np.mean(fails, axis=0)


def test_of_twenty_claims_at_their_threshold_seldom_any_fails():
    drawn = estimates(mean=0)
    before, after = families(lambda seed: claim(drawn[seed], above=0, decide="more"))
    assert before > 0.25
    assert after <= 0.05


def test_of_twenty_models_like_random_ones_seldom_any_fails():
    def judged(seed):
        rng = np.random.default_rng(seed)
        drawn = rng.normal(10, 1, (5, 1)) + rng.normal(0, 0.01, (5, 8))
        return claim(against_random(drawn[0], drawn[1:]), decide="more")

    before, after = families(judged, trials=60)
    assert before > 0.25
    assert after <= 0.05


def test_of_twenty_effects_at_what_is_negligible_seldom_any_fails():
    drawn = estimates(mean=0.25)

    def judged(seed):
        alike = float(luck_outside(drawn[seed], below=0.25))
        return claim(drawn[seed], above=0, holds=False, p_fails=alike, decide="more")

    before, after = families(judged)
    assert before > 0.25
    assert after <= 0.05


def test_where_more_than_one_number_decides_it_fails_by_its_own_p():
    found = Estimate(0.1, -0.1, 0.3, 9, 0.4)
    for p_fails, verdict in ((0.01, "fails"), (0.2, "undecided")):
        told = claim(found, holds=False, p_fails=p_fails, decide="more")
        assert (told.verdict, told.p_fails) == (verdict, p_fails)
    assert claim(found, holds=True, p_fails=1.0).verdict == "holds"
    assert claim(found, holds=True, p_fails=1.0, verdict="undecided", decide="x").decide == "x"
    unknown = Estimate(np.nan, np.nan, np.nan, 9)
    assert claim(unknown, holds=False, p_fails=0.01).verdict == "not tested"


def test_what_fails_by_far_still_fails_among_many():
    many = [claim(Estimate(k, k - 1, k + 1, 9, 0.4), above=0) for k in np.linspace(1.1, 2, 19)]
    far = claim(Estimate(-5, -6, -4, 9, 0.001), above=0)
    near = claim(Estimate(-1.05, -2, -0.1, 9, 0.04), above=0)
    below = claim(Estimate(5, 4, 6, 9, 0.001), below=0)
    found = corrected([*many, far, near, below])[-3:]
    assert [c.verdict for c in found] == ["fails", "undecided", "fails"]
    assert "among 22 claims" in found[1].decide
    assert "p_fails" not in found[0].model_dump()


def test_a_plain_finding_has_no_verdict():
    made = Claim.descriptive("It writes long results.", Estimate(2.0, None, None, 4))
    assert (made.verdict, made.estimate, made.n) == (None, 2.0, 4)


TOLD = {"kind": "learned", "sentence": "S.", "estimate": 0.5, "n": 3, "verdict": "holds"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"estimate": float("nan")}, "finite"),
        ({"n": -1}, "greater"),
        ({"p": 1.5}, "less"),
        ({"x": 1}, "Extra"),
        ({"verdict": "undecided"}, "what would decide it"),
        ({"verdict": "not tested"}, "what it needs"),
        ({"verdict": None}, "descriptive"),
        ({"estimate": None}, "has an estimate"),
        ({"sentence": "No full stop"}, "full stop"),
        ({"family": "Places"}, "label"),
    ],
)
def test_an_incomplete_claim_is_refused(changed, says):
    with pytest.raises(ValidationError, match=says):
        Claim(**TOLD | changed)


def test_a_share_is_said_in_percent_with_a_true_minus():
    assert percent(float("nan")) == "nan %"  # claims about it are not tested
    assert [percent(share) for share in (0.256, 1, -0.031, -0.001)] == [
        "26 %", "100 %", "−3 %", "0 %",
    ]  # fmt: skip


def test_a_negative_number_in_a_sentence_has_a_minus() -> None:
    told = "It falls by -0.5 (tau -.9); “-1” of 10-20 --count 3, L0H-2."
    assert with_minus(told) == "It falls by −0.5 (tau −.9); “-1” of 10-20 --count 3, L0H-2."
    made = claim(Estimate(0.5, 0.4, 0.6, 9), above=0, null_note="random: -0.1 to -.02")
    assert made.null_note == "random: −0.1 to −.02"
