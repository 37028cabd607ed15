"""Can a plane tell numbers apart by their remainder? (A Fourier spike does not say that it can.)

Numbers on a circle of period T have a spike at that period, but so has a single cosine, in which v
and -v coincide: spikes are necessary, not sufficient. Here a linear classifier is fitted to some of
the values and asked for the remainder mod T of others. Ten digits have one of each remainder mod
10, so that none can be held out: mod 10 takes longer ranges.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lenses.digits.geometry import fourier, gram, max_t, share

MODULI = (2, 5, 10)
FOLDS = 5
"""Parts of each class that are held out in turn, or as many as it has members."""
PERMUTATIONS = 500
RIDGE = 0.01
"""Penalty of the classifier, as a share of the mean square of the states."""


def held_out_accuracy(
    points: Float[np.ndarray, "value d"], modulus: int, orders: Int[np.ndarray, "draw value"]
) -> Float[np.ndarray, "draw"]:
    """Share of held-out values whose remainder a linear classifier gets right, by their labels.

    Value v has the label orders[draw, v] (as it is: v). Least squares on one-hot remainders with an
    L2 penalty and an intercept; each fold holds out as many of every class.
    """
    values = len(points)
    members = values // modulus
    fold = np.arange(values) // modulus % min(FOLDS, members)
    products = points.astype(float) @ points.astype(float).T
    # Labels that move over values are values that move under the labels.
    moved = np.argsort(orders, axis=1)
    products = products[moved[:, :, None], moved[:, None, :]]
    right = np.zeros(len(orders))
    for number in range(fold.max() + 1):
        is_in, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        scores = _fitted(products, is_in, out, np.eye(modulus)[is_in % modulus])
        right += (scores.argmax(-1) == out % modulus).sum(1)
    return right / values


def _fitted(
    products: Float[np.ndarray, "draw value value"],
    is_in: Int[np.ndarray, "seen"],
    out: Int[np.ndarray, "unseen"],
    targets: Float[np.ndarray, "seen label"],
) -> Float[np.ndarray, "draw unseen label"]:
    """What ridge regression on the seen values gives the unseen ones, from inner products alone."""
    seen, across = products[:, is_in][:, :, is_in], products[:, out][:, :, is_in]
    centre, ends = seen.mean(2, keepdims=True), across.mean(2, keepdims=True)
    middle = seen.mean((1, 2), keepdims=True)
    own = seen - centre - centre.transpose(0, 2, 1) + middle
    other = across - ends - centre.transpose(0, 2, 1) + middle
    penalty = RIDGE * np.trace(own, axis1=1, axis2=2) / len(is_in) + 1e-12
    weights = np.linalg.solve(own + penalty[:, None, None] * np.eye(len(is_in)), targets[None])
    return other @ weights


def separability(
    slots: Sequence[tuple[str, int]],
    states: Float[np.ndarray, "slot layer context value d"],
    seed: int,
) -> pd.DataFrame:
    """Held-out accuracy mod 2, 5 and 10 at each place and layer, beside the circle of that period.

    `shuffled` is the mean over permuted labels, `p` corrected for all places and layers (max-T);
    `spike` the share of variation along the circle, and `spike_chance` what it would be if the
    values were equally far apart. The state that enters the first block is the embedding.
    """
    values = states.shape[3]
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(values), (PERMUTATIONS, 1)), axis=1)
    orders = np.concatenate([np.arange(values)[None], orders])
    rows = [(*slot, layer) for slot in slots for layer in range(states.shape[1])]
    sites = pd.DataFrame(rows, columns=["operand", "place", "layer"])
    sites["where"] = np.where(sites["layer"] == 0, "embedding", "state")
    flat = states.reshape(-1, *states.shape[2:])
    grams, parts = np.stack([gram(site) for site in flat]), []
    for modulus in (modulus for modulus in MODULI if values >= 2 * modulus):
        means = flat.mean(1)
        found = np.stack([held_out_accuracy(points, modulus, orders) for points in means], 1)
        circle = fourier(values, modulus)
        parts.append(sites.assign(
            modulus=modulus, accuracy=found[0], chance=1 / modulus, shuffled=found[1:].mean(0),
            p=max_t(found[0], found[1:]), spike=share(grams, circle),
            spike_chance=circle.shape[1] / (values - 1), n=values,
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)
