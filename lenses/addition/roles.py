"""Where the carry happens: sites one by one, roles, and the smallest sets of heads (SCIENCE 6).

Everything here takes a model and how it writes additions, and gives tidy tables.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lenses.addition.contrasts import (
    COUNTS,
    FEWEST,
    LUCKY_DRAWS,
    Contrast,
    by_direction,
    luck_of,
)
from lenses.addition.exchanges import Exchanges
from lenses.addition.sets import LARGEST, heads_of
from lenses.patching.interchange import Site
from lenses.statistics.grid import in_order
from models import Model

LARGE = 64
"""Heads of a model up to which each is tried at every token."""

MOVES, SPARES = 0.5, 0.1
"""A component moves a property if at least half of the pairs flip, and spares one if at most a
tenth do (SCIENCE 6)."""


def is_large(model: Model) -> bool:
    """Whether a model has too many heads for each to be tried at every token."""
    return model.cfg.n_layers * model.cfg.n_heads > LARGE


def every_site(model: Model, tokens: Sequence[str]) -> list[Site]:
    """Heads, MLP and residual stream of every layer at each of the tokens, the last being read.

    There also all heads of a layer at once. After the last layer nothing moves from one pos to
    another, so at other tokens its sites change nothing, by construction, and are left out.
    """
    has_mlp = "blocks.0.hook_mlp_out" in model.hook_dict
    found = []
    for token in tokens:
        said = token == tokens[-1]
        for layer in range(model.cfg.n_layers - (not said)):
            heads = [(layer, head) for head in range(model.cfg.n_heads)]
            found += [Site(token, heads=(head,)) for head in heads]
            found += [Site(token, heads=tuple(heads))] * (said and len(heads) > 1)
            found += [Site(token, mlps=(layer,))] * has_mlp + [Site(token, resid=(layer,))]
    return found


def whole_layers(model: Model, tokens: Sequence[str]) -> list[Site]:
    """All heads of each layer at each of the tokens; MLPs and residual streams at the last."""
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    found = [
        Site(token, heads=tuple((layer, head) for head in heads))
        for token in tokens[:-1]
        for layer in layers[:-1]
    ]
    return found + [site for site in every_site(model, tokens[-1:]) if len(site.heads) != 1]


def heads_at(model: Model, token: str) -> list[Site]:
    """Every head of every layer, at one token."""
    return [site for site in every_site(model, [token]) if len(site.heads) == 1]


def interchanges(
    model: Model, pairs: Exchanges, screen: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, Float[np.ndarray, "draw"]]:
    """Counts for every site of a cell, in both directions, and the largest excess luck gives them.

    (`lenses.addition.contrasts.rates` and `luck_of`.)

    Every site is first tried on `screen` pairs. Where that moves something in two pairs or more,
    and wherever the digit is said, fresh pairs take their place: all that are left. Of a large
    model only whole layers are tried, at the tokens that both digits of the changed column can
    reach (MLPs and residual streams where the digit is said), and then the single heads of layers
    that move something, on the same pairs; a head that moves one of them gets fresh pairs.
    """
    tried, fresh = pairs[:screen], pairs[screen:]
    sites, screened, again = (_by_layer if is_large(model) else _by_site)(model, tried)
    found, first = pairs.found, by_direction(screened, tried.found.direction)
    if not again:
        return _described(first, sites, found), _luck(tried.found, screened, rng)
    measured = fresh.each_pair([sites[i] for i in again])
    second = by_direction(measured, fresh.found.direction)
    second["site"] = np.array(again)[second["site"]]
    kept = first[~first["site"].isin(again)]
    both = pd.concat([kept, second]).sort_values(["site", "direction"], ignore_index=True)
    idle = {name: value[kept["site"].unique()] for name, value in screened.items()}
    luck = np.maximum(_luck(tried.found, idle, rng), _luck(fresh.found, measured, rng))
    return _described(both, sites, found), luck


Screened = tuple[list[Site], dict[str, np.ndarray], list[int]]
"""Sites, what is counted of every pair at each, and which of them get fresh pairs."""


def _by_site(model: Model, tried: Exchanges) -> Screened:
    """Every site, tried by itself."""
    tokens = list(tried.found.positions)
    sites = every_site(model, tokens)
    screened = tried.each_pair(sites)
    moved = _moved(screened)
    again = [i for i, site in enumerate(sites) if moved[i] >= 2 or site.token == tokens[-1]]
    return sites, screened, again


def _by_layer(model: Model, tried: Exchanges) -> Screened:
    """Whole layers, then the heads of those that move something."""
    found = tried.found
    told = max(found.tokens_at[f"{name}{found.pairs.column}"][0] for name in "ab")
    sites = whole_layers(model, [t for t, pos in found.positions.items() if pos[0] >= told])
    screened = tried.each_pair(sites)
    again = np.flatnonzero(_moved(screened) >= 2).tolist()
    opened = [Site(sites[i].token, heads=(head,)) for i in again for head in sites[i].heads]
    if opened:
        single = tried.each_pair(opened)
        again += (len(sites) + np.flatnonzero(_moved(single))).tolist()
        screened = {name: np.concatenate([screened[name], single[name]]) for name in screened}
    return sites + opened, screened, again


def _moved(values: dict[str, np.ndarray]) -> Int[np.ndarray, "site"]:
    """In how many pairs each site changes a digit, by the kind of change in which it does most."""
    kinds = ("changes", "null_changes", "own_changes")
    return np.max([values[name].sum(1) for name in kinds], axis=0)


def _luck(
    found: Contrast, values: dict[str, np.ndarray], rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """What luck gives the sites of some pairs; none where there is no null source and no test."""
    if found.null is None:
        return np.zeros(LUCKY_DRAWS)
    return luck_of(values, found.direction, rng)


def _described(counts: pd.DataFrame, sites: Sequence[Site], found: Contrast) -> pd.DataFrame:
    """What was interchanged where, before the counts."""
    cell = found.cell
    what = {
        "pair": cell.pair, "direction": counts["direction"], "prefix": cell.prefix,
        "place": cell.place, "run": cell.run, "read_place": cell.read_place,
    }  # fmt: skip
    chosen = [sites[i] for i in counts["site"]]
    where = {
        "kind": [_kind(site) for site in chosen],
        "layer": [_layer(site) for site in chosen],
        "head": [site.heads[0][1] if len(site.heads) == 1 else -1 for site in chosen],
        "pos": [int(found.positions[site.token][0]) for site in chosen],
        "token": [site.token for site in chosen],
    }
    return pd.DataFrame({**what, **where, **counts[list(COUNTS)]})


def _layer(site: Site) -> int:
    return site.heads[0][0] if site.heads else (*site.mlps, *site.resid)[0]


def _kind(site: Site) -> str:
    if site.heads:
        return "head" if len(site.heads) == 1 else "layer"
    return "mlp" if site.mlps else "resid"


SITE = ["kind", "layer", "head", "pos", "token"]


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Rates of every cell and site over both directions, weighted by their pairs."""
    by = ["pair", "prefix", "place", "run", "read_place", *SITE]
    values = ["flip", "change", "null_change", "own_change"]
    weighted = table[by].assign(n=table["n"], **{name: table[name] * table["n"] for name in values})
    sums = weighted.groupby(by, sort=False)[["n", *values]].sum(min_count=1).reset_index()
    return sums.assign(**{name: sums[name] / sums["n"] for name in values})


