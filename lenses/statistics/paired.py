"""Two shares of the same cases: their difference, with an interval that holds for few cases."""

import numpy as np
from jaxtyping import Bool
from scipy import special

from lenses.statistics.intervals import Estimate, wilson


def paired_shares(one: Bool[np.ndarray, "case"], other: Bool[np.ndarray, "case"]) -> Estimate:
    """The share of `one` less that of `other`, and p of the exact McNemar test.

    The interval is put together from Wilson's of both shares, and narrower the more they go
    together (Newcombe 1998, Statistics in Medicine 17:2635, method 8).
    """
    n = len(one)
    shares = np.array([one.mean(), other.mean()])
    low, high = wilson(np.array([one.sum(), other.sum()]), n)
    spread = np.sqrt(np.prod(shares * (1 - shares)))
    phi = ((one & other).mean() - shares.prod()) / spread if spread else 0.0
    down, up = shares - low, high - shares
    below = down[0] ** 2 - 2 * phi * down[0] * up[1] + up[1] ** 2
    above = up[0] ** 2 - 2 * phi * up[0] * down[1] + down[1] ** 2
    gap = float(shares[0] - shares[1])
    only = int((one & ~other).sum()), int((other & ~one).sum())
    p = min(1.0, 2 * special.bdtr(min(only), sum(only), 0.5))
    ends = gap - np.sqrt(max(below, 0.0)), gap + np.sqrt(max(above, 0.0))
    return Estimate(gap, float(ends[0]), float(ends[1]), n, float(p))
