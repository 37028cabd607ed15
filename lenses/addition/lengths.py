"""Is a head specialised on carries of one length? (EMNLP 2025 main.643 finds such heads.)"""

import numpy as np
import pandas as pd

from lenses.addition.contrasts import FEWEST
from lenses.addition.roles import MOVES, SPARES, pooled
from lenses.statistics.intervals import benjamini_hochberg, wilson

DRAWS = 10_000
"""Times that lengths are permuted within a place."""
LEVEL = 0.05
HEAD = ["layer", "head", "read_place"]


def length_table(interchanges: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Flips of each head by the run of nines that the carry has crossed, where digits are read.

    Of each head and place that was measured at two lengths or more. `p` of their dependence is
    against the lengths of pairs permuted within the place (chi-square of flips by length),
    corrected over all heads and places (Benjamini & Hochberg 1995). A head is `specialised` at a
    place where p is at most .05, and it flips at least half of the pairs of one length and at most
    a tenth of another's. `by_luck` is how often permuted lengths give such a difference.
    """
    if interchanges.empty:  # no cell had enough pairs
        return interchanges
    table = _flips(interchanges)
    rng = np.random.default_rng(seed)
    parts = [_tested(one, rng) for _, one in table.groupby(HEAD, sort=False) if len(one) > 1]
    if not parts:  # all sums are too short for two lengths
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    first = ~table.duplicated(HEAD)
    q = pd.Series(benjamini_hochberg(table.loc[first, "p"].to_numpy()), index=table.index[first])
    table["p"] = q.reindex(table.index).ffill()
    table["specialised"] = table["differs"] & (table["p"] <= LEVEL)
    return table.drop(columns="differs")


def movers(lengths: pd.DataFrame) -> pd.DataFrame:
    """A row for each head and place at which it flips half of the pairs of some length."""
    if lengths.empty:
        return pd.DataFrame({"specialised": [], "by_luck": []})
    moves = lengths.groupby(HEAD)["flip"].transform("max") >= MOVES
    return lengths[moves].drop_duplicates(HEAD)


def _flips(interchanges: pd.DataFrame) -> pd.DataFrame:
    """Rates of single heads at the token that is read, both directions together."""
    sites = pooled(interchanges[interchanges["pair"].isin(["local", "cascade"])])
    sites = sites[sites["prefix"] != "own"]
    cell = sites.groupby(["read_place", "run"])
    read = sites["pos"] == cell["pos"].transform("max")
    table = sites[read & (sites["kind"] == "head") & (sites["n"] >= FEWEST)]
    table = table[[*HEAD, "run", "flip", "n"]].sort_values([*HEAD, "run"], ignore_index=True)
    count = (table["flip"] * table["n"]).round()
    low, high = wilson(count.to_numpy(), table["n"].to_numpy())
    return table.assign(flip=count / table["n"], low=low, high=high, n=table["n"].astype(int))


def _tested(one: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The rows of one head and place, with what permuted lengths make of them."""
    n = one["n"].to_numpy()
    own = (one["flip"] * n).round().to_numpy().astype(int)
    drawn = rng.multivariate_hypergeometric(n, own.sum(), size=DRAWS)
    flips = np.concatenate([own[None], drawn])  # the lengths as they are count as one draw
    spread, rate = (flips**2 / n).sum(1), flips / n
    differs = (rate.max(1) >= MOVES) & (rate.min(1) <= SPARES)
    p = (spread >= spread[0] - 1e-9).mean()
    return one.assign(p=p, differs=differs[0], by_luck=differs[1:].mean())
