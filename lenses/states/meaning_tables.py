"""Rank correlations of attention with the movement of meaning as tables, beside their null."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.states.meaning import (
    CONTROLS,
    DISTANCES,
    STEPS,
    WEIGHTS,
    Movement,
    moves_with_weight,
    permutations,
    recency_moves,
)
from lenses.statistics.elsewhere import best_elsewhere, of_choice
from lenses.statistics.grid import grid
from lenses.statistics.intervals import benjamini_hochberg, bootstrap, luck_as_far
from lenses.statistics.ranking import mean_of_known

DRAWS = 200
"""Random orders of the sources of each text."""
LEVEL = 0.05
KINDS = {"control": CONTROLS, "weight": WEIGHTS, "step": STEPS, "distance": DISTANCES}
"""Axes of every correlation, in order."""


def text_numbers(found: Movement) -> dict[str, Float[np.ndarray, "1 *cell"]]:
    """What is kept of a text: correlations of `each` kind, layer and head, of `recency`, errors."""
    as_it_is = np.arange(found.weight.shape[-1])[None]
    return {
        "each": moves_with_weight(found, as_it_is),
        "recency": recency_moves(found)[None],
        "output_error": np.array([found.output_error]),
    }


def exchanged(
    found: Movement, rng: np.random.Generator
) -> Float[np.ndarray, "draw control weight step distance layer head"]:
    """The null: correlations with the meanings of a text's sources exchanged at random."""
    return moves_with_weight(found, permutations(found.weight.shape[-1], DRAWS, rng))


def head_rows(
    each: Float[np.ndarray, "text control weight step distance layer head"],
    drawn: Float[np.ndarray, "draw control weight step distance layer head"],
    seed: int,
) -> pd.DataFrame:
    """Every head's mean over texts, with its p against `drawn`, the mean of `exchanged` over texts.

    Texts in which a correlation is undefined count as 0 in p. Heads for which it is defined in no
    text have no row.
    """
    found, reached = bootstrap(each, seed).within(-1, 1), np.nan_to_num(each).mean(axis=0)
    largest = drawn.max(axis=(-2, -1), keepdims=True)
    p, p_any = luck_as_far(reached, drawn), luck_as_far(reached, largest)
    layers, heads = reached.shape[-2:]
    q = [benjamini_hochberg(part) for part in p.reshape(-1, layers * heads)]
    rows = grid(
        KINDS | {"layer": layers, "head": heads},
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        null=drawn.mean(axis=0),
        p=p,
        q=np.stack(q),
        p_any=p_any,
        largest_by_chance=np.broadcast_to(np.quantile(largest, 1 - LEVEL, axis=0), reached.shape),
        n=found.n,
    )
    return rows[rows["n"] > 0].reset_index(drop=True)


def layer_rows(
    each: Float[np.ndarray, "text control weight step distance layer head"],
    recency: Float[np.ndarray, "text step distance layer"],
    seed: int,
) -> pd.DataFrame:
    """The mean over the heads of each layer; in place of a weight also the source's position."""
    layers = {"layer": recency.shape[-1]}
    means, recent = (bootstrap(x, seed).within(-1, 1) for x in (mean_of_known(each), recency))
    alone = KINDS | {"control": CONTROLS[:1], "weight": ["recency"]}
    rows = [grid(KINDS | layers, **vars(means)), grid(alone | layers, **vars(recent))]
    rows = pd.concat(rows)
    return rows[rows["n"] > 0].reset_index(drop=True)


def text_rows(
    each: Float[np.ndarray, "text control weight step distance layer head"],
    null: Float[np.ndarray, "text control weight step distance layer head"],
    weights: str,
) -> pd.DataFrame:
    """Mean over all heads of each text, less its null; and the head that is best in all others.

    `best_elsewhere` is that head's correlation in this text, less its null; NaN without another.
    """
    heads = (each.reshape(*each.shape[:-2], -1), (each - null).reshape(*each.shape[:-2], -1))
    value, chance, excess = (mean_of_known(part, 2) for part in (each, null, each - null))
    rows = grid(
        {"prompt": len(each)} | KINDS,
        value=value,
        null=chance,
        excess=excess,
        best_elsewhere=of_choice(heads[1], best_elsewhere(heads[0])),
    )
    rows.insert(0, "weights", weights)
    return rows.dropna(subset="excess").reset_index(drop=True)
