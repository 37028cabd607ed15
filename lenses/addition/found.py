"""What the tables of exchanges come to: smallest sets of heads by place, relays, what is drawn.

Everything here takes tables of `carry_localisation` and gives smaller ones; no model is run.
"""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Num

from lenses.addition.roles import SPARES
from lenses.addition.sets import EXPLAINS, LARGEST, heads_of
from lenses.addition.sufficiency import WHOLE

SURE = 0.9
"""The least lower bound of a joint flip of .95 or more that explains a place."""
ORDER = {"local": 0, "base": 1, "cascade": 2}
"""Kinds of pairs as figures show them."""


class Found(NamedTuple):
    """What was found of the carry into one place."""

    place: int
    heads: tuple[str, ...]
    """The smallest set that moves it; none where no small one does."""
    best: pd.Series | None
    """The set that was measured best; None where there were too few pairs."""
    others: int
    """Other small sets that move it as well."""
    verdict: Literal["holds", "fails", "undecided", "not tested"]
    """On a small set moving the carry into this place."""

    @property
    def writes(self) -> str:
        """Whether the set writes the `carry` or the `digit`, as far as donors tell."""
        return self.best["writes"] if self.heads else ""

    @property
    def moves_sum(self) -> bool:
        """Whether the set moves the column's own sum as well."""
        return bool(self.heads and self.best["other_change"] > SPARES)


