"""What is chosen on all other texts, measured in the one that is left."""

import numpy as np
from jaxtyping import Float, Int


def best_elsewhere(
    gains: Float[np.ndarray, "text *cell choice"],
) -> Int[np.ndarray, "text *cell"]:
    """Of each text the number of the choice that is best in all others; -1 where none is known.

    NaN is a text that a choice has no gain in.
    """
    if gains.shape[-1] == 0:
        return np.full(gains.shape[:-1], -1)
    known = ~np.isnan(gains)
    there = np.where(known, gains, 0)
    total, count = there.sum(0) - there, known.sum(0) - known
    means = np.divide(total, count, out=np.full(gains.shape, -np.inf), where=count > 0)
    return np.where(np.isinf(means.max(-1)), -1, means.argmax(-1))


def of_choice(
    values: Float[np.ndarray, "text *cell choice"], chosen: Int[np.ndarray, "text *cell"]
) -> Float[np.ndarray, "text *cell"]:
    """The value of each text's choice; NaN where there is none (-1)."""
    if values.shape[-1] == 0:
        return np.full(chosen.shape, np.nan)
    own = np.take_along_axis(values, chosen.clip(min=0)[..., None], axis=-1)[..., 0]
    return np.where(chosen < 0, np.nan, own)


def held_out(gains: Float[np.ndarray, "text *cell choice"]) -> Float[np.ndarray, "text *cell"]:
    """Of each text the gain of the choice that is best in all others; NaN without.

    `held_out` of the gains [[.1, .5], [.2, .4]] of two choices in two texts is [.5, .4].
    """
    return of_choice(gains, best_elsewhere(gains))
