"""Whether answers are wrong where the place is missing from a digit's state."""

import numpy as np
import pandas as pd

from lenses.digits.reading import DigitReading
from lenses.statistics.intervals import bootstrap, luck_above_zero, wilson
from lenses.statistics.logistic import logistic_by_prompt

ENOUGH = 50
"""Right and wrong digits that a regression needs."""
PER_CELL = 5
"""Digits of one kind, place and length from which the mean of these is taken off the score."""
FEATURES = ("score", "length", "place", "run", "carry", "is_addition")


def answer_rows(own: DigitReading) -> pd.DataFrame:
    """How many answer digits the model would have said after the right ones before them."""
    digits = own.digits.assign(right=own.right)
    answers = digits[digits["part"] == "c"].groupby(["kind", "announced"])["right"]
    table = answers.agg(n="size", correct="sum").reset_index()
    low, high = wilson(table["correct"].to_numpy(), table["n"].to_numpy())
    return table.assign(accuracy=table["correct"] / table["n"], low=low, high=high)


def error_rows(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Log-odds of a wrong answer digit per standard deviation of each feature, for copies and sums.

    `answers` has one row a digit: prompt, kind, wrong, layer (where the score was read), the
    score (how much of its place is in the state) and the other features. The score counts as its
    difference from digits of the same kind and place (`_within`): it cannot stand for the place.
    Intervals are over prompts; p is one-sided, that a coefficient is not negative. Without ENOUGH
    right and wrong digits there is no estimate, nor for a feature that does not vary.
    """
    answers = answers.assign(is_addition=(answers["kind"] == "addition").astype(int))
    answers["score"] = _within(answers)
    kinds = sorted(answers["kind"].unique(), reverse=True)
    frames = []
    for chosen in [kinds, *([kind] for kind in kinds if len(kinds) > 1)]:
        part = answers[answers["kind"].isin(chosen)]
        wrong = part["wrong"].to_numpy()
        values = {name: np.full(len(FEATURES), np.nan) for name in ("estimate", "low", "high", "p")}
        if min(wrong.sum(), (~wrong).sum()) >= ENOUGH:
            values = _regressed(part, wrong, seed)
        frame = pd.DataFrame({"kind": " and ".join(chosen), "feature": FEATURES, **values})
        frames.append(frame.assign(n=len(part), wrong=int(wrong.sum()), layer=part["layer"].max()))
    return pd.concat(frames, ignore_index=True)


def _within(answers: pd.DataFrame) -> np.ndarray:
    """The score minus its mean over digits of the same kind and place; of that length, if enough.

    Errors that depend on the place alone, in whatever way, are then no reason for a coefficient.
    """
    score = answers["score"].astype(float)
    score = score - score.groupby([answers["kind"], answers["place"]]).transform("mean")
    cell = score.groupby([answers["kind"], answers["place"], answers["length"]])
    score -= cell.transform("mean").where(cell.transform("size") >= PER_CELL, 0.0)
    return np.where(score.abs() > 1e-9, score, 0.0)


def _regressed(part: pd.DataFrame, wrong: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Coefficients with their intervals; none for a feature that does not vary."""
    features = part[list(FEATURES)].to_numpy(float)
    estimate, by_prompt = logistic_by_prompt(features, wrong, part["prompt"].to_numpy())
    ends, p = bootstrap(by_prompt, seed).either_side(), luck_above_zero(-by_prompt, seed)
    varies = features.std(axis=0) > 0
    values = {"estimate": estimate, "low": ends.low, "high": ends.high, "p": p}
    return {name: np.where(varies, value, np.nan) for name, value in values.items()}
