"""Intervals, correlations and tests on small tables of per-prompt numbers.

What varies between prompts is the unit of evidence: a statistic is computed once per prompt, and
only then are prompts resampled, so that ten thousand resamples cost a matrix product.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

RESAMPLES = 10_000
CHUNK = 2**24  # float64 numbers held at a time: 128 MB


@dataclass(frozen=True)
class Intervals:
    """Estimates with 95 % percentile intervals; `low` and `high` are NaN where n < 2."""

    estimate: Float[np.ndarray, "*cell"]
    low: Float[np.ndarray, "*cell"]
    high: Float[np.ndarray, "*cell"]
    n: Int[np.ndarray, "*cell"]


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
    z = stats.norm.ppf((1 + level) / 2)
    trials = np.maximum(n, 1)
    share = correct / trials
    middle = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt((share * (1 - share) + z**2 / (4 * trials)) / trials)
    # The ends are exactly 0 and 1 for none and all correct; rounding would miss them by 1e-17.
    low = np.where(correct == 0, 0.0, middle - half)
    high = np.where(correct == n, 1.0, middle + half)
    return low, high


def bootstrap(
    estimates: Float[np.ndarray, "prompt *cell"], seed: int = 0, resamples: int = RESAMPLES
) -> Intervals:
    """Means over prompts with percentile intervals, prompts resampled with replacement.

    A NaN is a prompt that has no estimate in that cell: it is left out of that cell's mean, and
    `n` counts what is left. Every cell sees the same resamples, so differences of cells are best
    formed per prompt before the call. (Efron & Tibshirani 1993, section 13.3.)
    """
    prompts, cells = estimates.shape[0], estimates.shape[1:]
    flat = estimates.reshape(prompts, int(np.prod(cells))).astype(float)
    known = ~np.isnan(flat)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        estimate = np.where(known, flat, 0).sum(axis=0) / n
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    if prompts >= 2:
        # Draws with replacement enter a mean only through how often each prompt is drawn.
        draws = np.random.default_rng(seed).multinomial(
            prompts, np.full(prompts, 1 / prompts), size=resamples
        )
        for part in np.array_split(np.flatnonzero(n >= 2), -(-flat.size * resamples // CHUNK)):
            low[part], high[part] = _resampled_ends(draws.astype(float), flat[:, part])
    return Intervals(*(x.reshape(cells) for x in (estimate, low, high, n)))


def _resampled_ends(
    draws: Float[np.ndarray, "resample prompt"], flat: Float[np.ndarray, "prompt cell"]
) -> tuple[Float[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    known = ~np.isnan(flat)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (draws @ np.where(known, flat, 0)) / (draws @ known.astype(float))
    # A resample that misses every prompt of a cell has no mean; it is NaN and is left out.
    ends = np.nanquantile if np.isnan(means).any() else np.quantile
    low, high = ends(means, [0.025, 0.975], axis=0)
    return low, high


def sign_flip(
    differences: Float[np.ndarray, "prompt *cell"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "*cell"]:
    """Two-sided p-values of "the mean difference is zero": signs of prompts flipped at random.

    NaN is a prompt without an estimate. The observed signs count as one of the flips, so p is never
    0 and is 1 for a single prompt. (Fisher 1935; Phipson & Smyth 2010 for the added one.)
    """
    flat = np.nan_to_num(differences.reshape(differences.shape[0], -1).astype(float))
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(resamples, flat.shape[0]))
    observed = np.abs(flat.sum(axis=0))
    # Flipping all signs gives the same absolute sum up to rounding; it must count as reached.
    reached = observed - 1e-12 * np.abs(flat).sum(axis=0)
    beyond = np.zeros(flat.shape[1])
    for part in np.array_split(signs, max(1, -(-flat.shape[1] * resamples // CHUNK))):
        beyond += (np.abs(part @ flat) >= reached).sum(axis=0)
    return ((1 + beyond) / (1 + resamples)).reshape(differences.shape[1:])


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

    (Benjamini & Hochberg 1995, JRSS B 57.)
    """
    return stats.false_discovery_control(p.ravel()).reshape(p.shape)


