"""Correlations along the last axis of arrays: Pearson, Spearman, Kendall, all rows at once."""

import numpy as np
from jaxtyping import Float, Int, Num


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
    return pearson(ranks(x), ranks(y))


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
    rank_x, rank_y = (np.nan_to_num(2 * ranks(v)).astype(np.int64) for v in (x, y))
    both = np.sort(rank_x * (2 * n + 1) + rank_y, axis=-1)
    pairs = n * (n - 1) // 2
    tied_x, tied_y = _tied_pairs(both // (2 * n + 1)), _tied_pairs(np.sort(rank_y))
    loose_x, loose_y = pairs - tied_x, pairs - tied_y
    discordant = _inversions(both % (2 * n + 1))
    concordant = loose_x + loose_y - pairs + _tied_pairs(both) - discordant
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = (concordant - discordant) / np.sqrt(loose_x.astype(float) * loose_y)
    return np.where(np.isnan(x).any(-1) | np.isnan(y).any(-1), np.nan, tau)


def ranks(values: Num[np.ndarray, "*row point"]) -> Float[np.ndarray, "*row point"]:
    """Ranks from 1 along the last axis, ties at their mean; rows with a NaN are all NaN."""
    least, most = ranks_of_ties(values)
    return (least + most) / 2


def ranks_of_ties(
    values: Num[np.ndarray, "*row point"],
) -> tuple[Float[np.ndarray, "*row point"], Float[np.ndarray, "*row point"]]:
    """The lowest and the highest rank that each value could have among those equal to it."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    start = _run_starts(ordered)
    # Read backwards, the runs of ties start where they end.
    end = values.shape[-1] - 1 - _run_starts(ordered[..., ::-1])[..., ::-1]
    least, most = np.empty(values.shape), np.empty(values.shape)
    np.put_along_axis(least, order, start + 1.0, axis=-1)
    np.put_along_axis(most, order, end + 1.0, axis=-1)
    unknown = np.isnan(ordered[..., -1:])
    return np.where(unknown, np.nan, least), np.where(unknown, np.nan, most)


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
