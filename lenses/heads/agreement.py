"""How far two per-head measures agree within a prompt, at three levels of aggregation.

Everything here is one estimate per prompt; intervals come from resampling prompts afterwards.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from lenses.statistics.correlations import CORRELATIONS

LEVELS = ("token", "layer_head", "head")
"""One point per (layer, head, token); per (layer, head), averaged over tokens; per head number,
averaged over tokens and layers (heads of one number have nothing in common but that)."""

PHASES = ("prompt", "generated", "first_10", "last_10")

ENDS = 10
"""Tokens in the phases first_10 and last_10."""


def phases(generated: Bool[np.ndarray, "pos"]) -> dict[str, Bool[np.ndarray, "pos"]]:
    """Which tokens of a text belong to each phase; a phase the text is too short for has none.

    `first_10` and `last_10` are the ends of the whole text, prompt and generated tokens alike, and
    exist only where they do not overlap.
    """
    place, n = np.arange(len(generated)), len(generated)
    apart = n >= 2 * ENDS
    return {
        "prompt": ~generated,
        "generated": generated,
        "first_10": (place < ENDS) & apart,
        "last_10": (place >= n - ENDS) & apart,
    }


def points(
    values: Float[np.ndarray, "draw pos layer head"], level: str
) -> Float[np.ndarray, "draw point"]:
    """The values that are correlated at a level."""
    over = {"token": (), "layer_head": (1,), "head": (1, 2)}[level]
    return values.mean(axis=over).reshape(len(values), -1)


def agreement(
    x: Float[np.ndarray, "draw pos layer head"],
    y: Float[np.ndarray, "draw pos layer head"],
    chosen: Bool[np.ndarray, "pos"],
    methods: tuple[str, ...] = tuple(CORRELATIONS),
) -> Float[np.ndarray, "draw level method"]:
    """Correlation of x with y over the chosen tokens of one prompt, per level and method.

    NaN where it is undefined: no token chosen, fewer than three points, or no variation.
    """
    found = np.full((len(x), len(LEVELS), len(methods)), np.nan)
    if chosen.any():
        for i, level in enumerate(LEVELS):
            pair = points(x[:, chosen], level), points(y[:, chosen], level)
            found[:, i] = np.stack([CORRELATIONS[method](*pair) for method in methods], axis=-1)
    return found


def adjustment(
    position: Int[np.ndarray, "pos"],
    surprisal: Float[np.ndarray, "pos"],
    generated: Bool[np.ndarray, "pos"],
) -> Float[np.ndarray, "pos pos"] | None:
    """The matrix that holds position and surprisal fixed in any values per token of a text.

    A @ values are the values moved to the text's mean position, log position and surprisal along
    slopes fitted within its phases, so that a difference between phases is not taken for a slope.
    None where the text has fewer than five tokens more than the fit has coefficients.
    """
    traits = np.stack([position, np.log1p(position), surprisal], axis=1)
    dummies = np.stack([phase for phase in (generated, ~generated) if phase.any()], axis=1)
    if len(position) < traits.shape[1] + dummies.shape[1] + 5:
        return None
    within = traits - dummies @ (np.linalg.pinv(dummies.astype(float)) @ traits)
    slopes = np.linalg.pinv(within, rcond=1e-9)
    return np.eye(len(position)) - (traits - traits.mean(axis=0)) @ slopes


CONTROLS = ("first token in", "first token out", "position and surprisal held fixed")
"""Views of a text: all tokens; all but the first, the usual sink of attention; and the latter
adjusted (`adjustment`), without tokens that nothing predicts."""

KINDS = ("estimate", "null")


def prompt_agreement(
    cosine: Float[np.ndarray, "pos layer head"],
    l2_norm: Float[np.ndarray, "pos layer head"],
    null_cosine: Float[np.ndarray, "draw pos layer head"],
    surprisal: Float[np.ndarray, "pos"],
    generated: Bool[np.ndarray, "pos"],
    methods: tuple[str, ...] = tuple(CORRELATIONS),
    within: tuple[str, ...] = PHASES,
) -> Float[np.ndarray, "control phase level method kind"]:
    """Agreement of cosine and L2 norm in one prompt, beside its mean under `null_cosine`.

    Axes: CONTROLS, `within` (of PHASES), LEVELS, `methods`, KINDS. In each view the phases are
    those of the tokens that are left. NaN where undefined or where the text is too short.
    """
    cosines = np.concatenate([cosine[None], null_cosine])
    known = ~np.isnan(surprisal)
    place = np.arange(len(generated))
    views = []
    for control, kept in zip(CONTROLS, (place >= 0, place >= 1, known), strict=True):
        x, y = cosines[:, kept], l2_norm[None, kept]
        if control == CONTROLS[2]:
            matrix = adjustment(place[kept], surprisal[kept], generated[kept])
            x, y = (_adjusted(matrix, values) for values in (x, y))
        lengths = np.broadcast_to(y, x.shape)
        there = phases(generated[kept])
        found = [agreement(x, lengths, there[phase], methods) for phase in within]
        views.append([np.stack([f[0], f[1:].mean(axis=0)], axis=-1) for f in found])
    return np.array(views)


def _adjusted(
    matrix: Float[np.ndarray, "pos pos"] | None, values: Float[np.ndarray, "draw pos layer head"]
) -> Float[np.ndarray, "draw pos layer head"]:
    if matrix is None:
        return np.full(values.shape, np.nan)
    return np.einsum("pq,dqlh->dplh", matrix, values)
