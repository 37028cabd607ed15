"""What becomes of an answer when the tokens that seem least relevant are dropped (SCIENCE 3)."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.flow.keyed_texts import KeyedText
from lenses.patching.knock_out import answered, shortened
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap
from models import Model

SHARES = (0.25, 0.5, 0.75)
"""Shares of a prompt's tokens that are dropped."""
ORDERS = (
    "knock-out",
    "attention, first layer",
    "attention, mean",
    "value-weighted, mean",
    "integrated gradients",
    "random",
)
"""By what the least relevant tokens are found."""
OUTCOMES = ("next_token_stays", "text_stays", "loss")
"""Whether the next token, and the whole answer, is still the likeliest; and what the answer loses
in log-probability (nats)."""
DRAWS = 3
"""Random choices of the tokens to drop, averaged."""


def after_dropping(
    model: Model,
    text: KeyedText,
    orders: dict[str, Float[np.ndarray, "token"]],
    rng: np.random.Generator,
) -> Float[np.ndarray, "share order outcome"]:
    """Each of OUTCOMES by share dropped and order; `orders` are those of ORDERS but the random one.

    NaN for orders that are not given, and where a share of the tokens is none.
    """
    tokens, prompt = text.tokens(model), len(text.given)
    plain, pos = answered(model, tokens[None], prompt), np.flatnonzero(text.scored)
    found = np.full((len(SHARES), len(ORDERS), len(OUTCOMES)), np.nan)
    for row, count in zip(found, (round(share * len(pos)) for share in SHARES), strict=True):
        if count == 0:
            continue
        dropped = [pos[np.argsort(v[pos], kind="stable")[:count]] for v in orders.values()]
        dropped += [rng.permutation(pos)[:count] for _ in range(DRAWS)]
        after = shortened(model, tokens, prompt, [places.tolist() for places in dropped])
        same = (after.likeliest == plain.likeliest).numpy()
        lost = (plain.log_probability.sum() - after.log_probability.sum(-1)).numpy()
        values = np.stack([same[:, 0], same.all(1), lost], axis=1).astype(float)
        row[[ORDERS.index(name) for name in orders]] = values[: len(orders)]
        row[-1] = values[len(orders) :].mean(0)
    return found


def dropping_rows(
    found: Float[np.ndarray, "prompt share order outcome"], seed: int
) -> pd.DataFrame:
    """Means of `after_dropping` over prompts, with intervals."""
    axes = {"share_dropped": SHARES, "order": ORDERS, "statistic": OUTCOMES}
    rows = grid(axes, **vars(bootstrap(found, seed)))
    return rows[rows["n"] > 0].reset_index(drop=True)
