"""Whether a number of a trained model lies beyond those of models with random weights."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import special

from lenses.statistics.intervals import (
    ROUNDING,
    Intervals,
    bootstrap,
    luck_above_zero,
    sign_flip,
)

LEVEL = 0.05
"""Of two-sided tests."""

Verdict = Literal["holds", "fails", "undecided", "not tested"]
"""Not tested where there are too few prompts for an interval."""


def random_models(count: int) -> str:
    """So many random models in words, and how sure they can make one of anything."""
    return f"{count} models with random weights (the smallest possible p is {1 / (count + 1):.2g})"


def as_high_by_luck(own: float, random: Float[np.ndarray, "model"], cases: int = 0) -> float:
    """One-sided p that one more model like these lies as high as `own`; they are a sample of such.

    Student's t of a single case against a small sample. Models of which each is a mean over `cases`
    spread at least as if one case of one of them were as `own`: four that are all 0 may hide that.
    Of models without a spread, as one alone, the smallest possible p. NaN is never significant.
    (Crawford & Howell 1998, Clin. Neuropsychol. 12.)
    """
    count, apart = len(random), own - np.mean(random)
    if not np.isfinite(apart):
        return 1.0
    spread = np.std(random, ddof=1) if count > 1 else 0.0
    if cases and count > 1:
        spread = max(spread, abs(apart) / cases / np.sqrt(count))
    if not spread > ROUNDING * np.abs(random).max():
        return 1 / (count + 1) if apart > 0 else 1.0
    return float(special.stdtr(count - 1, -apart / (spread * np.sqrt(1 + 1 / count))))


def one_more_model(
    own: float, random: Float[np.ndarray, "model"], cases: int
) -> tuple[float, float]:
    """One-sided p that one more model like these lies as high as `own`, and as low."""
    return as_high_by_luck(own, random, cases), as_high_by_luck(-own, -random, cases)


@dataclass(frozen=True)
class AgainstRandom:
    """A mean over prompts beside the same of several random models.

    Prompts are a sample, and so are the random models: it is beyond them where it is for prompts
    like these, beyond each of them, and for one more random model like them.
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float
    """One-sided, that luck puts it above what it is held against: the larger of those for prompts
    (sign flips) and for one more random model."""
    random: Float[np.ndarray, "model"]
    """Means of the random models."""
    verdict: Verdict
    """On "more than with random weights", as the function that made it says."""
    one_more: float
    """One-sided p that one more random model lies as high."""
    p_fails: float
    """Two-sided, that luck puts it where it fails: the larger of prompts' and of one more's."""

    @property
    def note(self) -> str:
        """The random models in words."""
        if np.isnan(self.random).all():
            return f"{random_models(len(self.random))}: not one prompt in which all have a number"
        found = f"{self.random.min():.3g} to {self.random.max():.3g}"
        return f"{random_models(len(self.random))}: {found}; {self.of_one_more}"

    @property
    def of_one_more(self) -> str:
        """How likely one more random model lies as high, in words."""
        return f"one more would lie as high with p = {self.one_more:.2g}"

    @property
    def decide(self) -> str:
        """What would decide it where prompts do and the random models do not."""
        open_ = self.verdict == "undecided" and self.one_more > LEVEL
        beyond = self.estimate > self.random.max()
        return f"random models that are more alike: {self.of_one_more}" if open_ and beyond else ""


def against_random(
    own: Float[np.ndarray, "prompt"], random: Float[np.ndarray, "model prompt"], seed: int = 0
) -> AgainstRandom:
    """Own numbers of prompts held against those of random models on the same prompts.

    Differences are formed within prompts, from the random model with the highest mean (to hold)
    and from that with the lowest (to fail); one more random model must not lie as high (or low)
    either. Prompts in which any number is missing are left out.
    """
    known = ~(np.isnan(own) | np.isnan(random).any(0))
    own, random = own[known], random[:, known]
    if not len(own):
        return _nothing(len(random))
    means = random.mean(1)
    above, below = own - random[means.argmax()], own - random[means.argmin()]
    values = np.stack([own, above, below], axis=1)
    found, p = bootstrap(values, seed), sign_flip(values, seed)
    one_more, as_low = one_more_model(found.estimate[0], means, len(own))
    verdict: Verdict = "undecided"
    if found.low[1] > 0 and max(p[1], one_more) <= LEVEL:
        verdict = "holds"
    elif found.high[2] < 0 and max(p[2], as_low) <= LEVEL:
        verdict = "fails"
    elif np.isnan(found.low[1:]).any():
        verdict = "not tested"
    luck = p[1] / 2 if found.estimate[1] > 0 else 1 - p[1] / 2
    ends = (float(x[0]) for x in (found.estimate, found.low, found.high))
    n, p_any, below = int(known.sum()), max(luck, one_more), found.estimate[2] < 0
    p_fails = max(p[2], as_low) if below else 1.0
    return AgainstRandom(*ends, n, float(p_any), means, verdict, one_more, float(p_fails))