def few(attention: pd.DataFrame) -> int:
    """Heads up to which a set is evidence: three, and up to half of all heads of the model."""
    return min(LARGEST, len(attention[["layer", "head"]].drop_duplicates()) // 2)


def sets_of(joint: pd.DataFrame, pair: str, most: int) -> pd.DataFrame:
    """The sets measured in pairs of a kind; `small` ones have up to `most` heads and explain."""
    if joint.empty:
        return pd.DataFrame(columns=["read_place", "run"]).assign(small=False)
    small = joint["minimal"] & (joint["size"] <= most)
    return joint.assign(small=small)[joint["pair"] == pair]


def found_at(place: int, joint: pd.DataFrame, most: int) -> Found:
    """The smallest set of heads that writes the carry into a place."""
    tried = sets_of(joint, "local", most)
    tried = tried[tried["read_place"] == place]
    if tried.empty:
        return Found(place, (), None, 0, "not tested")
    small = tried[tried["small"]].sort_values(["size", "flip"], ascending=[True, False])
    if small.empty:
        best = tried.loc[tried["flip"].idxmax()]
        return Found(place, (), best, 0, "fails" if ruled_out(tried) else "undecided")
    best = small.iloc[0]
    verdict = "holds" if best["low"] > SURE else "undecided"
    return Found(place, tuple(best["members"].split()), best, len(small) - 1, verdict)


def found_at_places(joint: pd.DataFrame, attention: pd.DataFrame) -> list[Found]:
    """The same of every place into which a carry comes."""
    highest, most = int(attention["query_place"].max()), few(attention)
    return [found_at(place, joint, most) for place in range(1, highest + 1)]


def heads_tried(interchanges: pd.DataFrame) -> pd.DataFrame:
    """Exchanges of single heads that may move a carry, those first that luck explains least."""
    if interchanges.empty:
        return interchanges
    heads = (interchanges["kind"] == "head") & (interchanges["prefix"] != "own")
    heads &= interchanges["pair"].isin(["local", "cascade", "tristate"])
    return interchanges[heads].sort_values(["p_max", "p"])


def mapped(roles: pd.DataFrame) -> pd.DataFrame:
    """Heads and MLPs as a map shows them; what writes the digit has that for its role."""
    parts = roles[roles["kind"].isin(["head", "mlp"])]
    digit = (parts["writes"] == "digit") & parts["role"].isin(["carry", "both"])
    component = parts["head"].astype(str).where(parts["kind"] == "head", "mlp")
    return parts.assign(role=parts["role"].mask(digit, "digit"), component=component)


def kept_alone(sufficiency: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    """Whole answers that stay right with the heads found, with all, and with random ones alone."""
    table = sufficiency[(sufficiency["sample"] == "uniform") & (sufficiency["mode"] == "mean")]
    table = table[table["place"] == WHOLE].set_index("kept")
    return table.loc["found"], table.loc["all"], table[table.index == "random"]


def ruled_out(tried: pd.DataFrame) -> bool:
    """Whether every small set was tried, and none may yet turn out to explain the place."""
    small = tried[tried["size"] <= LARGEST]
    every = tried["searched"].str.contains("sets of up to").all()
    return bool(every and (small["high"] < EXPLAINS).all())


def over_nines(joint: pd.DataFrame, most: int) -> tuple[int, int, int | None]:
    """Cells in which a small set writes a carry over nines, and cells that were tried.

    And the layer in which more than half of the heads of the smallest such sets are, if any.
    """
    sets, cell = sets_of(joint, "cascade", most), ["read_place", "run"]
    tried = len(sets[cell].drop_duplicates())
    if not sets["small"].any():
        return 0, tried, None
    order = sets[sets["small"]].sort_values(["size", "flip"], ascending=[True, False])
    best = order.drop_duplicates(cell)
    layers = pd.Series([layer for members in best["members"] for layer, _ in heads_of(members)])
    shares = layers.value_counts(normalize=True)
    return len(best), tried, int(shares.index[0]) if shares.iloc[0] > 0.5 else None


def relays(roles: pd.DataFrame) -> dict[str, list[str]]:
    """Single heads by which carries over nines pass, with the earlier tokens where they do."""
    read = roles["pos"] == roles.groupby("place")["pos"].transform("max")
    early = roles[~read & (roles["kind"] == "head") & roles["role"].isin(["carry", "combiner"])]
    tokens = early.assign(name=named(early)).groupby("name")["token"].unique()
    return {head: sorted(some) for head, some in tokens.items()}


def named(table: pd.DataFrame) -> pd.Series:
    """L0H3, L0 mlp, L0 resid."""
    layer, head = "L" + table["layer"].astype(str), "H" + table["head"].astype(str)
    if "kind" not in table:
        return layer + head
    return layer + head.where(table["kind"] == "head", " " + table["kind"].astype(str))


def strongest(rows: pd.DataFrame, name: str, flips: list[str], count: int) -> pd.DataFrame:
    """The rows of those components (named in a column) that flip most, in the model's order."""
    most = rows.groupby(name, sort=False)[flips].max().max(axis=1)
    return rows[rows[name].isin(most.nlargest(count).index)]


def read_flips(roles: pd.DataFrame, count: int) -> pd.DataFrame:
    """Flips (a row for each kind of pairs) of the strongest components where digits are read."""
    flips = {"carry_flip": "local", "base_flip": "base", "nines_flip": "cascade"}
    read = roles[roles["pos"] == roles.groupby("place")["pos"].transform("max")]
    read = read.assign(component=named(read)).rename(columns=flips)
    read = strongest(read, "component", list(ORDER), count)
    return read.melt(["component", "place"], list(ORDER), "pair", "flip")


def smallest_sets(joint: pd.DataFrame) -> pd.DataFrame:
    """Of each place and run, the smallest set, minimal ones first, and how often it fails."""
    if joint.empty:
        return joint
    order = ["minimal", "size", "flip"]
    sets = joint[joint["pair"] != "base"].sort_values(order, ascending=[False, True, False])
    best = sets.drop_duplicates(["read_place", "run"])
    return best.assign(missed=1 - best["flip"], heads=best["members"].str.replace(" ", " + "))


def donors_of_sets(joint: pd.DataFrame, donors: pd.DataFrame, most: int) -> pd.DataFrame:
    """What donors gave of each small set that moves the carry into a place, over no nines."""
    if donors.empty:
        return donors
    sets, cell = sets_of(joint, "local", most), ["pair", "read_place", "token", "members"]
    return sets.loc[sets["small"], cell].merge(donors, on=cell)


def carry_or_digit(joint: pd.DataFrame, donors: pd.DataFrame) -> pd.DataFrame:
    """Of the smallest sets, how often cross donors' carries are followed less their digits."""
    if donors.empty:
        return donors
    cross = donors[donors["donor"] == "cross"]
    cell = ["pair", "prefix", "run", "read_place", "token", "members"]
    best = smallest_sets(joint)[[*cell, "heads"]].merge(cross, on=cell)
    return best.assign(lead=best["carry_rate"] - best["digit_rate"])


def length_flips(lengths: pd.DataFrame, count: int) -> pd.DataFrame:
    """Flips by length of the heads that flip most at any."""
    if lengths.empty:
        return lengths
    return strongest(lengths.assign(component=named(lengths)), "component", ["flip"], count)


def strongest_edges(edges: pd.DataFrame, count: int) -> pd.DataFrame:
    """Flips of the strongest edges, the highest over runs of nines."""
    edge = named(edges) + " → M" + edges["mlp"].astype(str)
    by = ["pair", "edge", "read_place"]
    most = edges.assign(edge=edge).groupby(by, sort=False)["flip"].max().reset_index()
    most = most.sort_values("pair", key=lambda pair: pair.map(ORDER), kind="stable")
    return strongest(most, "edge", ["flip"], count)


def looking(attention: pd.DataFrame, count: int) -> list[str]:
    """The heads that look most at any one column, in the model's order."""
    most = attention.assign(component=named(attention)).groupby("component", sort=False)
    chosen = set(most["mass"].max().nlargest(count).index)
    return [name for name in most.groups if name in chosen]


def looked_at(attention: pd.DataFrame, count: int) -> pd.DataFrame:
    """Attention of those heads, by the `predicted place` and the column attended to."""
    shown = attention.rename(columns={"query_place": "predicted place"})
    shown = shown.assign(component=named(attention))
    return shown[shown["component"].isin(looking(attention, count))]


def patterns(pattern: Num[np.ndarray, "layer head query key"], heads: list[str]) -> pd.DataFrame:
    """Attention of some heads (`L0H3`) from each token to itself and those before it."""
    axes = np.indices(pattern.shape).reshape(4, -1)
    data = pd.DataFrame(dict(zip(("layer", "head", "query", "key"), axes, strict=True)))
    data["attention"] = pattern.ravel()
    return data[(data["query"] >= data["key"]) & named(data).isin(heads)].reset_index(drop=True)


def without_heads(ablation: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by place without each head, over all cells."""
    named_heads, by = ablation.assign(component=named(ablation)), ["mode", "component", "place"]
    sums = named_heads.groupby(by, sort=False)[["correct", "n"]].sum()
    return sums.assign(accuracy=sums["correct"] / sums["n"]).reset_index()


def whole_answers(sufficiency: pd.DataFrame) -> pd.DataFrame:
    """Whole answers; of the random sets the mean, with the lowest and the highest."""
    table = sufficiency.query("place == @WHOLE and mode == 'mean'", local_dict={"WHOLE": WHOLE})
    random = table[table["kept"] == "random"].groupby("sample", as_index=False)["accuracy"]
    drawn = random.mean().assign(
        kept="random", low=random.min()["accuracy"], high=random.max()["accuracy"]
    )
    order = {"all": 0, "found": 1, "random": 2, "none": 3}
    both = pd.concat([table[table["kept"] != "random"], drawn])
    return both.sort_values("kept", key=lambda kept: kept.map(order), ignore_index=True)


def best_probes(probes: pd.DataFrame, rivals: dict[str, str]) -> pd.DataFrame:
    """At the token that predicts the digit, best layer: the probe, and each rival by its name."""
    read = probes[probes["token"] == "read"].sort_values("accuracy")
    best = read.drop_duplicates(["place", "target"], keep="last").rename(columns=rivals)
    long = best.melt(["place", "target"], list(rivals.values()), "probe", "accuracy")
    return long.sort_values(["target", "place"], kind="stable", ignore_index=True)
