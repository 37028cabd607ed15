import numpy as np
import pandas as pd
import pytest

from lenses.digits.errors import FEATURES, error_rows


def answers(effect: float, n: int = 300) -> pd.DataFrame:
    """Digits of 60 prompts, wrong the oftener the lower the score if `effect` is negative."""
    rng = np.random.default_rng(0)
    score, place = rng.normal(size=n), rng.integers(0, 6, n)
    odds = effect * score + 0.3 * place - 0.5
    return pd.DataFrame(
        {
            "prompt": np.arange(n) // 5,
            "kind": np.where(np.arange(n) // 5 % 2, "copy", "addition"),
            "score": score,
            "place": place,
            "length": place + rng.integers(1, 4, n),
            "run": 0,
            "carry": rng.integers(0, 2, n),
            "wrong": rng.random(n) < 1 / (1 + np.exp(-odds)),
            "layer": 3,
        }
    )


def test_errors_follow_a_low_score() -> None:
    found = error_rows(answers(-1.5), seed=0).set_index(["kind", "feature"])
    row = found.loc[("copy and addition", "score")]
    assert -2.6 < row["low"] < -1.5 < row["high"] + 0.3
    assert row["high"] < -0.7
    assert row["p"] < 0.002
    assert row["n"] == 300
    assert row["layer"] == 3
    assert np.isnan(found.loc[("copy and addition", "run"), "estimate"])
    assert np.isnan(found.loc[("copy", "is_addition"), "estimate"])


def test_errors_that_do_not_follow_the_score_have_an_interval_over_zero() -> None:
    row = error_rows(answers(0.0), seed=0).query("feature == 'score'").iloc[0]
    assert row["low"] < 0 < row["high"]
    assert row["p"] > 0.02


def test_a_score_that_only_tells_the_place_does_not_go_with_errors() -> None:
    rng, base = np.random.default_rng(1), answers(0.0)
    usual, risk = np.array([2.0, -1, 1, 0, 3, -2]), np.array([0.2, 0.7, 0.3, 0.6, 0.1, 0.8])
    missed = 0
    for _ in range(16):
        wrong = rng.random(300) < risk[base["place"]]
        score = usual[base["place"]] + 0.2 * rng.normal(size=300)
        table = error_rows(base.assign(score=score, wrong=wrong), seed=0)
        row = table.query("feature == 'score'").iloc[0]
        missed += not row["low"] < 0 < row["high"]
    assert missed <= 3
    constant = error_rows(base.assign(score=usual[base["place"]]), seed=0)
    assert constant.query("feature == 'score'")["estimate"].isna().all()


@pytest.mark.parametrize("wrong", [49, 251])
def test_fewer_than_fifty_right_or_wrong_have_no_estimate(wrong) -> None:
    few = answers(0.0).assign(wrong=np.arange(300) < wrong)
    found = error_rows(few, seed=0)
    assert found["estimate"].isna().all()
    assert found.query("kind == 'copy and addition'")["wrong"].eq(wrong).all()
    enough = error_rows(few.assign(wrong=np.arange(300) < 50), seed=0)
    assert enough.query("kind == 'copy and addition'")["estimate"].notna().any()


def test_one_kind_of_answers_is_told_once() -> None:
    sums = answers(-1.0).assign(kind="addition")
    assert len(error_rows(sums, seed=0)) == len(FEATURES)
