"""Tables with a row for each head, or part, at each token: made of a text, read piece by piece."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from lenses.heads.contributions import COMPONENTS, Contributions
from lenses.heads.means import HEAD_MEASURES
from lenses.statistics.grid import crossed

Pieces = Iterable[pd.DataFrame]
"""A table in groups of rows, which have the numbers that they have in the whole."""


def contribution_rows(tokens: pd.DataFrame, one: Contributions) -> pd.DataFrame:
    """Every measure of every head at each token of a text."""
    layers, heads = one.l2_norm.shape[2:]
    values = {name: getattr(one, name).numpy().ravel() for name in HEAD_MEASURES}
    for name in ("l1_proximity_defined", "attention_entropy_defined"):
        values[name] = getattr(one, name).numpy().ravel().repeat(heads)
    return crossed(tokens, {"layer": layers, "head": heads}, **values)


def component_rows(tokens: pd.DataFrame, one: Contributions) -> pd.DataFrame:
    """Shares of the layer's output, and of what attention writes; each sums to 1."""
    layers, bias = one.component_share.shape[2], one.bias_share[0].numpy()
    parts = {
        "resid_post": (COMPONENTS, one.component_share),
        "attn_out": (COMPONENTS[:2], np.stack([1 - bias, bias], axis=-1)),
    }
    frames = []
    for whole, (names, share) in parts.items():
        axes = {"layer": layers, "component": names, "whole": [whole]}
        l2_norm = one.component_norm[..., : len(names)]
        frames.append(crossed(tokens, axes, share=share, l2_norm=l2_norm))
    return pd.concat(frames, ignore_index=True)


def of_first_prompts(pieces: Pieces, count: int) -> pd.DataFrame:
    """The rows of the first `count` prompts."""
    return pd.concat(rows[rows["prompt"] < count] for rows in pieces)


def sample_of_phases(
    pieces: Callable[[list[str]], Pieces], columns: list[str], first: int, most: int, seed: int
) -> pd.DataFrame:
    """Up to `most` rows of each phase, drawn at random from those at pos `first` or later."""
    found: dict[str, list[np.ndarray]] = {}  # the numbers of its rows
    for rows in pieces(["phase", "pos"]):
        for phase, some in rows[rows["pos"] >= first].groupby("phase", sort=False):
            found.setdefault(phase, []).append(some.index.to_numpy())
    of_phases = [pd.Series(np.concatenate(parts)) for parts in found.values()]
    drawn = [rows.sample(min(len(rows), most), random_state=seed) for rows in of_phases]
    numbers = np.concatenate(drawn)
    return pd.concat(rows[rows.index.isin(numbers)] for rows in pieces(columns)).loc[numbers]


def means_by(pieces: Pieces, keys: Sequence[str], value: str) -> pd.DataFrame:
    """The mean of `value` for each combination of `keys`, in order."""
    exact = (rows.astype({value: float}) for rows in pieces)
    parts = [rows.groupby(list(keys))[value].agg(["sum", "count"]) for rows in exact]
    total = pd.concat(parts).groupby(level=list(keys)).sum()
    return (total["sum"] / total["count"]).rename(value).reset_index()
