"""What a localised site writes: the carry, or the digit that the carry makes (SCIENCE 6).

Sites are exchanged with donors in which the two come apart (`prompts.donors`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lenses.addition.contrasts import FEWEST
from lenses.addition.exchanges import Exchanges
from lenses.addition.found import named
from lenses.addition.roles import MOVES, SPARES, is_large, pooled
from lenses.addition.sets import head_name, heads_of
from lenses.patching.interchange import Site, activations_and_logits
from lenses.statistics.intervals import wilson
from models import Model
from prompts.additions import AdditionFormat
from prompts.donors import DONORS, Donor, donors_of

CELL = ["pair", "place", "run", "prefix"]
SITE = ["token", "members"]


def localised(
    model: Model, style: AdditionFormat, interchanges: pd.DataFrame, joint: pd.DataFrame
) -> pd.DataFrame:
    """Cell, token and members of all that moves a carry into a column.

    These are the smallest sets of heads, at the token that is read, and at any token the heads and
    MLPs that flip half of the pairs and few null sources; of large models whole layers as well.
    """
    found = []
    if len(joint):
        sets = joint[joint["minimal"] & ~joint["all_heads"]]
        found.append(sets.assign(place=sets["read_place"] - sets["run"] - 1))
    if len(interchanges):
        sites = pooled(interchanges)
        kinds = ["head", "mlp", *(["layer"] if is_large(model) else [])]
        moving = (sites["flip"] >= MOVES) & (sites["null_change"] <= SPARES)
        sites = sites[moving & sites["kind"].isin(kinds)]
        found.append(sites.assign(members=[_name(site) for site in sites.itertuples()]))
    if not found:  # no cell had enough pairs
        return pd.DataFrame(columns=[*CELL, *SITE])
    both = pd.concat([some[["read_place", *CELL, *SITE]] for some in found])
    both = both[both["pair"].isin(["local", "cascade"]) & (both["read_place"] < style.digits)]
    return both[[*CELL, *SITE]].drop_duplicates(ignore_index=True)


def donor_table(
    model: Model,
    pairs: Exchanges,
    members: Sequence[tuple[str, str]],
    seed: int,
    *,
    solved: bool,
) -> pd.DataFrame:
    """What each site (token and members) makes of the digit, by donor; pairs of a carry only.

    `carry_rate`: the share of donors with which the digit becomes the one that their carry makes
    of the clean column; `digit_rate`: with which it becomes their own; `same_rate`: with which it
    stays. Donors that the model gets wrong are left out where `solved`.
    """
    rng = np.random.default_rng(seed)
    sites = [_site(model, *site) for site in members]
    tables = []
    for kind in DONORS:
        shares = _shares(model, pairs, kind, sites, rng, solved)
        tables.append(pd.DataFrame(members, columns=SITE).assign(donor=kind, **shares))
    table = pd.concat(tables, ignore_index=True)
    written = {site: writes(rows) for site, rows in table.groupby(SITE)}
    cell = {name: getattr(pairs.found.cell, name) for name in (*CELL, "read_place")}
    named = [written[site] for site in table[SITE].itertuples(index=False, name=None)]
    return pd.DataFrame(cell, index=table.index).join(table).assign(writes=named)


def _shares(
    model: Model,
    pairs: Exchanges,
    kind: Donor,
    sites: Sequence[Site],
    rng: np.random.Generator,
    solved: bool,
) -> dict[str, np.ndarray]:
    """Shares of one kind of donors, with Wilson intervals, for each site."""
    donors, ids = donors_of(pairs.found.pairs, kind, rng), pairs.found.style.digit_ids
    some, own, by_carry = pairs[donors.rows], ids[donors.own], ids[donors.by_carry]
    said = np.zeros((len(sites), 0), dtype=int)
    if len(some):
        tokens = some.found.written(donors.sums)[:, : len(some.clean.pos)]
        how = (some.read.at, some.clean.batch_size)
        given, logits = activations_and_logits(model, tokens, *how)
        answered = logits[:, some.read.compared].argmax(-1).cpu().numpy()
        right = np.flatnonzero((answered == own) | (not solved))
        some, own, by_carry = some[right], own[right], by_carry[right]
    if len(some):
        said = some.after(given[right], sites).token[:, :, some.read.compared]
    n, values = np.full(len(sites), len(some)), {"n": len(some)}
    for name, wanted in (("carry", by_carry), ("digit", own), ("same", some.read.tokens[:, 0])):
        count = (said == wanted).sum(1)
        values[f"{name}_rate"] = count / np.maximum(n, 1)
        values[f"{name}_low"], values[f"{name}_high"] = wilson(count, n)
    return values


def writes(rows: pd.DataFrame) -> str:
    """What a site writes, by its rows of the three donors.

    `carry`: most cross donors give the digit that their carry makes, and most donors of the same
    answer still push it by one. `digit`: most cross donors give their own digit, and most donors
    of the same answer leave it alone. `neither`: cross donors give each in less than half. A donor
    of the same carry and digit must leave nine in ten alone; all shares with their whole interval.
    """
    by = rows.set_index("donor")
    cross, same, control = (by.loc[kind] for kind in DONORS)
    if by["n"].min() < FEWEST:
        return "not tested"
    if max(cross["carry_high"], cross["digit_high"]) < MOVES:
        return "neither"
    if control["same_rate"] >= 1 - SPARES:
        for what in ("carry", "digit"):
            if min(cross[f"{what}_low"], same[f"{what}_low"]) > MOVES:
                return what
    return "undecided"


def sets_with_writes(joint: pd.DataFrame, donors: pd.DataFrame, digits: int) -> pd.DataFrame:
    """The sets of heads with what each `writes`, as far as donors told it.

    The highest digit of padded numbers is its carry: there it is the carry that is written.
    """
    if joint.empty:  # no cell had enough pairs
        return joint
    cell = ["pair", "prefix", "run", "read_place", *SITE]
    told = _written(donors, cell).reindex(pd.MultiIndex.from_frame(joint[cell]))
    moves = joint["minimal"] & (joint["pair"] != "base")
    return joint.assign(writes=_filled(told, moves & (joint["read_place"] == digits)))


def roles_with_writes(roles: pd.DataFrame, donors: pd.DataFrame, digits: int) -> pd.DataFrame:
    """The roles with what each site `writes`: by itself, or else as a member of a set."""
    alone = donors
    if len(donors):
        size, parts = donors["members"].str.len(), donors["members"].map(_parts)
        alone = donors.assign(size=size, members=parts).explode("members")
        alone = alone.sort_values(["size", "run"], kind="stable")
    told = _written(alone, ["read_place", *SITE])
    sites = pd.MultiIndex.from_arrays([roles["place"], roles["token"], named(roles)])
    moves = roles["role"].isin(["carry", "both", "combiner"])
    return roles.assign(writes=_filled(told.reindex(sites), moves & (roles["place"] == digits)))


def _written(donors: pd.DataFrame, by: list[str]) -> pd.Series:
    """What is written, by site and cell: the first that is told of each."""
    if donors.empty:  # nothing was localised
        return pd.Series(dtype=object, index=pd.MultiIndex.from_arrays([[]] * len(by)))
    return donors.drop_duplicates(by).set_index(by)["writes"]


def _filled(told: pd.Series, is_carry: pd.Series) -> np.ndarray:
    return np.where(is_carry, "carry", told.fillna("not tested"))


def _parts(members: str) -> list[str]:
    """Names of the sites in that of a set."""
    return members.split() if "H" in members else [members]


def _name(site: object) -> str:
    """`L0H3`, `L0 mlp`, `L0 layer`."""
    head = head_name((site.layer, site.head))
    return head if site.kind == "head" else f"L{site.layer} {site.kind}"


def _site(model: Model, token: str, members: str) -> Site:
    """The site of that name at a token."""
    layer, _, kind = members.partition(" ")
    if kind == "mlp":
        return Site(token, mlps=(int(layer[1:]),))
    if kind == "layer":
        heads = range(model.cfg.n_heads)
        return Site(token, heads=tuple((int(layer[1:]), head) for head in heads))
    return Site(token, heads=heads_of(members))
