"""Minimal pairs that a model solves, in tokens, and what an interchange between them does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num
from scipy import special

from lenses.patching.interchange import Reading
from lenses.statistics.intervals import benjamini_hochberg, largest_by_luck, wilson
from prompts.additions import NUMBERS, AdditionFormat, Sums
from prompts.pairs import (
    TOGGLED,
    Kind,
    Pairs,
    base,
    cascade,
    every_kind,
    local,
    null_of,
    swap,
    tristate,
    with_prefix_of,
)

Prefix = Literal["same", "own", "shared"]
"""The answer digits before the one that is read: the same in clean and source anyway; or each its
own right ones; or the clean one's in both, which tell nothing of the source."""

DIRECTIONS = ("in", "out", "either")
"""The source has the carry and the clean one has not; the reverse; pairs that differ in none."""

SPARE = 4
"""Unpadded pairs drawn for each that is wanted: answers of one length are kept."""

FEWEST = 20
"""Solved pairs below which a cell is left undecided."""


@dataclass(frozen=True)
class Cell:
    """Which minimal pairs: their kind, where the column is, over how many nines, what prefix."""

    pair: Kind
    place: int
    run: int
    prefix: Prefix

    @property
    def read_place(self) -> int:
        """The answer digit that is read."""
        return self.place + self.run + 1 if self.pair in ("local", "cascade") else self.place


@dataclass(frozen=True)
class Contrast:
    """Pairs of a cell as tokens, with null sources for the same clean prompts.

    The last token of each row, which predicts nothing, is left out.
    """

    cell: Cell
    style: AdditionFormat
    pairs: Pairs
    others: Pairs | None
    """The null pairs; None for swapped digits, which are null pairs themselves."""

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.pairs)

    def __getitem__(
        self, rows: slice | Int[np.ndarray, "row"] | Bool[np.ndarray, "n"]
    ) -> "Contrast":
        """The pairs at `rows`."""
        others = None if self.others is None else self.others[rows]
        return replace(self, pairs=self.pairs[rows], others=others)

    def joined(self, more: "Contrast") -> "Contrast":
        """These pairs and then those."""
        others = None
        if self.others is not None and more.others is not None:
            others = _joined(self.others, more.others)
        return replace(self, pairs=_joined(self.pairs, more.pairs), others=others)

    @cached_property
    def clean(self) -> Int[np.ndarray, "n pos"]:
        """The clean sums as tokens."""
        return self.written(self.pairs.clean)

    @cached_property
    def source(self) -> Int[np.ndarray, "n pos"]:
        """Their sources as tokens."""
        return self.written(self.pairs.source)

    @cached_property
    def null(self) -> Int[np.ndarray, "n pos"] | None:
        """Their null sources as tokens."""
        return None if self.others is None else self.written(self.others.source)

    @cached_property
    def at(self) -> Int[np.ndarray, "n answer"]:
        """Pos of each answer digit, -1 where it is not written."""
        return self.style.write(self.pairs.clean).at

    @cached_property
    def read(self) -> Reading:
        """Every answer digit is read; at the one in question the two members' are compared."""
        place = self.cell.read_place
        two = [sums.answer_digits[:, place] for sums in (self.pairs.clean, self.pairs.source)]
        tokens = self.style.digit_ids[np.stack(two, axis=1)]
        return Reading(np.maximum(self.at - 1, 0), place, tokens)

    @cached_property
    def left_alone(self) -> Bool[np.ndarray, "n answer"]:
        """Written answer digits, beside the one read, that are the same in clean and source."""
        alone = (self.at >= 0) & ~self.pairs.changes
        alone[:, self.cell.read_place] = False
        return alone

    @cached_property
    def direction(self) -> Int[np.ndarray, "n"]:
        """Index into DIRECTIONS of each pair."""
        if self.cell.pair not in TOGGLED:
            return np.full(len(self), 2)
        return 1 - self.pairs.source.carry[:, self.cell.read_place]

    @cached_property
    def tokens_at(self) -> dict[str, Int[np.ndarray, "n"]]:
        """The pos of every token by its name."""
        return token_positions(self.style, self.pairs.clean)

    @cached_property
    def positions(self) -> dict[str, Int[np.ndarray, "n"]]:
        """The same of those from the first that differs to the one where the digit is said."""
        first = min(
            int((self.clean != other).any(0).argmax())
            for other in (self.source, self.null)
            if other is not None and len(other)
        )
        last = self.read.at[:, self.cell.read_place]
        return {
            name: pos
            for name, pos in self.tokens_at.items()
            if (pos >= first).all() and (pos <= last).all()
        }

    def written(self, sums: Sums) -> Int[np.ndarray, "n pos"]:
        """Clean sums or sources as tokens, filled up to the longest that the format writes."""
        written = self.style.write(sums)
        if self.cell.prefix == "shared":
            clean = self.style.write(self.pairs.clean)
            written = with_prefix_of(clean, written, self.cell.read_place)
        tokens = written.tokens
        longest = len(self.style.layout) - len(NUMBERS) + 3 * self.style.digits + 1
        return np.pad(tokens, ((0, 0), (0, longest - tokens.shape[1])))[:, :-1]


