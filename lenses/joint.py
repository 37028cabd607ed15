"""The smallest sets of heads that carry something together, where none may do so alone (SCIENCE 6).

A scan of single heads misses carries that heads share, and sets that saturate: any of several
heads is then enough, and none is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, combinations
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.contrasts import Contrast, counted
from lenses.interchange import Site
from lenses.statistics import wilson
from models import Model

EXPLAINS, BY_CHANCE = 0.95, 0.05
"""A set explains a cell if it flips at least this share of its pairs, and null sources change the
digit in at most that share."""

LARGEST, MOST_SETS = 3, 2_000
"""Every set of up to three heads is tried where these are at most 2,000."""

PROMISING = 0.9
"""Flips of the screened pairs from which on a set is measured on fresh ones."""

Head = tuple[int, int]
Members = tuple[Head, ...]


def head_name(head: Head) -> str:
    """`L1H3`."""
    return f"L{head[0]}H{head[1]}"


def heads_of(members: str) -> Members:
    """The heads in the name of a set: `L0H1 L0H3`."""
    numbers = (name[1:].split("H") for name in members.split())
    return tuple((int(layer), int(head)) for layer, head in numbers)


def joint_sets(
    model: Model, found: Contrast, other: Contrast | None, screen: int, batch_size: int
) -> pd.DataFrame:
    """Sets of heads, where the digit is read, that give it the source's value.

    Sets are chosen on the first `screen` pairs and measured on the rest; none contains another
    that was chosen. `flip` has its Wilson interval, `complement_flip` is that of all other heads,
    `other_change` how often the set changes the digit in the pairs `other`, of the property that
    it should spare (NaN without). `minimal`: it explains the cell. The set of all heads flips
    pairs of equal prefix by construction, so it is no evidence (`all_heads`).
    """
    token = list(found.positions)[-1]
    heads = [(layer, h) for layer in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    tried, fresh = found[np.arange(screen)], found[np.arange(screen, len(found))]

    def flips(pairs: Contrast, sets: Sequence[Members]) -> pd.DataFrame:
        sites = [Site(token, heads=members) for members in sets]
        counts = counted(model, pairs, sites, batch_size)
        return counts.drop(columns="direction").groupby("site").sum()

    def screened(sets: Sequence[Members]) -> Float[np.ndarray, "set"]:
        counts = flips(replace(tried, others=None), sets)
        return (counts["flips"] / counts["n"]).to_numpy()

    sets, searched = _candidates(heads, screened)
    rest = [tuple(head for head in heads if head not in members) for members in sets]
    own = flips(fresh, sets)
    complement = flips(replace(fresh, others=None), rest)
    spared = None if other is None else flips(replace(other, others=None), sets)
    return _rows(found, sets, own, complement, spared).assign(
        all_heads=[not others for others in rest], searched=searched
    )


def _candidates(
    heads: Sequence[Head], screened: Callable[[Sequence[Members]], Float[np.ndarray, "set"]]
) -> tuple[list[Members], str]:
    """Sets that flip enough of the screened pairs and contain no smaller such set; how searched."""
    sizes = range(1, min(LARGEST, len(heads) - 1) + 1)
    count = sum(comb(len(heads), size) for size in sizes)
    if count <= MOST_SETS:
        sets = list(chain.from_iterable(combinations(heads, size) for size in sizes))
        good = [m for m, flip in zip(sets, screened(sets), strict=True) if flip >= PROMISING]
        found = [m for m in good if not any(set(less) < set(m) for less in good)]
        if found:
            return found, f"all {count} sets of up to {sizes[-1]} heads"
    found = [_eliminated(heads, screened)]
    tried = f"none of {count} sets of up to {sizes[-1]}; " if count <= MOST_SETS else ""
    return found, f"{tried}backward elimination from all {len(heads)} heads"


def _eliminated(
    heads: Sequence[Head], screened: Callable[[Sequence[Members]], Float[np.ndarray, "set"]]
) -> Members:
    """What is left when those heads are dropped without which the rest still flips enough pairs.

    First half of them at once, then a quarter, and in the end one by one.
    """
    left, size = tuple(heads), max(1, len(heads) // 2)
    while size:
        for part in [left[start : start + size] for start in range(0, len(left), size)]:
            rest = tuple(head for head in left if head not in part)
            if rest and screened([rest])[0] >= EXPLAINS:
                left = rest
        size //= 2
    return left


def _rows(
    found: Contrast,
    sets: Sequence[Members],
    own: pd.DataFrame,
    complement: pd.DataFrame,
    spared: pd.DataFrame | None,
) -> pd.DataFrame:
    """One row a set, from the counts of its interchanges."""
    cell = found.cell
    low, high = wilson(own["flips"].to_numpy(), own["n"].to_numpy())
    flip, null = own["flips"] / own["n"], own["null_changes"] / own["n"]
    return pd.DataFrame(
        {
            "pair": cell.pair, "prefix": cell.prefix, "run": cell.run,
            "read_place": cell.read_place, "token": list(found.positions)[-1],
            "members": [" ".join(map(head_name, members)) for members in sets],
            "size": list(map(len, sets)),
            "flip": flip, "low": low, "high": high, "null_change": null,
            "complement_flip": complement["flips"] / complement["n"],
            "other_change": np.nan if spared is None else spared["changes"] / spared["n"],
            "n": own["n"].astype(int),
            "minimal": (flip >= EXPLAINS) & (null <= BY_CHANCE),
        }
    ).reset_index(drop=True)  # fmt: skip