def roles(table: pd.DataFrame) -> pd.DataFrame:
    """The role of every site at every answer place, from the table of interchanges.

    *carry* moves the digit when a carry is put in or taken out below it (local), and not when its
    own column changes (base); *base_add* the reverse; *both* moves both; *combiner* moves the
    digit only where the carry crosses a nine (tristate, cascade). A site before the first token
    that differs cannot move anything. (SCIENCE 6.)
    """
    if table.empty:  # no cell had enough pairs
        return pd.DataFrame(columns=[*SITE, "place", *_MEASURES, "role"])
    sites, found = pooled(table), []
    for place, cell in sites.groupby("read_place"):
        by_pair = {pair: _largest(cell[cell["pair"] == pair]) for pair in cell["pair"].unique()}
        seen = cell.drop_duplicates(SITE)[SITE]
        values = {name: _of(seen, by_pair, *what) for name, what in _MEASURES.items()}
        frame = seen.assign(place=place, **values)
        found.append(frame.assign(role=_role(frame.fillna(0))))
    return pd.concat(found, ignore_index=True)


_MEASURES = {
    "carry_flip": (("local",), "flip"),
    "carry_null": (("local",), "null_change"),
    "base_flip": (("base",), "flip"),
    "base_change": (("base",), "change"),
    "nines_flip": (("tristate", "cascade"), "flip"),
    "nines_null": (("tristate", "cascade"), "null_change"),
}


