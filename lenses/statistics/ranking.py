"""How well numbers given to heads rank what the removal of each does.

A score is computed from means over prompts, one number a head, and prompts are resampled: ranks
are taken anew in every resample, all measures and effects at once. Resampling adds noise to both
sides, so that intervals of rank correlations lean towards zero.

Groups are what is ranked apart: a row of heads for each layer, or all heads as one group.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from lenses.statistics.correlations import kendall, ranks, ranks_of_ties

TOP = 0.1
"""The share of heads that counts as the top; at least one of each group."""

CHUNK = 2**23
"""Numbers that are ranked at a time."""


def grouped(
    values: Shaped[np.ndarray, "*row layer head"], scope: str
) -> Shaped[np.ndarray, "*row group member"]:
    """The heads of each layer as a group ("within layers"), or all of them as one ("pooled")."""
    if scope == "within layers":
        return values
    return values.reshape(*values.shape[:-2], 1, -1)


def rank_vectors(
    values: Float[np.ndarray, "*row group member"],
) -> Float[np.ndarray, "*row group member"]:
    """Ranks within each group, centred and of length 1; zeros where all are tied, NaN with a NaN.

    The inner product of two is Spearman's correlation, and 0 with what ranks nothing.
    """
    centred = ranks(values) - (values.shape[-1] + 1) / 2
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    none = np.where(np.isnan(centred), np.nan, 0.0)
    return np.divide(centred, length, out=none, where=length > 0)


def rank_correlation(
    measure: Float[np.ndarray, "*row group member"], effect: Float[np.ndarray, "*row group member"]
) -> Float[np.ndarray, "*row"]:
    """Spearman's correlation, a mean over the groups in which effects differ; NaN without any.

    A measure that is the same for all members of a group ranks nothing: 0 there.
    """
    x, y = rank_vectors(measure), rank_vectors(effect)
    varies = (y != 0).any(axis=-1).sum(axis=-1)
    total = (x * y).sum(axis=(-2, -1))
    return np.divide(total, varies, out=np.full_like(total, np.nan), where=varies > 0)


def rank_correlation_tau(
    measure: Float[np.ndarray, "*row group member"], effect: Float[np.ndarray, "*row group member"]
) -> Float[np.ndarray, "*row"]:
    """Kendall's tau-b, averaged as `rank_correlation`; groups of fewer than three are left out."""
    found = kendall(measure, effect)
    tied = (measure == measure[..., :1]).all(axis=-1) & (effect != effect[..., :1]).any(axis=-1)
    return mean_of_known(np.where(tied & (measure.shape[-1] > 2), 0.0, found))


def area_under_curve(
    measure: Float[np.ndarray, "*row group member"], matters: Bool[np.ndarray, "*row group member"]
) -> Float[np.ndarray, "*row"]:
    """How often a head that matters is given more than one that does not; ties count half.

    A mean over the groups that have both kinds; NaN without any. (The ROC-AUC; Hanley & McNeil
    1982.)
    """
    members = matters.shape[-1]
    inside = matters.sum(axis=-1)
    pairs = inside * (members - inside)
    above = np.where(matters, ranks(measure), 0).sum(axis=-1) - inside * (inside + 1) / 2
    return mean_of_known(np.divide(above, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0))


def top_overlap(
    measure: Float[np.ndarray, "*row group member"], effect: Float[np.ndarray, "*row group member"]
) -> Float[np.ndarray, "*row"]:
    """Share of the heads with the largest effects that are among those given most.

    As many as TOP of a group, at least one; a mean over groups. Of tied ones each counts by its
    chance to be among the top.
    """
    size = max(1, round(TOP * measure.shape[-1]))
    return mean_of_known((_in_top(measure, size) * _in_top(effect, size)).sum(axis=-1) / size)


def _in_top(
    values: Float[np.ndarray, "*row group member"], size: int
) -> Float[np.ndarray, "*row group member"]:
    """Chance of each to be among the `size` largest, ties broken by lot."""
    least, most = ranks_of_ties(-values)
    return np.clip((size - least + 1) / (most - least + 1), 0, 1)


def rank_of(values: Float[np.ndarray, "*row member"], member: int) -> Float[np.ndarray, "*row"]:
    """A member's rank by values: the largest has 1, ties share their mean."""
    return ranks(-values)[..., member]


def mean_of_known(values: Float[np.ndarray, "..."], axes: int = 1) -> Float[np.ndarray, "..."]:
    """Mean over the last `axes` of what is defined; NaN where nothing is."""
    over, known = tuple(range(-axes, 0)), ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(axis=over), known.sum(axis=over)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def resampled_means(
    values: Sequence[Float[np.ndarray, "prompt *cell"]], seed: int, resamples: int
) -> Iterator[list[Float[np.ndarray, "draw *cell"]]]:
    """Means over prompts drawn with replacement, the same draws for all, some draws at a time.

    A NaN is a prompt without that number; a mean of none is NaN.
    """
    prompts = len(values[0])
    draws = np.random.default_rng(seed).multinomial(
        prompts, np.full(prompts, 1 / prompts), size=resamples
    )
    cells = sum(value[0].size for value in values)
    for part in np.array_split(draws, -(-resamples * cells // CHUNK)):
        yield [means(value, part.astype(float)) for value in values]


def means(
    values: Float[np.ndarray, "prompt *cell"], weight: Float[np.ndarray, "draw prompt"]
) -> Float[np.ndarray, "draw *cell"]:
    """Weighted means over the prompts that have the number; NaN where none has."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    total, count = weight @ np.where(known, flat, 0), weight @ known.astype(float)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean.reshape(len(weight), *values.shape[1:])
