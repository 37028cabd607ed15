"""Minimal pairs of additions: a clean and a source sum that differ in one property (SCIENCE 6).

What a model computes at a component is tested by putting there what it computed for the source
(interchange interventions: Geiger et al. 2021, section 3). That says something about one property
only if the two sums differ in nothing else: both are of the same length, their digits differ in
one column, and integer arithmetic says which digits of the answer change. With d the `place`:

- `local`: s_d goes over ten or not, s_d mod 10 stays: only A_{d+1} changes. Columns below are K.
- `cascade`: the same under `run` columns that sum to nine: A_{d+1} to A_{d+run+1} change, the last
  of them is read.
- `tristate`: s_d is 9 and the carry into it changes (column d - 1 goes over ten or not): A_d and
  A_{d+1} change, A_d is read. The same additions as cascades of one nine, read one digit lower.
- `base`: s_d changes inside its class: only A_d changes.
- `swap`: a_d and b_d are exchanged: nothing changes; A_d is read.

The column above the last that sums to nine never does: there the change stops. Unpadded, a change
of the leading answer digit is one of its length: such pairs do not exist.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from prompts.additions import ANY, KILL, MAKE, PASS, AdditionFormat, Sums, Written, draw

Kind = Literal["local", "cascade", "tristate", "base", "swap"]

TOGGLED = ("local", "cascade", "tristate")
"""Kinds in which the carry out of the changed column is there in one member and not the other."""


@dataclass(frozen=True)
class Pairs:
    """Clean additions and their sources, row by row; refused unless they are what `kind` says."""

    kind: Kind
    clean: Sums
    source: Sums
    place: int
    """d, as in the definition of the kind."""
    run: int = 0
    """Columns that sum to nine between the changed one and the digit that is read (cascade)."""
    null: bool = False
    """The source has other digits of the same class: the digit that is read stays as it is."""
    padded: bool = True
    """Numbers may begin with zeros; the answer always has one digit more than they."""

    def __post_init__(self) -> None:
        """Raise ValueError where integer arithmetic finds the pairs not to be of their kind."""
        _require(self.kind, self.place, self.run, self.places, self.padded)
        if len(self.clean) != len(self.source) or self.places != self.source.places:
            raise ValueError(f"{self.kind}: clean and source are not of the same number or width")
        if not (self._differ_in_one_column() and self._are_of_kind() and self._change_as_said()):
            raise ValueError(f"{self.kind}: clean and source differ in more or less than they say")
        if not self.padded and not self._are_as_long():
            raise ValueError(f"{self.kind}: clean and source are not written with as many digits")

    def __len__(self) -> int:
        """How many pairs."""
        return len(self.clean)

    def __getitem__(self, rows: slice | np.ndarray) -> "Pairs":
        """The pairs at `rows` (a slice, a mask or indices)."""
        return replace(self, clean=self.clean[rows], source=self.source[rows])

    def batches(self, size: int) -> list["Pairs"]:
        """The pairs in order, `size` at a time."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    def swapped(self) -> "Pairs":
        """The other direction: what was clean is the source."""
        return replace(self, clean=self.source, source=self.clean)

    @property
    def places(self) -> int:
        """Digits of an addend."""
        return self.clean.places

    @property
    def column(self) -> int:
        """The column whose digits differ between clean and source."""
        return _column(self.kind, self.place)

    @property
    def read_place(self) -> int:
        """The answer digit that is read."""
        return self.place + self.run + 1 if self.kind in ("local", "cascade") else self.place

    @property
    def changes(self) -> Bool[np.ndarray, "n answer"]:
        """Which answer digits differ between clean and source."""
        return self.clean.answer_digits != self.source.answer_digits

    def write(
        self, style: AdditionFormat, prefix: Literal["own", "shared"] = "own"
    ) -> tuple[Written, Written]:
        """Clean and source as tokens, each token of one at the pos of its like in the other.

        With its `own` prefix, each has its right digits before the one that is read. A `shared`
        prefix is the clean one's: then the source's tells nothing of what the source's digits do.

        Raises:
            ValueError: the format writes numbers of another width.
        """
        self._require_width(style)
        clean, source = style.write(self.clean), style.write(self.source)
        if prefix == "shared":
            source = with_prefix_of(clean, source, self.read_place)
        return clean, source

    def _require_width(self, style: AdditionFormat) -> None:
        if style.pad and style.digits != self.places:
            raise ValueError(f"the format writes {style.digits} digits, the pairs {self.places}")
        if not style.pad and (self.padded or style.digits < self.places):
            raise ValueError(
                f"the format writes up to {style.digits} digits and no leading zeros: it needs "
                f"pairs that are not padded, not wider (these: {self.places} digits)"
            )

    def _differ_in_one_column(self) -> bool:
        """Whether every pair has other digits in the changed column and the same elsewhere."""
        differ = self.clean.a_digits != self.source.a_digits
        differ |= self.clean.b_digits != self.source.b_digits
        return bool((differ == (np.arange(self.places) == self.column)).all())

    def _are_of_kind(self) -> bool:
        """Whether the changed column does what the kind says, and toggled carries start in it."""
        at, (clean, source) = self.column, (self.clean, self.source)
        if self.kind == "swap":
            # That the other digit moves too follows: no digit of the answer changes.
            return bool((clean.a_digits[:, at] == source.b_digits[:, at]).all())
        if self.kind in TOGGLED and (clean.classes[:, :at] != KILL).any():
            return False
        toggled = clean.classes[:, at] != source.classes[:, at]
        return bool((toggled == (self.kind in TOGGLED and not self.null)).all())

    def _change_as_said(self) -> bool:
        """Whether exactly those answer digits change that the kind changes.

        Where no other digits of the same class have the same sum (0 + 0, 9 + 9), a null pair
        changes the answer digit of its own column, which is not the one that is read.
        """
        changed = self.changes
        if self.null:
            free = (np.arange(self.places + 1) == self.column) & (self.column != self.read_place)
            return not changed[:, ~free].any()
        return bool((changed == _changed(self.kind, self.place, self.run, self.places)).all())

    def _are_as_long(self) -> bool:
        """Whether no addend begins with a zero, and answers are as long as their sources'."""
        top = [
            digits[:, -1]
            for sums in (self.clean, self.source)
            for digits in (sums.a_digits, sums.b_digits)
        ]
        return bool(np.all(top)) and not self.changes[:, -1].any()