def _largest(cell: pd.DataFrame) -> pd.DataFrame:
    """The largest rates of each site over the cells of one kind of pairs."""
    return cell.groupby(SITE)[["flip", "change", "null_change"]].max()


def _of(
    seen: pd.DataFrame, by_pair: dict[str, pd.DataFrame], pairs: tuple[str, ...], value: str
) -> np.ndarray:
    """One rate for each site: 0 where it comes before what differs, NaN where there is no pair."""
    index = pd.MultiIndex.from_frame(seen)
    columns = [by_pair[p][value].reindex(index) for p in pairs if p in by_pair]
    if not columns:
        return np.full(len(seen), np.nan)
    return np.max([column.fillna(0) for column in columns], axis=0)


def _role(frame: pd.DataFrame) -> np.ndarray:
    carry = (frame["carry_flip"] >= MOVES) & (frame["carry_null"] <= SPARES)
    base = frame["base_flip"] >= MOVES
    no_carry, no_base = frame["carry_flip"] <= SPARES, frame["base_change"] <= SPARES
    nines = (frame["nines_flip"] >= MOVES) & (frame["nines_null"] <= SPARES)
    cases = [carry & base, carry & no_base, base & no_carry, nines & no_carry & no_base]
    return np.select(cases, ["both", "carry", "base_add", "combiner"], "none")


def shared_roles(table: pd.DataFrame, joint: pd.DataFrame) -> pd.DataFrame:
    """The roles, with heads that have one only as a member of a smallest set (`shared`).

    Of such sets those count that have up to LARGEST heads and spare the other property. A head in
    several of them has the role of the plainest: carry, then base_add, then combiner.
    """
    table = table.assign(shared=False)
    if joint.empty:  # no cell had enough pairs
        return table
    names = {"local": "carry", "base": "base_add", "cascade": "combiner"}
    chosen = joint[joint["minimal"] & (joint["size"] <= LARGEST)]
    chosen = in_order(chosen, "pair", names)
    for row in chosen[~(chosen["other_change"] > SPARES)].itertuples():
        at = (table["place"] == row.read_place) & (table["token"] == row.token)
        at &= (table["kind"] == "head") & (table["role"] == "none")
        for layer, head in heads_of(row.members):
            here = at & (table["layer"] == layer) & (table["head"] == head)
            table.loc[here, ["role", "shared"]] = [names[row.pair], True]
    return table


def without_untested(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The roles, none at places where a kind of pairs that a role must spare was too rare.

    `pairs` has a row for every cell that the format has, with the pairs found (n).
    """
    few = pairs[(pairs["n"] < FEWEST) & pairs["pair"].isin(["local", "base"])]
    at = table["place"].isin(few["read_place"])
    return table.assign(role=table["role"].mask(at, "none"))


def kept_heads(roles: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Token, layer and head of everything that has a role at some place."""
    found = roles[(roles["kind"] == "head") & (roles["role"] != "none")]
    found = found[["token", "layer", "head"]].drop_duplicates().sort_values(["layer", "head"])
    return [(row.token, int(row.layer), int(row.head)) for row in found.itertuples()]
