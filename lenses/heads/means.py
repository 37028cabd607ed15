"""One prompt's contributions as means over its tokens, phase by phase: the unit of comparison.

The phases are the prompt's own tokens and the generated ones, as a mask [phase pos].
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from lenses.heads.contributions import MEASURES, Contributions

HEAD_MEASURES = (*MEASURES, "attention_entropy_share")

SPREADS = ("length_variance", "share_entropy", "variance_ratio")
"""Variance over heads of norm(r); entropy over heads of norm_share in nats; Var(sum of r) over the
sum of Var(r), below 1 where heads reduce each other's variance."""


def head_means(
    one: Contributions, chosen: Bool[np.ndarray, "phase pos"]
) -> Float[np.ndarray, "measure phase layer head"]:
    """Mean of each of HEAD_MEASURES over a prompt's chosen tokens where it is defined, else NaN."""
    return np.stack(
        [
            _mean(getattr(one, name)[0].numpy(), chosen, _defined(one, name))
            for name in HEAD_MEASURES
        ]
    )


def _defined(one: Contributions, name: str) -> Bool[np.ndarray, "pos layer"]:
    if name == "l1_proximity":
        return one.l1_proximity_defined[0].numpy()
    if name.startswith("attention_entropy"):
        return one.attention_entropy_defined[0].numpy()
    return np.ones(one.l2_norm.shape[1:3], dtype=bool)


def _mean(
    values: Float[np.ndarray, "pos layer *head"],
    chosen: Bool[np.ndarray, "phase pos"],
    defined: Bool[np.ndarray, "pos layer"],
) -> Float[np.ndarray, "phase layer *head"]:
    weight = (chosen[:, :, None] & defined).astype(float)
    total = np.einsum("gpl,pl...->gl...", weight, values.astype(float))
    count = weight.sum(axis=1).reshape(*total.shape[:2], *[1] * (total.ndim - 2))
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def head_spreads(
    one: Contributions, chosen: Bool[np.ndarray, "phase pos"]
) -> Float[np.ndarray, "spread phase layer"]:
    """Each of SPREADS over a prompt's chosen tokens (for variances: the groups it was read with).

    NaN for phases without tokens; a variance over tokens needs two.
    """
    lengths, shares = (x[0].numpy() for x in (one.l2_norm, one.norm_share))
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    per_token = (lengths.var(axis=-1), -(shares * logs).sum(axis=-1))
    everywhere = np.ones(lengths.shape[:2], dtype=bool)
    means = [_mean(values, chosen, everywhere) for values in per_token]
    apart, together = one.head_variance[0].sum(dim=-1).numpy(), one.sum_variance[0].numpy()
    enough = (chosen.sum(axis=1)[:, None] >= 2) & (apart > 0)
    ratio = np.divide(together, apart, out=np.full_like(apart, np.nan), where=enough)
    return np.stack([*means, ratio])


def mean_where_known(values: np.ndarray) -> np.ndarray:
    """Mean over phases and layers of [prompt phase layer] where defined, NaN where nowhere."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    total, count = np.where(known, flat, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(flat), np.nan), where=count > 0)


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def means_by_prompt(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Means over the tokens of each of the first `count` prompts, a row a measure and head.

    `rows` are of a head at a token; a measure counts where it is defined. The columns are prompt
    (as text), phase, layer, head, measure and estimate.
    """
    rows = rows[rows["prompt"] < count].astype({"prompt": str})
    for name in ("l1_proximity", "attention_entropy"):
        same = [column for column in HEAD_MEASURES if column.startswith(name)]
        rows.loc[~rows[f"{name}_defined"], same] = np.nan
    keys = ["prompt", "phase", "layer", "head"]
    means = rows.groupby(keys, sort=False)[list(HEAD_MEASURES)].mean().reset_index()
    return means.melt(keys, var_name="measure", value_name="estimate")


def with_difference(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows and, as a third phase, generated less prompt, where there are both."""
    if rows["phase"].nunique() < 2:
        return rows
    keys = ["measure", "prompt", "layer", "head"]
    phases = rows.pivot(index=keys, columns="phase", values="estimate")
    apart = (phases["generated"] - phases["prompt"]).rename("estimate").reset_index()
    return pd.concat([rows, apart.assign(phase="difference")], ignore_index=True)
