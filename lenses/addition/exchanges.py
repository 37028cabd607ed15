"""Pairs of a cell that a model solves, each read once, and what interchanges between them do.

The pass that shows whether a pair is solved also gives what interchanges need of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from lenses.addition.contrasts import FEWEST, Cell, Contrast, by_direction, draws
from lenses.patching.interchange import (
    Activations,
    Reading,
    Said,
    Site,
    activations_and_logits,
    exchanged,
    said_at_once,
)
from lenses.patching.resumed import Resumable, Rows
from models import Model
from prompts.additions import AdditionFormat

MEMBERS = (("clean", 0), ("source", 1), ("null", 0))
"""Of a pair, with which of the two digits is right in each."""
ROUNDS = 12
"""Times that pairs are drawn for a model that solves few of them."""


@dataclass(frozen=True)
class Exchanges:
    """Pairs whose members a model has read, for interchanges at any sites."""

    found: Contrast
    alone: bool
    """Whether only the digit in question is read; if not, every answer digit is."""
    clean: Resumable
    source: Activations
    target: Tensor
    """What the source says, as logits."""
    null: Activations | None
    """None where there is no null source, or where it is not asked for."""

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.found)

    def __getitem__(self, rows: Rows) -> "Exchanges":
        """The pairs at `rows`."""
        null = None if self.null is None else self.null[rows]
        members = self.clean[rows], self.source[rows], self.target[rows], null
        return Exchanges(self.found[rows], self.alone, *members)

    def joined(self, more: "Exchanges") -> "Exchanges":
        """These pairs and then those."""
        null = self.null and more.null and self.null.joined(more.null)
        found, clean = self.found.joined(more.found), self.clean.joined(more.clean)
        source, target = self.source.joined(more.source), torch.cat([self.target, more.target])
        return Exchanges(found, self.alone, clean, source, target, null)

    @cached_property
    def read(self) -> Reading:
        """Where answers are read."""
        return _read(self.found, self.alone)

    def after(self, source: Activations | None, sites: Sequence[Site]) -> Said:
        """What is said when each site gets what a source has there; without one, as before."""
        if source is None:
            return self.before
        at = np.array([self.found.tokens_at[site.token] for site in sites])
        return exchanged(self.clean, source, sites, at.reshape(len(sites), len(self)), self.read)

    @cached_property
    def before(self) -> Said:
        """What is said of the clean sums when nothing is exchanged."""
        return said_at_once(self.clean.logits, self.read)

    def flips(self, sites: Sequence[Site]) -> Float[np.ndarray, "site"]:
        """Share of the pairs in which the read digit becomes the source's."""
        return self.flipped(self.after(self.source, sites).token).mean(1)

    def changes(self, sites: Sequence[Site]) -> Float[np.ndarray, "site"]:
        """Share of the pairs in which the source changes the read digit at all."""
        at = self.read.compared
        return (self.after(self.source, sites).token != self.before.token)[:, :, at].mean(1)

    def flipped(self, said: Int[np.ndarray, "site n read"]) -> Bool[np.ndarray, "site n"]:
        """Where the read digit was not the source's, and becomes it."""
        target, at = self.read.tokens[:, 1], self.read.compared
        return (said[:, :, at] == target) & (self.before.token[:, :, at] != target)

    def each_pair(self, sites: Sequence[Site]) -> dict[str, Num[np.ndarray, "site n"]]:
        """What is counted, of every pair at every site."""
        before, at = self.before, self.read.compared
        after, other = (self.after(source, sites) for source in (self.source, self.null))
        flips, changed = self.flipped(after.token), after.token != before.token
        nulls = np.broadcast_to(other.token != before.token, changed.shape)[:, :, at]
        apart = said_at_once(self.target, self.read).margin - before.margin
        own = {} if self.alone else {"own_changes": (changed & self.found.left_alone).any(2)}
        return {
            "n": np.ones(flips.shape), "flips": flips, "changes": changed[:, :, at],
            "null_changes": nulls, **own,
            "flip_only": flips & ~nulls, "null_only": nulls & ~flips,
            "moved": after.margin - before.margin, "apart": np.broadcast_to(apart, flips.shape),
        }  # fmt: skip

    def counts(self, sites: Sequence[Site]) -> pd.DataFrame:
        """The same summed, for each site (its index in `sites`) and direction."""
        return by_direction(self.each_pair(sites), self.found.direction)


def exchanges(
    model: Model,
    style: AdditionFormat,
    cell: Cell,
    count: int,
    seed: int,
    batch_size: int,
    *,
    solved: bool = True,
    alone: bool = False,
) -> Exchanges | None:
    """Up to `count` pairs of a cell; with `solved`, only those that the model gets right.

    Right are the digit that is read in the clean sum, in the source and in the null source. Pairs
    are drawn until there are enough, at most ROUNDS times `count`, and no longer than there is a
    prospect of FEWEST. None where there is none.
    """
    drawn, how = draws(style, cell, count, seed), {"solved": solved, "alone": alone}
    found = read_pairs(model, next(drawn), batch_size, **how)
    for rounds in range(1, ROUNDS if solved else 1):
        there = len(found or ())
        if there >= count or there * ROUNDS < FEWEST * rounds:
            break
        more = read_pairs(model, next(drawn), batch_size, **how)
        found = found.joined(more) if found and more else found or more
    return found and found[:count]


def read_pairs(
    model: Model, found: Contrast, batch_size: int, *, solved: bool = False, alone: bool = False
) -> Exchanges | None:
    """These pairs as a model reads them, or those of them that it gets right; None of none."""
    if not len(found):
        return None
    kept: dict[str, Any] = {}
    addends = [f"{name}{place}" for name in "ab" for place in range(found.style.digits)]
    first = min(found.tokens_at[digit].min() for digit in addends)
    for member, digit in MEMBERS:
        tokens, read = getattr(found, member), _read(found, alone)
        if tokens is None or not len(found):
            continue
        tokens = tokens[:, : read.at.max() + 1]  # what stands later is seen by none that is read
        if member == "clean":
            kept[member] = clean = Resumable(model, tokens, read.at, batch_size, first)
            logits = clean.logits
        else:
            kept[member], logits = activations_and_logits(model, tokens, read.at, batch_size, first)
        kept[f"{member} says"] = logits
        said = logits[:, read.compared].argmax(-1).cpu().numpy()
        right = said == read.tokens[:, digit]
        if solved and not right.all():
            found, kept = found[right], {name: what[right] for name, what in kept.items()}
    if not len(found):
        return None
    null = kept.get("null")
    return Exchanges(found, alone, kept["clean"], kept["source"], kept["source says"], null)


def _read(found: Contrast, alone: bool) -> Reading:
    return found.read.alone() if alone else found.read