def with_prefix_of(clean: Written, source: Written, place: int) -> Written:
    """The source, the answer digits before the one at `place` being the clean one's."""
    pos = np.arange(clean.tokens.shape[1])
    before = (pos >= clean.prompt[:, None]) & (pos < clean.at[:, [place]])
    return replace(source, tokens=np.where(before, clean.tokens, source.tokens))


def local(
    place: int, places: int, count: int, rng: np.random.Generator, *, padded: bool = True
) -> Pairs:
    """Pairs of the kind `local`: the carry out of column `place` is there or not, half and half.

    Raises ValueError where there are none.
    """
    return _drawn("local", place, 0, places, count, rng, padded)


def cascade(
    place: int, run: int, places: int, count: int, rng: np.random.Generator, *, padded: bool = True
) -> Pairs:
    """Pairs of the kind `cascade`: a carry or none out of column `place`, then over `run` nines.

    Raises ValueError where there are none.
    """
    return _drawn("cascade", place, run, places, count, rng, padded)


def tristate(
    place: int, places: int, count: int, rng: np.random.Generator, *, padded: bool = True
) -> Pairs:
    """Pairs of the kind `tristate`: column `place` sums to nine and a carry comes in or not.

    The answer digit above changes too: where it is written first, an own prefix gives the carry
    away. Raises ValueError where there are none.
    """
    return _drawn("tristate", place, 0, places, count, rng, padded)


def base(
    place: int, places: int, count: int, rng: np.random.Generator, *, padded: bool = True
) -> Pairs:
    """Pairs of the kind `base`: the sum of column `place` changes and no carry does.

    Left out are sums that only one pair of digits has (0 + 0, 9 + 9): they have no null pair that
    leaves the digit as it is. Raises ValueError where there are none.
    """
    return _drawn("base", place, 0, places, count, rng, padded)


def swap(
    place: int, places: int, count: int, rng: np.random.Generator, *, padded: bool = True
) -> Pairs:
    """Pairs of the kind `swap`: two different digits of column `place` change sides.

    Raises ValueError where there are none.
    """
    return _drawn("swap", place, 0, places, count, rng, padded)


