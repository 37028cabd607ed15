"""What is drawn of the tables of `digit_geometry`: fewer rows, with names of their own."""

import numpy as np
import pandas as pd

from lenses.states.depths import after_layers

PANELS = 9
"""Pictures of the ten digits that are drawn; the table has all."""
LEVEL = 0.05


def some_points(table: pd.DataFrame) -> pd.DataFrame:
    """The first, second and last place of one operand, and as many depths as there is room for."""
    first = table[table["operand"] == table["operand"].iloc[0]]
    places = sorted({*first["place"].unique()[:2], first["place"].max()})
    layers = np.sort(first["layer"].unique())
    room = max(1, PANELS // len(places))
    layers = layers[np.unique(np.linspace(0, len(layers) - 1, room).round().astype(int))]
    shown = first[first["place"].isin(places) & first["layer"].isin(layers)]
    share = (100 * (shown["first_share"] + shown["second_share"])).round().astype(int).astype(str)
    place = "place " + shown["place"].astype(str) + ", " if len(places) > 1 else ""
    return shown.assign(site=place + shown["layer"].map(_short) + " (" + share + " %)")


def _short(passed: int) -> str:
    """`embedding`, `4 layers`: a depth as short as a panel is narrow."""
    return after_layers(passed).removeprefix("in the ").removeprefix("after ")


def written_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """Shares with the name of their slot; written out, with a star beyond permuted labels."""
    slot = shares["operand"] + " " + shares["place"].astype(str)
    written = shares["share"].map("{:.2f}".format) + np.where(shares["p"] <= LEVEL, "*", "")
    return shares.assign(slot=slot, written=written)


def dimension_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over places by depth, of the model and of random weights."""
    names = {"participation_ratio": "this model", "random_weights": "random weights"}
    long = table.rename(columns=names).melt(["layer"], list(names.values()), "weights", "ratio")
    by = long.groupby(["weights", "layer"], sort=False)["ratio"]
    return by.agg(participation_ratio="mean", low="min", high="max").reset_index()


def separable_by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Means over places by depth and modulus: of classifiers, of what is guessed, of circles."""
    names = {
        "accuracy": "linear classifier", "shuffled": "shuffled labels", "chance": "chance",
        "spike": "share on the circle",
    }  # fmt: skip
    kept = ["what", "modulus", "layer"]
    long = table.rename(columns=names).melt(kept, list(names.values()), "series", "share")
    long = long.groupby(["series", *kept], sort=False)["share"].mean().reset_index()
    return long.assign(remainder=long["what"] + " mod " + long["modulus"].astype(str))


def separable_at(table: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """Rows of each kind of values and modulus, the most separable first."""
    order = table.sort_values(["p", "accuracy"], ascending=[True, False], kind="stable")
    return dict(iter(order.groupby(["what", "modulus"])))