def pearson(
    x: Float[np.ndarray, "*row point"], y: Float[np.ndarray, "*row point"]
) -> Float[np.ndarray, "*row"]:
    """Correlation along the last axis; NaN where it is undefined.

    Undefined are fewer than three points (two points always correlate by +1 or -1) and a row in
    which x or y does not vary beyond rounding.
    """
    n = x.shape[-1]
    if n < 3:
        return np.full(x.shape[:-1], np.nan)
    dx, dy = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    sx, sy = np.linalg.norm(dx, axis=-1), np.linalg.norm(dy, axis=-1)
    flat = (sx <= 1e-12 * np.linalg.norm(x, axis=-1)) | (sy <= 1e-12 * np.linalg.norm(y, axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat, np.nan, np.clip((dx * dy).sum(-1) / (sx * sy), -1, 1))


def spearman(
    x: Float[np.ndarray, "*row point"], y: Float[np.ndarray, "*row point"]
) -> Float[np.ndarray, "*row"]:
    """Rank correlation along the last axis, ties at their mean rank; undefined as `pearson`."""
    return pearson(_ranks(x), _ranks(y))


def kendall(
    x: Float[np.ndarray, "*row point"], y: Float[np.ndarray, "*row point"]
) -> Float[np.ndarray, "*row"]:
    """Kendall's tau-b along the last axis, all rows at once; undefined as `pearson`.

    Discordant pairs are the inversions of y once the points are sorted by x, counted by merging
    sorted halves: O(n log n) per row. (Knight 1966, JASA 61.)
    """
    n = x.shape[-1]
    if n < 3:
        return np.full(x.shape[:-1], np.nan)
    # Twice the mean rank is a whole number. Ties in x are sorted by y, so that a pair tied in x is
    # never an inversion.
    rank_x, rank_y = (np.nan_to_num(2 * _ranks(v)).astype(np.int64) for v in (x, y))
    both = np.sort(rank_x * (2 * n + 1) + rank_y, axis=-1)
    pairs = n * (n - 1) // 2
    tied_x, tied_y = _tied_pairs(both // (2 * n + 1)), _tied_pairs(np.sort(rank_y))
    loose_x, loose_y = pairs - tied_x, pairs - tied_y
    discordant = _inversions(both % (2 * n + 1))
    concordant = loose_x + loose_y - pairs + _tied_pairs(both) - discordant
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = (concordant - discordant) / np.sqrt(loose_x.astype(float) * loose_y)
    return np.where(np.isnan(x).any(-1) | np.isnan(y).any(-1), np.nan, tau)


def _ranks(values: Float[np.ndarray, "*row point"]) -> Float[np.ndarray, "*row point"]:
    """Ranks from 1 along the last axis, ties at their mean; rows with a NaN are all NaN."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    start = _run_starts(ordered)
    # Read backwards, the runs of ties start where they end.
    end = values.shape[-1] - 1 - _run_starts(ordered[..., ::-1])[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (start + end) / 2 + 1, axis=-1)
    return np.where(np.isnan(ordered[..., -1:]), np.nan, ranks)


def _run_starts(ordered: Num[np.ndarray, "*row point"]) -> Int[np.ndarray, "*row point"]:
    """For each value of sorted rows, where its run of equal values starts."""
    new = np.ones(ordered.shape, dtype=bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return np.maximum.accumulate(np.where(new, np.arange(ordered.shape[-1]), 0), axis=-1)


def _tied_pairs(ordered: Int[np.ndarray, "*row point"]) -> Int[np.ndarray, "*row"]:
    """Pairs of equal values in sorted rows: each value pairs with those before it in its run."""
    return (np.arange(ordered.shape[-1]) - _run_starts(ordered)).sum(-1)


def _inversions(values: Int[np.ndarray, "*row point"]) -> Int[np.ndarray, "*row"]:
    """Pairs (i < j) with values[i] > values[j], by bottom-up merge sort."""
    n = values.shape[-1]
    size = 1 << (n - 1).bit_length()
    # The padding is the largest value and comes last: it adds no inversion.
    merged = np.full((*values.shape[:-1], size), np.iinfo(np.int64).max)
    merged[..., :n] = values
    total = np.zeros(values.shape[:-1], dtype=np.int64)
    for width in (1 << level for level in range((n - 1).bit_length())):
        blocks = merged.reshape(*values.shape[:-1], size // (2 * width), 2 * width)
        order = np.argsort(blocks, axis=-1, kind="stable")
        from_right = order >= width
        overtaken = np.cumsum(from_right, axis=-1) * ~from_right
        total += overtaken.sum((-1, -2))
        merged = np.take_along_axis(blocks, order, axis=-1).reshape(merged.shape)
    return total


CORRELATIONS = {"pearson": pearson, "spearman": spearman, "kendall": kendall}
