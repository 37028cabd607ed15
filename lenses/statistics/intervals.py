"""Intervals, correlations and tests on small tables of per-prompt numbers.

What varies between prompts is the unit of evidence: a statistic is computed once per prompt, and
only then are prompts resampled, so that ten thousand resamples cost a matrix product.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import special

RESAMPLES = 10_000
FEWEST = 5
"""Prompts below which there is no interval: none that is short enough to be of use covers."""
CHUNK = 2**24  # float64 numbers held at a time: 128 MB
BLOCK = 500
"""Resamples held at a time, or fewer: memory must not grow with the prompts."""
HELD = 2**17  # numbers of these resamples: 1 MB
RATIOS = 2**21  # resampled means held at a time: 16 MB
ROUNDING = 1e-6
"""Numbers that differ by no more of their size are alike."""
LEAST_ERROR = 0.1
"""Standard error that a resample has at least, as a share of that of all prompts."""
KEPT = 2**19  # numbers of one set of draws that is kept for the next call: 4 MB, or 52 prompts


class Estimate(NamedTuple):
    """A number with its 95 % interval over `n` cases, and p where it was tested."""

    estimate: float
    low: float
    high: float
    n: int
    p: float | None = None


@dataclass(frozen=True)
class Intervals:
    """Estimates with 95 % intervals; NaN ends where n < FEWEST, or where all numbers are alike."""

    estimate: Float[np.ndarray, "*cell"]
    low: Float[np.ndarray, "*cell"]
    high: Float[np.ndarray, "*cell"]
    n: Int[np.ndarray, "*cell"]

    def within(self, least: float, most: float) -> "Intervals":
        """The same of numbers that cannot be less or more: a share ends at 0 and 1.

        What cannot be is cut off, which covers as often. Of n numbers that are all alike, as many
        others may be as Wilson's share of 0 of n (.43 of 5, .11 of 31), all at an end of the range.
        """
        low, high = np.clip([self.low, self.high], least, most)
        if np.isfinite(most - least):
            alike, (_, others) = (self.n >= FEWEST) & np.isnan(low), wilson(0 * self.n, self.n)
            ends = zip((low, high), (least, most), strict=True)
            low, high = (
                np.where(alike, self.estimate + others * (far - self.estimate), end)
                for end, far in ends
            )
        return replace(self, low=low, high=high)

    def either_side(self) -> "Intervals":
        """The same of numbers without a known range, that are held against 0.

        Of n numbers that are all alike as many others may be as Wilson's share of 0 of n, each as
        far on the other side of 0.
        """
        others = wilson(0 * self.n, self.n)[1]
        half = np.where(self.estimate == 0, np.nan, 2 * others * np.abs(self.estimate))
        alike = (self.n >= FEWEST) & np.isnan(self.low)
        low, high = (
            np.where(alike, self.estimate + way * half, end)
            for way, end in ((-1, self.low), (1, self.high))
        )
        return replace(self, low=low, high=high)


def wilson(
    correct: Num[np.ndarray, "*cell"] | int, n: Num[np.ndarray, "*cell"] | int, level: float = 0.95
) -> tuple[Float[np.ndarray, "*cell"], Float[np.ndarray, "*cell"]]:
    """Low and high ends of the score interval of proportions `correct / n`, 95 % unless told.

    Nothing observed (n = 0) says nothing: the interval is then 0 to 1. (Wilson 1927, JASA 22.)
    Raises ValueError where `correct` is not between 0 and n.
    """
    correct, n = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    if np.any((correct < 0) | (correct > n)):
        raise ValueError("correct must lie between 0 and n")
    z = special.ndtri((1 + level) / 2)
    trials = np.maximum(n, 1)
    share = correct / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt((share * (1 - share) + z**2 / (4 * trials)) / trials)
    # The ends are exactly 0 and 1 for none and all correct; rounding would miss them by 1e-17.
    low = np.where(correct == 0, 0.0, middle - half)
    high = np.where(correct == n, 1.0, middle + half)
    return low, high


def share(correct: int, n: int) -> Estimate | None:
    """The share `correct / n` with Wilson's interval; None where there were no cases.

    Nine of ten: `share(9, 10)` is .9 [.596, .982].
    """
    if n == 0:
        return None
    low, high = wilson(correct, n)
    return Estimate(correct / n, float(low), float(high), int(n))


def bootstrap(
    estimates: Float[np.ndarray, "prompt *cell"], seed: int = 0, resamples: int = RESAMPLES
) -> Intervals:
    """Means over prompts with intervals that cover: the wider of Student's t and bootstrap-t.

    Of [prompt] the four are plain numbers; of [prompt cell] they are arrays [cell].

    Percentiles of resampled means are too narrow for few prompts (they cover .79 to .84 at 5, .88
    to .92 at 16); Student's t alone is too narrow where numbers are skewed. A resample in which
    nearly all numbers are alike has hardly an error of its own: with LEAST_ERROR ends lie within
    twenty standard errors, and cover as often. Below FEWEST prompts there is no interval, nor of
    numbers that are all alike, which do not tell how far others may lie: a known range does, see
    `Intervals.within`. A NaN is a prompt that has no estimate in that cell: it is left out, and `n`
    counts what is left. Every cell sees the same resamples, so differences of cells are best formed
    per prompt before the call. (Efron & Tibshirani 1993, section 12.5, for bootstrap-t.)
    """
    prompts, cells = estimates.shape[0], estimates.shape[1:]
    flat = estimates.reshape(prompts, int(np.prod(cells))).astype(float)
    known = ~np.isnan(flat)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        estimate = np.where(known, flat, 0).sum(axis=0) / n
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    if prompts >= FEWEST:
        enough = np.flatnonzero(n >= FEWEST)
        for part in np.array_split(enough, max(1, -(-len(enough) * resamples // RATIOS))):
            # The same draws for every part: to make them again takes less than to keep them.
            draws = _drawn(prompts, resamples, seed)
            low[part], high[part] = _ends(draws, resamples, flat[:, part] - estimate[part])
        alike = ~(high - low > ROUNDING * np.abs(estimate))
        low, high = (np.where(alike, np.nan, end + estimate) for end in (low, high))
    return Intervals(*(x.reshape(cells)[()] for x in (estimate, low, high, n)))


Draws = tuple[slice, Float[np.ndarray, "some prompt"]]


def _drawn(prompts: int, resamples: int, seed: int) -> Iterator[Draws]:
    """How often each prompt is drawn, some resamples at a time, with where they stand.

    Draws with replacement enter a mean only through how often each prompt is drawn. To draw takes
    five times as long as all the rest, so the draws of few prompts are kept: most calls of an
    experiment are about the same prompts.
    """
    few = prompts * resamples <= KEPT
    return iter(_of_few(prompts, resamples, seed) if few else _draw(prompts, resamples, seed))


@lru_cache(maxsize=4)
def _of_few(prompts: int, resamples: int, seed: int) -> list[Draws]:
    found = list(_draw(prompts, resamples, seed))
    for _, drawn in found:
        drawn.setflags(write=False)
    return found


def _draw(prompts: int, resamples: int, seed: int) -> Iterator[Draws]:
    rng, even = np.random.default_rng(seed), np.full(prompts, 1 / prompts)
    size = max(1, min(BLOCK, HELD // prompts))
    for first in range(0, resamples, size):
        some = slice(first, min(first + size, resamples))
        yield some, rng.multinomial(prompts, even, size=some.stop - first).astype(float)


def _ends(
    draws: Iterator[Draws],
    resamples: int,
    centred: Float[np.ndarray, "prompt cell"],
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """Ends of the interval of a mean that is zero: the wider of the two, on either side."""
    known = ~np.isnan(centred)
    values, n = np.where(known, centred, 0), known.sum(axis=0)
    error = np.sqrt((values**2).sum(axis=0) / (n - 1) / n)
    student = special.stdtrit(n - 1, 0.975)
    ratios = np.empty((resamples, centred.shape[1]))
    for some, drawn in draws:
        ratios[some] = _studentised(drawn, values, known, error)
    below, above = np.quantile(ratios, [0.025, 0.975], axis=0, overwrite_input=True)
    return -np.maximum(student, above) * error, np.maximum(student, -below) * error


def _studentised(
    draws: Float[np.ndarray, "resample prompt"],
    values: Float[np.ndarray, "prompt cell"],
    known: Bool[np.ndarray, "prompt cell"],
    error: Float[np.ndarray, "cell"],
) -> Float[np.ndarray, "resample cell"]:
    """Each resample's mean over its own standard error, or over LEAST_ERROR of that of all prompts.

    A resample of equal numbers only has none (shares often tie): it takes that of all prompts.
    """
    count = draws @ known.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (draws @ values) / count
        spread = np.maximum((draws @ values**2) / count - mean**2, 0)
        own = np.sqrt(spread / (count - 1))
        tied = ~(own > 1e-6 * error)
        ratio = mean / np.where(tied, error, np.maximum(own, LEAST_ERROR * error))
    return np.nan_to_num(ratio, posinf=0, neginf=0)


def sign_flip(
    differences: Float[np.ndarray, "prompt *cell"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "*cell"]:
    """Two-sided p-values of "the mean difference is zero": signs of prompts flipped at random.

    NaN is a prompt without an estimate. The observed signs count as one of the flips, so p is never
    0 and is 1 for a single prompt. (Fisher 1935; Phipson & Smyth 2010 for the added one.)
    """
    cells = int(np.prod(differences.shape[1:]))
    flat = np.nan_to_num(differences.reshape(len(differences), cells).astype(float))
    rng = np.random.default_rng(seed)
    observed = np.abs(flat.sum(axis=0))
    # Flipping all signs gives the same absolute sum up to rounding; it must count as reached.
    reached = observed - 1e-12 * np.abs(flat).sum(axis=0)
    beyond = np.zeros(flat.shape[1])
    block = max(1, min(BLOCK, HELD // max(1, len(flat)), CHUNK // max(1, flat.shape[1])))
    for first in range(0, resamples, block):
        size = min(block, resamples - first), flat.shape[0]
        beyond += (np.abs(rng.choice([-1.0, 1.0], size=size) @ flat) >= reached).sum(axis=0)
    return ((1 + beyond) / (1 + resamples)).reshape(differences.shape[1:])


def mean_with_p(
    values: Float[np.ndarray, "prompt"],
    against: float = 0.0,
    seed: int = 0,
    possible: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean over prompts with the interval of `bootstrap`, and p (two-sided) of its being `against`.

    p is that of `sign_flip`; `possible` is the range of the numbers.
    """
    found, p = bootstrap(values, seed).within(*possible), sign_flip(values - against, seed)
    ends = (end.item() for end in (found.estimate, found.low, found.high))
    return Estimate(*ends, found.n.item(), p.item())


