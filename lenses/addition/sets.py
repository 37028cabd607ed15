"""The smallest sets of heads that carry something together, where none may do so alone (SCIENCE 6).

A scan of single heads misses carries that heads share, and sets that saturate: any of several
heads is then enough, and none is needed.
"""

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.addition.contrasts import Contrast
from lenses.addition.exchanges import Exchanges
from lenses.patching.interchange import Site
from lenses.statistics.intervals import wilson
from models import Model

EXPLAINS, BY_CHANCE = 0.95, 0.05
"""A set explains a cell if it flips at least this share of its pairs, and null sources change the
digit in at most that share."""

LARGEST, MOST_SETS = 3, 2_000
"""Every set of up to three heads is tried where these are at most 2,000."""

PROMISING = 0.85
"""Flips of the screened pairs from which on a set is measured on fresh ones: of 24, a set that
flips .95 of all passes 97 times in 100."""

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
    model: Model, pairs: Exchanges, other: Exchanges | None, screen: int
) -> pd.DataFrame:
    """Sets of heads, where the digit is read, that give it the source's value.

    Sets are chosen on the first `screen` pairs and measured on the rest, smaller ones first; none
    that contains one which explains the cell. `flip` has its Wilson interval, `complement_flip` is
    that of all other heads, `other_change` how often the set changes the digit in the pairs
    `other`, of the property that it should spare (NaN without). `minimal`: it explains the cell,
    and no smaller set in it was found to. The set of all heads flips
    pairs of equal prefix by construction, so it is no evidence (`all_heads`).
    """
    token = list(pairs.found.positions)[-1]
    heads = [(layer, h) for layer in range(model.cfg.n_layers) for h in range(model.cfg.n_heads)]
    tried, fresh = pairs[:screen], pairs[screen:]

    def sites(sets: Sequence[Members]) -> list[Site]:
        return [Site(token, heads=members) for members in sets]

    def counts(sets: Sequence[Members]) -> pd.DataFrame:
        told = fresh.each_pair(sites(sets))
        return pd.DataFrame({name: told[name].sum(1) for name in ("n", "flips", "null_changes")})

    sets, own, searched = _smallest(heads, lambda sets: tried.flips(sites(sets)), counts)
    rest = [tuple(head for head in heads if head not in members) for members in sets]
    complement = fresh.flips(sites(rest))
    spared = np.nan if other is None else other.changes(sites(sets))
    return _rows(pairs.found, sets, own, complement, spared).assign(
        all_heads=[not others for others in rest], searched=searched
    )


def _smallest(
    heads: Sequence[Head],
    screened: Callable[[Sequence[Members]], Float[np.ndarray, "set"]],
    measured: Callable[[Sequence[Members]], pd.DataFrame],
) -> tuple[list[Members], pd.DataFrame, str]:
    """Sets worth measuring, the counts of their fresh pairs, and how they were searched.

    Those of each size that flip enough of the screened pairs are measured, unless they contain one
    that explains the cell; where none does, what is left by elimination is.
    """
    sizes = range(1, min(LARGEST, len(heads) - 1) + 1)
    count, found, tried = sum(comb(len(heads), size) for size in sizes), _Measured(measured), ""
    if sizes and count <= MOST_SETS:
        tried = f"{count} sets of up to {sizes[-1]} heads"
        every = list(chain.from_iterable(combinations(heads, size) for size in sizes))
        good = [m for m, flip in zip(every, screened(every), strict=True) if flip >= PROMISING]
        for size in sizes:
            found.add([members for members in good if len(members) == size])
        if found.explaining:
            return found.sets, found.counts, f"all {tried}"
        tried = f"none of {tried}; "
    found.add([_eliminated(heads, screened)])
    return found.sets, found.counts, f"{tried}backward elimination from all {len(heads)} heads"


class _Measured:
    """Sets that were measured on fresh pairs, and which of them explain the cell."""

    def __init__(self, measured: Callable[[Sequence[Members]], pd.DataFrame]) -> None:
        self._measured = measured
        self.sets: list[Members] = []
        self.explaining: list[Members] = []
        self.counts = pd.DataFrame()

    def add(self, sets: Sequence[Members]) -> None:
        """Measure those that are new and contain none that explains the cell."""
        new = [
            members
            for members in sets
            if members not in self.sets
            and not any(set(less) < set(members) for less in self.explaining)
        ]
        if new:
            counts = self._measured(new)
            self.sets += new
            self.counts = pd.concat([self.counts, counts], ignore_index=True)
            self.explaining += [m for m, yes in zip(new, _explains(counts), strict=True) if yes]


def _explains(counts: pd.DataFrame) -> pd.Series:
    """Whether each set flips enough pairs, and its null sources change few."""
    flip, null = counts["flips"] / counts["n"], counts["null_changes"] / counts["n"]
    return (flip >= EXPLAINS) & (null <= BY_CHANCE)


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
    complement: Float[np.ndarray, "set"],
    spared: Float[np.ndarray, "set"] | float,
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
            "complement_flip": complement,
            "other_change": spared,
            "n": own["n"].astype(int),
            "minimal": _explains(own),
        }
    ).reset_index(drop=True)  # fmt: skip