def _joined(some: Pairs, more: Pairs) -> Pairs:
    clean, source = (
        Sums(np.concatenate([x.a, y.a]), np.concatenate([x.b, y.b]), x.places)
        for x, y in ((some.clean, more.clean), (some.source, more.source))
    )
    return replace(some, clean=clean, source=source)


def token_positions(style: AdditionFormat, sums: Sums) -> dict[str, Int[np.ndarray, "n"]]:
    """Pos of each token by its name: `a2`, `+`, `A3`, or its text and pos, as in `␣ (19)`.

    Addends have all `style.digits` digits; answer digits that are not always written are left out.
    """
    named, pos = {}, 0
    for item in style.layout[: style.layout.index("c")]:
        places = list(range(style.digits)) if item in NUMBERS else [None]
        for place in places[::-1] if style.operands == "msb" else places:
            sign = f"{item[1:].replace(' ', '␣')} ({pos})" if item.startswith("#") else item
            named[sign if place is None else f"{item}{place}"] = np.full(len(sums), pos)
            pos += 1
    at = style.write(sums).at
    order = range(style.digits, -1, -1) if style.answer == "msb" else range(style.digits + 1)
    return named | {f"A{place}": at[:, place] for place in order if (at[:, place] >= 0).all()}


def cells(style: AdditionFormat) -> list[Cell]:
    """Every cell of minimal pairs that a format has.

    Where a change reaches answer digits that are written before the one that is read, both
    prefixes are cells of their own.
    """
    told = {"msb": "tristate", "lsb": "cascade"}[style.answer]
    found = []
    for pair, place, run in every_kind(style.digits, padded=style.pad):
        prefixes: tuple[Prefix, ...] = ("own", "shared") if pair == told else ("same",)
        found += [Cell(pair, place, run, prefix) for prefix in prefixes]
    return found


def contrast(style: AdditionFormat, cell: Cell, count: int, seed: int) -> Contrast:
    """`count` pairs of a cell, whatever a model makes of them."""
    return next(draws(style, cell, count, seed))


def draws(style: AdditionFormat, cell: Cell, count: int, seed: int) -> Iterator[Contrast]:
    """`count` pairs of a cell, again and again others."""
    kinds = every_kind(style.digits, padded=style.pad)
    rng = np.random.default_rng([seed, kinds.index((cell.pair, cell.place, cell.run))])
    while True:
        yield _drawn(style, cell, count, rng)


def _drawn(style: AdditionFormat, cell: Cell, count: int, rng: np.random.Generator) -> Contrast:
    """Pairs of a cell; unpadded, those whose answers are no longer than their addends.

    So every answer digit stands at the same pos in all of them.
    """
    count, wanted = (count, count) if style.pad else (SPARE * count, count)
    draw = {"local": local, "tristate": tristate, "base": base, "swap": swap}
    if cell.pair == "cascade":
        pairs = cascade(cell.place, cell.run, style.digits, count, rng, padded=style.pad)
    else:
        pairs = draw[cell.pair](cell.place, style.digits, count, rng, padded=style.pad)
    found = Contrast(cell, style, pairs, None if cell.pair == "swap" else null_of(pairs, rng))
    if style.pad:
        return found
    return found[np.flatnonzero(pairs.clean.carry[:, -1] == 0)[:wanted]]