def against_twins(rows: pd.DataFrame, over: str, value: str, seed: int = 0) -> AgainstRandom:
    """`against_random` of rows by `weights` (`own`, and those of twins) and by column `over`."""
    wide = rows.pivot(index="weights", columns=over, values=value)
    return against_random(wide.loc["own"].to_numpy(), wide.drop("own").to_numpy(), seed)


def beyond_random(
    own: Float[np.ndarray, "prompt cell"],
    random: Float[np.ndarray, "model prompt cell"],
    seed: int = 0,
    possible: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Intervals, Float[np.ndarray, "cell"]]:
    """Own numbers of prompts minus the mean of random models on the same prompts, in each cell.

    The interval over prompts begins where the difference from the model with the highest mean
    does, and ends where that from the lowest does. p is one-sided: the larger of that for prompts
    (sign flips, from the highest) and that one more random model lies as high.
    """
    means, cells = random.mean(1), np.arange(own.shape[1])
    ends = [own - random[at, :, cells].T for at in (means.argmax(0), means.argmin(0))]
    highest, lowest = (bootstrap(end, seed).within(*possible) for end in ends)
    one_more = [
        as_high_by_luck(mean, others, len(own))
        for mean, others in zip(own.mean(0), means.T, strict=True)
    ]
    found = replace(highest, estimate=own.mean(0) - means.mean(0), high=lowest.high)
    return found, np.maximum(luck_above_zero(ends[0], seed), one_more)


def _nothing(models: int) -> AgainstRandom:
    """Without any prompt."""
    unknown = np.full(models, np.nan)
    return AgainstRandom(*[np.nan] * 3, 0, np.nan, unknown, "not tested", np.nan, 1.0)


def above_zero_and_random(
    own: Float[np.ndarray, "prompt"],
    random: Float[np.ndarray, "model prompt"],
    seed: int = 0,
    possible: tuple[float, float] = (-np.inf, np.inf),
) -> AgainstRandom:
    """Own numbers of prompts held against zero, and against those of the highest random model.

    Differences from it are formed within prompts. It holds where both lie above zero and one more
    random model would not lie as high; it fails where it lies below zero or below all random
    models, and one more. `possible` is the range of the numbers and of their differences.
    """
    if not len(own):
        return _nothing(len(random))
    means = random.mean(1)
    over = [own, own - random[means.argmax()], own - random[means.argmin()]]
    found = bootstrap(np.stack(over, axis=1), seed).within(*possible)
    luck = luck_above_zero(np.stack(over[:2], axis=1), seed).max()
    zero, lowest = np.minimum(1, 2 * luck_above_zero(-np.stack(over[::2], axis=1), seed))
    verdict: Verdict = "undecided"
    one_more, as_low = one_more_model(found.estimate[0], means, len(own))
    if found.low[:2].min() > 0 and one_more <= LEVEL:
        verdict = "holds"
    elif found.high[0] < 0 or (found.high[2] < 0 and as_low <= LEVEL):
        verdict = "fails"
    elif np.isnan(found.low).any():
        verdict = "not tested"
    ends = (float(x[0]) for x in (found.estimate, found.low, found.high))
    luck, p_fails = float(max(luck, one_more)), float(min(zero, max(lowest, as_low)))
    return AgainstRandom(*ends, len(own), luck, means, verdict, one_more, p_fails)


def above_zero_and_others(wide: pd.DataFrame, seed: int = 0) -> AgainstRandom:
    """`above_zero_and_random` of a row for each model, `own` and `random i`; a column a prompt."""
    random = wide.filter(like="random ", axis="index").to_numpy()
    return above_zero_and_random(wide.loc["own"].to_numpy(), random, seed)


def by_weights(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """A column for each model (of `weights`), a row for each prompt in which all have a value.

    No row where the model itself has no value at all, as one that always predicts the same.
    """
    wide = rows.pivot(index="prompt", columns="weights", values=value).dropna()
    return wide if "own" in wide else wide.iloc[:0]


def above_zero_and_twins(
    rows: pd.DataFrame,
    value: str,
    seed: int = 0,
    possible: tuple[float, float] = (-np.inf, np.inf),
) -> AgainstRandom | None:
    """`above_zero_and_random` of rows by prompt and weights: `own`, and `random i` of its twins.

    None with fewer than two prompts in which all models have a value.
    """
    wide = by_weights(rows, value)
    random = wide.filter(like="random ").to_numpy().T
    if len(wide) < 2 or not len(random):
        return None
    return above_zero_and_random(wide["own"].to_numpy(), random, seed, possible)
