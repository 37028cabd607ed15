"""Sentences that share a frame are no independent evidence: estimates over frames.

Within a frame sentences are averaged; frames are resampled, and their signs flipped. A head that
is the best of many is estimated where it was not chosen.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from lenses.statistics.intervals import BLOCK, RESAMPLES, luck_as_far


def frame_means(
    values: Float[np.ndarray, "case *cell"], frames: Sequence[str]
) -> Float[np.ndarray, "frame *cell"]:
    """Means over the cases of each frame, frames as they first come; NaN is no value."""
    names = np.array(frames)
    found = []
    for name in dict.fromkeys(frames):
        part = values[names == name]
        known = ~np.isnan(part)
        total, count = np.where(known, part, 0).sum(0), known.sum(0)
        found.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.stack(found)


def best_elsewhere(
    values: Float[np.ndarray, "frame cell"],
) -> tuple[Int[np.ndarray, "frame"], Float[np.ndarray, "frame"]]:
    """For each frame the cell with the highest mean over the others, and its value in this one.

    The mean of these values has no bias from having taken the best of many. Raises ValueError for
    a single frame.
    """
    if len(values) < 2:
        raise ValueError("one frame leaves no others to choose by")
    others = values.sum(axis=0) - values
    chosen = others.argmax(axis=1)
    return chosen, values[np.arange(len(values)), chosen]


def p_any(
    values: Float[np.ndarray, "frame cell"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "cell"]:
    """p of each cell's mean against the largest of all cells by chance (max-T, two-sided).

    Signs of frames are flipped at random, all cells of a frame together; the observed signs count
    as one of the flips. (Westfall & Young 1993, section 2.6.)
    """
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=(resamples, len(values)))
    known = ~np.isnan(values).any(axis=0)
    largest = np.abs(signs @ values[:, known]).max(axis=1, initial=0)
    reached = np.abs(values.sum(axis=0)) * (1 - 1e-12)  # flipping all signs must count as reached
    return luck_as_far(reached, largest[:, None])


def p_elsewhere(
    values: Float[np.ndarray, "frame cell"], seed: int = 0, resamples: int = RESAMPLES // 5
) -> float:
    """One-sided p of the mean of `best_elsewhere`: cells are chosen anew as signs are flipped.

    Signs of frames are flipped at random, all cells of a frame together; the observed signs count
    as one of the flips.
    """
    observed = best_elsewhere(values)[1].sum()
    rng, drawn = np.random.default_rng(seed), []
    for size in np.diff(np.r_[np.arange(0, resamples, BLOCK), resamples]):
        signs = rng.choice([-1.0, 1.0], size=(size, len(values)))
        every, by_luck = signs @ values, np.zeros(size)
        for number, here in enumerate(values):
            sign = signs[:, number]
            chosen = (every - sign[:, None] * here).argmax(axis=1)
            by_luck += sign * here[chosen]
        drawn.append(by_luck)
    return float(luck_as_far(observed - 1e-12 * np.abs(values).sum(), np.concatenate(drawn)))