def luck_above_zero(
    differences: Float[np.ndarray, "prompt *cell"], seed: int = 0
) -> Float[np.ndarray, "*cell"]:
    """One-sided p-values of "the mean difference is not above zero", by `sign_flip`; 1 of none."""
    p, above = sign_flip(differences, seed), np.nansum(differences, axis=0) > 0
    return np.where(np.isnan(differences).all(axis=0), 1.0, np.where(above, p / 2, 1 - p / 2))


def luck_as_far(
    observed: Float[np.ndarray, "*cell"] | float, null: Float[np.ndarray, "draw *#cell"]
) -> Float[np.ndarray, "*cell"]:
    """One-sided p: share of draws that reach what was observed, which counts as one of them.

    NaN, observed or drawn, counts as reached: what is not known is never significant.
    """
    return (1 + (~(null < np.asarray(observed))).sum(axis=0)) / (1 + len(null))


def luck_beyond(
    apart: Num[np.ndarray, "*cell"] | float,
    half: Num[np.ndarray, "*cell"] | float,
    n: Num[np.ndarray, "*cell"] | int,
) -> Float[np.ndarray, "*cell"]:
    """Two-sided p of a mean `apart` from a threshold, whose 95 % interval reaches `half` that way.

    Student's t of n numbers with an interval that ends where this one does.
    """
    free = np.maximum(np.asarray(n) - 1, 1)
    height = np.asarray(apart) / np.maximum(half, 1e-300)
    return np.asarray(2 * special.stdtr(free, -special.stdtrit(free, 0.975) * height))