def null_of(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """The same clean additions with sources whose digit that is read is as in the clean ones.

    The changed column gets other digits of the same class, of the same sum where there are such;
    all else is equal. Raises ValueError for `swap`, which changes no digit itself, and for nulls.
    """
    if pairs.kind == "swap" or pairs.null:
        raise ValueError(f"{pairs.kind}: pairs that change no digit have no null pairs")
    clean, column = pairs.clean, pairs.column
    allowed = _like(lowest_digit(column, pairs.places, pairs.padded))
    old = clean.a_digits[:, column] * 10 + clean.b_digits[:, column]
    new = (rng.random((len(pairs), 100)) * allowed[old]).argmax(1)
    source = with_column(clean, column, np.stack([new // 10, new % 10], 1))
    return replace(pairs, source=source, null=True)


def every_pair(places: int, count: int, seed: int, padded: bool = True) -> list[Pairs]:
    """`count` pairs of every kind at every place and run that exists, each with its null pairs."""
    rng, battery = np.random.default_rng(seed), []
    for kind, place, run in every_kind(places, padded=padded):
        pairs = _drawn(kind, place, run, places, count, rng, padded)
        battery += [pairs] if kind == "swap" else [pairs, null_of(pairs, rng)]
    return battery


def every_kind(places: int, *, padded: bool = True) -> list[tuple[Kind, int, int]]:
    """Kind, place and run of all minimal pairs of numbers of `places` digits."""
    highest = places if padded else places - 1
    found: list[tuple[Kind, int, int]] = []
    for place in range(places):
        found += [("local", place, 0)] if place < highest else []
        found += [("cascade", place, run) for run in range(1, highest - place)]
        found += [("tristate", place, 0)] if 0 < place < highest else []
        found += [("base", place, 0), ("swap", place, 0)]
    return found


def _require(kind: Kind, place: int, run: int, places: int, padded: bool) -> None:
    """Raise ValueError where pairs of this kind do not exist."""
    if not 0 <= place < places:
        raise ValueError(f"{kind}: numbers of {places} digits have no column {place}")
    if kind == "tristate" and place == 0:
        raise ValueError("tristate: no carry comes into column 0")
    if (run >= 1) != (kind == "cascade"):
        raise ValueError(f"{kind}: a cascade runs over 1 nine or more, other kinds over none")
    last = place + run + 1
    if kind in TOGGLED and last > places:
        raise ValueError(f"{kind}: over {run} nines, column {place} of {places} reaches no digit")
    if kind in TOGGLED and last == places and not padded:
        raise ValueError(f"{kind}: unpadded, column {place} changes the length of the answer")


def _drawn(
    kind: Kind,
    place: int,
    run: int,
    places: int,
    count: int,
    rng: np.random.Generator,
    padded: bool,
) -> Pairs:
    """Pairs of a kind, every second one turned round, so that directions are half and half."""
    _require(kind, place, run, places, padded)
    column = _column(kind, place)
    around = draw(_classes(kind, place, run, (count, places), rng), rng, padded=padded)
    choices = _choices(kind, lowest_digit(column, places, padded))
    digits = choices[rng.integers(len(choices), size=count)]
    digits[1::2] = digits[1::2, ::-1]
    clean, source = (with_column(around, column, digits[:, member]) for member in (0, 1))
    return Pairs(kind, clean, source, place, run, padded=padded)


def _column(kind: Kind, place: int) -> int:
    """The column whose digits differ between clean and source."""
    return place - 1 if kind == "tristate" else place


def lowest_digit(column: int, places: int, padded: bool) -> int:
    """The lowest digit that a column may have."""
    return 0 if padded or column < places - 1 else 1


def _changed(kind: Kind, place: int, run: int, places: int) -> Bool[np.ndarray, "answer"]:
    """The answer digits that change in pairs of a kind."""
    changed = np.zeros(places + 1, dtype=bool)
    if kind in TOGGLED:
        changed[_column(kind, place) + 1 : place + run + 2] = True
    changed[place] |= kind == "base"
    return changed


def _classes(
    kind: Kind, place: int, run: int, shape: tuple[int, int], rng: np.random.Generator
) -> Int[np.ndarray, "n places"]:
    """Classes of the columns around the changed one, whose own is any.

    The column in which a toggled carry ends is K or G, half and half.
    """
    classes = np.full(shape, ANY)
    if kind in TOGGLED:
        column, end = _column(kind, place), place + run + 1
        classes[:, :column] = KILL
        classes[:, column + 1 : end] = PASS
        classes[:, end : end + 1] = rng.choice([KILL, MAKE], (shape[0], 1))
    return classes


def _choices(kind: Kind, lowest: int) -> Int[np.ndarray, "choice member=2 addend=2"]:
    """Every way to fill the changed column: its digits in the clean and in the source sum."""
    digits = np.indices((10,) * 4).reshape(4, -1).T.reshape(-1, 2, 2)
    clean, source = digits.sum(2).T
    if kind in TOGGLED:
        fits = clean + 10 == source
    elif kind == "base":
        fits = (clean != source) & (column_class(clean) == column_class(source))
        fits &= (np.minimum(clean, source) > 2 * lowest) & (np.maximum(clean, source) < 18)
    else:
        exchanged = (digits[:, 0] == digits[:, 1, ::-1]).all(1)
        fits = exchanged & (digits[:, 0, 0] != digits[:, 0, 1])
    return digits[fits & (digits >= lowest).all((1, 2))]


def _like(lowest: int) -> Bool[np.ndarray, "old=100 new=100"]:
    """Which digits 10 a + b may stand for which others in a null pair."""
    a, b = np.divmod(np.arange(100), 10)
    other = ~np.eye(100, dtype=bool) & (np.minimum(a, b) >= lowest)
    same_class = other & (column_class(a + b)[:, None] == column_class(a + b))
    same_sum = other & ((a + b)[:, None] == a + b)
    return np.where(same_sum.any(1, keepdims=True), same_sum, same_class)


def column_class(column_sum: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """KILL, PASS or MAKE."""
    return np.digitize(column_sum, [9, 10])


def with_column(sums: Sums, column: int, digits: Int[np.ndarray, "n addend=2"]) -> Sums:
    """The same additions with other digits in one column."""
    a = sums.a + (digits[:, 0] - sums.a_digits[:, column]) * 10**column
    b = sums.b + (digits[:, 1] - sums.b_digits[:, column]) * 10**column
    return Sums(a, b, sums.places)
