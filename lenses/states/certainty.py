"""How sure a model is of its next token on one text against another, the token read held fixed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from lenses.statistics.intervals import bootstrap, sign_flip
from lenses.statistics.resampled import pseudo_values

BINS = 8
"""Ranges of surprisal, equally many tokens in each, within which texts are compared."""


def entropies(log_p: Float[Tensor, "*batch vocab"]) -> Float[np.ndarray, "*batch"]:
    """Entropy of predictions, in nats."""
    return -(log_p.exp() * log_p).nan_to_num().sum(-1).double().cpu().numpy()


@dataclass(frozen=True)
class Ratio:
    """Mean entropy on one text over that on another, with its 95 % interval over prompts."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided, of "they are the same"."""
    n: int


def ratio(
    entropy: Float[np.ndarray, "prompt two pos"],
    surprisal: Float[np.ndarray, "prompt two pos"],
    known: Bool[np.ndarray, "prompt pos"],
    bins: int = BINS,
    seed: int = 0,
) -> Ratio:
    """Mean entropy after the tokens of the first text over that after those of the second.

    The token just read is held fixed: means are taken within ranges of its surprisal, and ranges
    count by the smaller number of their tokens in the two texts (direct standardisation; with one
    range, nothing is held fixed). Interval and p are of the logarithm, from a number of each
    prompt's own (the jackknife). NaN where no range has both texts.
    """
    sums, counts = _by_range(entropy, surprisal, known, bins)
    whole = _log_ratio(sums.sum(0), counts.sum(0))
    left = _log_ratio(sums.sum(0) - sums, counts.sum(0) - counts)
    own = pseudo_values(whole, left)
    ends, p = bootstrap(own, seed), sign_flip(own, seed)
    estimate, low, high = (float(np.exp(x)) for x in (whole, ends.low, ends.high))
    return Ratio(estimate, low, high, float(p), len(entropy))


def _by_range(
    entropy: Float[np.ndarray, "prompt two pos"],
    surprisal: Float[np.ndarray, "prompt two pos"],
    known: Bool[np.ndarray, "prompt pos"],
    bins: int,
) -> tuple[Float[np.ndarray, "prompt two range"], Float[np.ndarray, "prompt two range"]]:
    """Sums of entropies, and numbers of tokens, in each range of surprisal."""
    there = np.broadcast_to(known[:, None], surprisal.shape)
    edges = np.quantile(surprisal[there], np.linspace(0, 1, bins + 1)[1:-1])
    at = np.searchsorted(edges, surprisal)[..., None] == np.arange(bins)
    at &= there[..., None]
    return (np.where(at, entropy[..., None], 0)).sum(2), at.sum(2).astype(float)


def _log_ratio(
    sums: Float[np.ndarray, "*draw two range"], counts: Float[np.ndarray, "*draw two range"]
) -> Float[np.ndarray, "*draw"]:
    weights = counts.min(axis=-2)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.log((weights[..., None, :] * means).sum(-1))
        return whole[..., 0] - whole[..., 1]
