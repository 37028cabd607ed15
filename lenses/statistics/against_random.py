"""Whether a number of a trained model lies beyond those of models with random weights."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.statistics.intervals import bootstrap, luck_above_zero, sign_flip

LEVEL = 0.05
"""Of two-sided tests."""

Verdict = Literal["holds", "fails", "undecided", "not tested"]
"""Not tested where there are too few prompts for an interval."""


def random_models(count: int) -> str:
    """So many random models in words, and how sure they can make one of anything."""
    return f"{count} models with random weights (the smallest possible p is {1 / (count + 1):.2g})"


@dataclass(frozen=True)
class AgainstRandom:
    """A mean over prompts beside the same of several random models."""

    estimate: float
    low: float
    high: float
    n: int
    p: float
    """One-sided, that luck puts it above what it is held against (sign flips of prompts)."""
    random: Float[np.ndarray, "model"]
    """Means of the random models."""
    verdict: Verdict
    """On "more than with random weights", as the function that made it says."""

    @property
    def note(self) -> str:
        """The random models in words."""
        found = f"{self.random.min():.3g} to {self.random.max():.3g}"
        return f"{random_models(len(self.random))}: {found}"


def against_random(
    own: Float[np.ndarray, "prompt"], random: Float[np.ndarray, "model prompt"], seed: int = 0
) -> AgainstRandom:
    """Own numbers of prompts held against those of random models on the same prompts.

    Differences are formed within prompts, from the random model with the highest mean (to hold)
    and from that with the lowest (to fail). Prompts in which any number is missing are left out.
    """
    known = ~(np.isnan(own) | np.isnan(random).any(0))
    own, random = own[known], random[:, known]
    with np.errstate(invalid="ignore"):  # no prompt in which all have a number
        means = random.sum(1) / known.sum()
    above, below = own - random[means.argmax()], own - random[means.argmin()]
    values = np.stack([own, above, below], axis=1)
    found, p = bootstrap(values, seed), sign_flip(values, seed)
    verdict: Verdict = "undecided"
    if np.isnan(found.low).any():
        verdict = "not tested"
    elif found.low[1] > 0 and p[1] <= LEVEL:
        verdict = "holds"
    elif found.high[2] < 0 and p[2] <= LEVEL:
        verdict = "fails"
    luck = p[1] / 2 if found.estimate[1] > 0 else 1 - p[1] / 2
    ends = (float(x[0]) for x in (found.estimate, found.low, found.high))
    return AgainstRandom(*ends, int(known.sum()), float(luck), means, verdict)


def above_zero_and_random(
    own: Float[np.ndarray, "prompt"], random: Float[np.ndarray, "model prompt"], seed: int = 0
) -> AgainstRandom:
    """Own numbers of prompts held against zero, and against those of the highest random model.

    Differences from it are formed within prompts. `p` is the larger of the two one-sided ones. It
    holds where both lie above zero, and fails where it lies below zero or below all random models.
    """
    means = random.mean(1)
    over = [own, own - random[means.argmax()], own - random[means.argmin()]]
    found = bootstrap(np.stack(over, axis=1), seed)
    p = luck_above_zero(np.stack(over[:2], axis=1), seed).max()
    verdict: Verdict = "undecided"
    if np.isnan(found.low).any():
        verdict = "not tested"
    elif found.low[:2].min() > 0:
        verdict = "holds"
    elif found.high[[0, 2]].min() < 0:
        verdict = "fails"
    ends = (float(x[0]) for x in (found.estimate, found.low, found.high))
    return AgainstRandom(*ends, len(own), float(p), means, verdict)


def by_weights(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """A column for each model (of `weights`), a row for each prompt in which all have a value.

    No row where the model itself has no value at all, as one that always predicts the same.
    """
    wide = rows.pivot(index="prompt", columns="weights", values=value).dropna()
    return wide if "own" in wide else wide.iloc[:0]


def above_zero_and_twins(rows: pd.DataFrame, value: str, seed: int = 0) -> AgainstRandom | None:
    """`above_zero_and_random` of rows by prompt and weights: `own`, and `random i` of its twins.

    None with fewer than two prompts in which all models have a value.
    """
    wide = by_weights(rows, value)
    random = wide.filter(like="random ").to_numpy().T
    if len(wide) < 2 or not len(random):
        return None
    return above_zero_and_random(wide["own"].to_numpy(), random, seed)
