"""What comes of shifting digits: tables of prompts, of edits and of pairs of digits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from lenses.digits import exchanges as ex
from lenses.digits.geometry import clearest_layer
from lenses.statistics.grid import grid
from lenses.statistics.intervals import Intervals, bootstrap, wilson

OWN, ABOVE = "own column", "column above"
EDITS = {
    "other token": "other token", "all": "all of the difference", "best": "best 3 directions",
    "fit": "line and circle", "line": "line", "circle": "circle", "permuted": "permuted labels",
    "random": "random direction",
}  # fmt: skip
"""Ways to shift a digit, and their names in tables."""
NUMBER_EDITS = {
    "other token": "other token", "all": "all of the difference", "fit": "helix",
    "best": "best directions, as many", "random": "random direction", "permuted": "permuted labels",
}  # fmt: skip
Said = Mapping[str, Int[np.ndarray, "layer row"]]
"""The token said after each edit, by the edit's name."""


@dataclass(frozen=True)
class Asked:
    """The prompts of a run."""

    slots: list[ex.Slot]
    every: ex.EveryValue
    rows: ex.Exchanges
    reads: np.ndarray
    """Of each row, which digit of the answer is read: OWN or ABOVE."""


def fit_rows(asked: Asked, said: Said, layers: list[int]) -> pd.DataFrame:
    """How often a shift along line and circle succeeds, and along each permuted fit."""
    right = {name: said[name] == asked.rows.answer for name in ("fit", *runs_of(said, "permuted"))}
    reads = list(dict.fromkeys(asked.reads))
    success = [[each[:, asked.reads == one].mean(1) for each in right.values()] for one in reads]
    axes = {"reads": reads, "fit": list(right), "layer": layers}
    return grid(axes, success=np.array(success))[["reads", "layer", "fit", "success"]]


def move_rows(
    asked: Asked, said: Said, clean: Int[np.ndarray, "row"], layers: list[int]
) -> pd.DataFrame:
    """Each prompt and edit: whether the answer is that to the target (mean over permuted fits)."""
    rows, slots = asked.rows, pd.DataFrame(asked.slots, columns=["operand", "place"])
    known = slots.iloc[rows.slot].assign(
        prompt=np.arange(len(rows)), reads=asked.reads, digit=rows.value, target=rows.target,
        solved=clean == rows.right,
    )  # fmt: skip
    wanted = {"success": rows.answer, "kept": rows.right, "as_token": said["other token"][0]}
    runs = [np.stack(list(runs_of(said, edit).values())) for edit in EDITS]  # [run layer row]
    shares = {
        key: np.stack([(each == token).mean(0) for each in runs]) for key, token in wanted.items()
    }
    axes = {"edit": list(EDITS.values()), "layer": layers, "prompt": len(rows)}
    order = ["prompt", "reads", "operand", "place", "digit", "target", "solved", "layer", "edit"]
    return grid(axes, **shares).merge(known, on="prompt")[[*order, *shares]]


def runs_of(said: Mapping[str, Any], edit: str) -> dict[str, Any]:
    """What belongs to an edit: itself, or each of the permuted fits."""
    return {name: each for name, each in said.items() if name.rstrip(" 0123456789") == edit}


def edit_rows(moves: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """Success by digit read, layer and edit, all places together.

    Wilson intervals; for permuted labels, where 95 % of the permuted fits lie.
    """
    grouped = moves.groupby(["reads", "layer", "edit"], sort=False)
    table = grouped.agg(n=("success", "size"), success=("success", "mean"), kept=("kept", "mean"))
    table = table.reset_index()
    table["low"], table["high"] = wilson(table["success"] * table["n"], table["n"].to_numpy())
    null = fits[fits["fit"] != "fit"].groupby(["reads", "layer"])["success"]
    for at, row in table[table["edit"] == EDITS["permuted"]].iterrows():
        ends = null.get_group((row["reads"], row["layer"])).quantile([0.025, 0.975])
        table.loc[at, ["low", "high"]] = ends.to_numpy()
    return table


@dataclass(frozen=True)
class Gain:
    """What shifts along line and circle achieve, at the layer where it is clearest."""

    layer: int
    p: float
    """Against permuted fits, corrected for the layers."""
    more: Intervals
    """Share of edits that succeed, less that along permuted fits, over prompts."""
    permuted: float
    """Share of edits that succeed along permuted fits, and by all of the difference."""
    whole: float


def gain_of_fit(moves: pd.DataFrame, fits: pd.DataFrame, seed: int) -> Gain:
    """Shifts along line and circle against permuted fits, for one digit that is read."""
    layer, p = clearest_layer(fits)
    here = moves[moves["layer"] == layer].pivot(index="prompt", columns="edit", values="success")
    fit, permuted, whole = (here[EDITS[name]] for name in ("fit", "permuted", "all"))
    more = bootstrap((fit - permuted).to_numpy(float), seed).within(-1, 1)
    return Gain(layer, p, more, permuted.mean(), whole.mean())


def gains(moves: pd.DataFrame, fits: pd.DataFrame, seed: int) -> dict[str, Gain]:
    """`gain_of_fit` for each digit that is read."""
    return {
        reads: gain_of_fit(some, fits[fits["reads"] == reads], seed)
        for reads, some in moves.groupby("reads", sort=False)
    }


def success_where_clearest(edits: pd.DataFrame, fits: pd.DataFrame) -> dict[str, pd.Series]:
    """For each digit read the success of each edit, at its `clearest_layer`."""
    found = {}
    for reads, some in fits.groupby("reads", sort=False):
        here = (edits["reads"] == reads) & (edits["layer"] == clearest_layer(some)[0])
        found[reads] = edits[here].set_index("edit")["success"]
    return found


def pair_rows(moves: pd.DataFrame) -> pd.DataFrame:
    """Success by digit and target at the layer where a shift along line and circle does most."""
    fit = moves[moves["edit"] == EDITS["fit"]].groupby("layer")["success"].mean()
    chosen = moves[moves["layer"] == fit.idxmax()]
    grouped = chosen.groupby(["reads", "layer", "edit", "digit", "target"], sort=False)["success"]
    return grouped.agg(success="mean", n="size").reset_index()


def helix_rows(layer: int, held: Mapping[str, float], right: Said) -> pd.DataFrame:
    """Share of the numbers' variation, and success, of each way to shift a number."""
    rows = []
    for edit, label in NUMBER_EDITS.items():
        success = np.mean(list(runs_of(right, edit).values()), axis=0)
        shares = list(runs_of(held, edit).values()) or [np.nan]
        rows.append((layer, label, np.mean(shares), success.mean(), len(success)))
    table = pd.DataFrame(rows, columns=["layer", "edit", "share", "success", "n"])
    low, high = wilson(table["success"].to_numpy() * table["n"], table["n"].to_numpy())
    return table.assign(low=low, high=high)