def luck_outside(
    found: Any, above: float = -np.inf, below: float = np.inf
) -> Float[np.ndarray, "*cell"]:
    """Two-sided p, by its interval, that a number does not lie between two bounds after all.

    1 where it has no interval, or lies beyond a bound itself. `found`: a table, or a row of one,
    or whatever has `estimate`, `low`, `high` and `n`.
    """
    names = ("estimate", "low", "high", "n")
    estimate, low, high, n = (np.asarray(getattr(found, name), dtype=float) for name in names)
    sides = ((estimate - above, estimate - low), (below - estimate, high - estimate))
    p = np.maximum(*(luck_beyond(apart, half, n) for apart, half in sides))
    return np.where(np.isnan(p), 1.0, p.clip(max=1))


def largest_by_luck(
    differences: Num[np.ndarray, "prompt cell"], rng: np.random.Generator, draws: int
) -> Float[np.ndarray, "draw"]:
    """The largest of all cells' sums, each over its standard deviation, as signs are flipped.

    A prompt's sign is the same in all cells, so that cells keep what they share. A cell whose own
    value is above all but a share .05 of the draws has more than luck in it, however many cells
    there are (max-T: Westfall & Young 1993, section 2.3). Never below 0, which is what cells
    without a difference have.
    """
    spread = np.sqrt((differences.astype(float) ** 2).sum(0))
    scaled = differences[:, spread > 0] / spread[spread > 0]
    signs = rng.choice([-1.0, 1.0], size=(draws, len(differences)))
    return (signs @ scaled).max(axis=1, initial=0)


def benjamini_hochberg(p: Float[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """Adjusted p-values q over the whole grid: q <= .05 keeps the false discovery rate at .05.

    (Benjamini & Hochberg 1995, JRSS B 57.) Raises ValueError for a p that is unknown, or no share.
    """
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must lie between 0 and 1")
    order, count = p.argsort(axis=None), p.size
    raised = p.ravel()[order] * (count / np.arange(1, count + 1))  # the last is p itself
    q = np.empty(count)
    q[order] = np.minimum.accumulate(raised[::-1])[::-1]
    return q.reshape(p.shape)