COUNTS = (
    "n",
    "flips",
    "changes",
    "null_changes",
    "own_changes",
    "flip_only",
    "null_only",
    "moved",
    "apart",
)
"""What is counted of the pairs of one direction at one site: pairs; flips to the source's digit;
changes of the read digit by the source, and by the null source; pairs in which a digit changes that
arithmetic leaves alone; flips where the null source changes nothing, and the reverse; sums of
LD_patched - LD_clean and of LD_source - LD_clean."""


def by_direction(
    values: dict[str, Num[np.ndarray, "site n"]], direction: Int[np.ndarray, "n"]
) -> pd.DataFrame:
    """Sums over the pairs of each direction, for each site."""
    parts = []
    for number in np.unique(direction):
        sums = {name: value[:, direction == number].sum(1) for name, value in values.items()}
        parts.append(
            pd.DataFrame(
                {"site": np.arange(len(sums["n"])), "direction": DIRECTIONS[number], **sums}
            )
        )
    return pd.concat(parts, ignore_index=True)


LUCKY_DRAWS = 2_000
"""Times that the members of pairs, source and null source, change places at random."""


def luck_of(
    values: dict[str, Num[np.ndarray, "site n"]],
    direction: Int[np.ndarray, "n"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw"]:
    """The largest excess of flips over null changes that luck gives any site and direction.

    In standard deviations, from LUCKY_DRAWS (`lenses.statistics.intervals.largest_by_luck`).
    """
    excess = (values["flip_only"].astype(int) - values["null_only"]).T
    parts = [excess[direction == number] for number in np.unique(direction)]
    return np.max([largest_by_luck(part, rng, LUCKY_DRAWS) for part in parts], axis=0)


def rates(counts: pd.DataFrame, luck: Float[np.ndarray, "draw"]) -> pd.DataFrame:
    """Counts as rates with Wilson intervals, and tests against the null source.

    `p` is one-sided and exact (McNemar): of the pairs in which just one of source and null source
    moves the read digit, is it the source more often? `q` is p corrected over all rows
    (Benjamini & Hochberg 1995); `p_max` is how often luck gives any row as large an excess
    (`luck_of` over the whole table). Swapped digits have no null source and no test. Where members
    have their own prefixes the source differs by one more token than the null source, which may
    by itself explain an excess.
    """
    if counts.empty:  # no cell had enough pairs
        return counts
    table = counts.drop(columns=list(COUNTS))
    n = counts["n"].to_numpy()
    table["flip"] = counts["flips"] / n
    table["flip_low"], table["flip_high"] = wilson(counts["flips"].to_numpy(), n)
    table["change"], table["null_change"] = counts["changes"] / n, counts["null_changes"] / n
    table["own_change"] = counts["own_changes"] / n
    apart = counts["apart"].where(counts["apart"] != 0)
    table["logit_shift"] = (counts["moved"] / apart).round(3)
    tested = (counts["pair"] != "swap").to_numpy()
    table.loc[~tested, ["flip", "flip_low", "flip_high", "logit_shift", "null_change"]] = np.nan
    table["n"] = n.astype(int)
    flipped, discordant = counts["flip_only"], counts["flip_only"] + counts["null_only"]
    p = special.bdtrc(flipped.to_numpy(int) - 1, discordant.to_numpy(int), 0.5)
    table["p"] = np.where(tested, p, np.nan)
    table.loc[tested, "q"] = benjamini_hochberg(p[tested])
    excess = (counts["flip_only"] - counts["null_only"]) / np.sqrt(np.maximum(discordant, 1))
    beyond = len(luck) - np.searchsorted(np.sort(luck), excess.to_numpy() - 1e-9)
    table.loc[tested, "p_max"] = ((1 + beyond) / (1 + len(luck)))[tested]
    return table
