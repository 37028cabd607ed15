"""Intervals and p of numbers that are no means over prompts: slopes, class means, ranks.

Percentiles of resamples are too narrow for few prompts: they cover .66 to .82 at 5, .87 to .93 at
16. Smooth numbers are taken apart into one for each prompt, for `bootstrap` and `sign_flip`; those
that jump, as ranks do, keep their resamples, stretched.
"""

import numpy as np
from jaxtyping import Float
from scipy import special

from lenses.statistics.intervals import FEWEST, Intervals

TAIL = 0.025


def leave_one_out(prompts: int) -> Float[np.ndarray, "prompt prompt"]:
    """Weights of prompts, each row without one of them."""
    return 1 - np.eye(prompts)


def pseudo_values(
    whole: Float[np.ndarray, "*cell"], without: Float[np.ndarray, "prompt *cell"]
) -> Float[np.ndarray, "prompt *cell"]:
    """Each prompt's own number: n times that of all prompts, less n - 1 times that without it.

    Of a mean these are the numbers themselves. (Tukey 1958, Ann. Math. Stat. 29: the jackknife.)
    """
    prompts = len(without)
    return prompts * whole - (prompts - 1) * without


def stretched(
    estimate: Float[np.ndarray, "*cell"],
    draws: Float[np.ndarray, "draw *cell"],
    prompts: int,
    possible: tuple[float, float],
) -> Float[np.ndarray, "end *cell"]:
    """Ends of an interval about an estimate, from the same of resampled prompts.

    The farther end of 95 % of the draws counts on both sides, since resampling moves ranks towards
    chance; it is as much farther as Student's t is wider for so few prompts. It ends where the
    number can be no less or more: `possible`, (-1, 1) of a correlation. Draws that are all alike
    have the interval that `Intervals.within` says. NaN below FEWEST prompts, and where no draw has
    a number.
    """
    unknown = np.isnan(draws).all(axis=0)
    if prompts < FEWEST:
        return np.full((2, *unknown.shape), np.nan)
    ends = np.nanquantile(np.where(unknown, 0, draws), [TAIL, 1 - TAIL], axis=0)
    wider = special.stdtrit(prompts - 1, TAIL) / special.ndtri(TAIL) * _without_bias(prompts)
    half = np.abs(ends - estimate).max(axis=0) * wider
    half = np.where(half > 0, half, np.nan)
    n = np.full(unknown.shape, prompts)
    found = Intervals(estimate + np.zeros(unknown.shape), estimate - half, estimate + half, n)
    found = found.within(*possible)
    ends = np.stack([found.low, found.high])
    return np.where(unknown, np.nan, ends)


def p_above_zero(
    estimate: Float[np.ndarray, "*cell"], draws: Float[np.ndarray, "draw *cell"], prompts: int
) -> Float[np.ndarray, "*cell"]:
    """One-sided p that goes with `stretched`: the larger share of draws beyond, as one of t."""
    unknown = np.isnan(draws).all(axis=0)
    if prompts < FEWEST:
        return np.full(unknown.shape, np.nan)
    beyond = np.maximum((draws <= 0).sum(axis=0), (draws >= 2 * estimate).sum(axis=0))
    share = (1 + beyond) / (2 + (~np.isnan(draws)).sum(axis=0))
    p = special.stdtr(prompts - 1, special.ndtri(share) / _without_bias(prompts))
    return np.where(unknown, np.nan, p)


def _without_bias(prompts: int) -> float:
    """Resamples spread less than samples do, by the factor n - 1 over n in their variance."""
    return np.sqrt(prompts / (prompts - 1))
