"""Donors in which the carry and the digit that it makes come apart (SCIENCE 6, cross donors).

In a minimal pair of the kind `local` or `cascade` the source's digit is the one that its carry
makes of the clean column, so that what writes the carry and what writes the digit do the same. A
donor is the source (or the null source) with other digits in the column that is read as well:

- `cross`: the carry is toggled, and the donor's digit is neither the clean one nor the one that
  its carry would make of the clean column;
- `same_answer`: the carry is toggled, and yet the donor's digit is the clean one (2606.08292);
- `same_carry`: neither carry nor digit differs, only the digits that are added.

The column that is read stays in its class, so that no digit above changes. The highest digit of
padded numbers has no column: it is its carry, and there are no donors.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

from prompts.additions import Sums
from prompts.pairs import Pairs, column_class, lowest_digit, null_of, with_column

Donor = Literal["cross", "same_answer", "same_carry"]
DONORS: tuple[Donor, ...] = get_args(Donor)


@dataclass(frozen=True)
class Donors:
    """Clean additions and their donors, row by row; refused unless they are what `kind` says."""

    kind: Donor
    pairs: Pairs
    sums: Sums
    rows: Int[np.ndarray, "n"]
    """Which of the pairs they were made of: not every column has a donor of every kind."""

    def __post_init__(self) -> None:
        """Raise ValueError where integer arithmetic finds donors not to be of their kind."""
        clean, donor, at = self.pairs.clean, self.sums, self.pairs.read_place
        toggled = clean.carry[:, at] != donor.carry[:, at]
        same = self.own == clean.answer_digits[:, at]
        other = (self.own != self.by_carry) & ~same
        above = clean.answer_digits[:, at + 1 :] == donor.answer_digits[:, at + 1 :]
        fits = {
            "cross": toggled & other, "same_answer": toggled & same, "same_carry": ~toggled & same,
        }  # fmt: skip
        if not (fits[self.kind].all() and above.all()):
            raise ValueError(f"{self.kind}: donors differ in more or less than they say")

    def __len__(self) -> int:
        """How many donors."""
        return len(self.sums)

    @property
    def own(self) -> Int[np.ndarray, "n"]:
        """The donor's digit."""
        return self.sums.answer_digits[:, self.pairs.read_place]

    @property
    def by_carry(self) -> Int[np.ndarray, "n"]:
        """The digit that the donor's carry makes of the clean column."""
        at = self.pairs.read_place
        return (self.pairs.clean.column_sums[:, at] + self.sums.carry[:, at]) % 10


def donors_of(pairs: Pairs, kind: Donor, rng: np.random.Generator) -> Donors:
    """A donor of a kind for each pair that has one; of pairs of the kinds `local` and `cascade`.

    Raises ValueError where the digit that is read has no column of its own.
    """
    at = pairs.read_place
    if pairs.kind not in ("local", "cascade") or at >= pairs.places:
        raise ValueError(f"{pairs.kind}: the digit at place {at} has no column for a donor")
    origin = (null_of(pairs, rng) if kind == "same_carry" else pairs).source
    allowed = _allowed(pairs, origin, kind)
    rows = np.flatnonzero(allowed.any(1))
    new = (rng.random((len(rows), 100)) * allowed[rows]).argmax(1)
    donors = with_column(origin[rows], at, np.stack([new // 10, new % 10], 1))
    return Donors(kind, pairs[rows], donors, rows)


def _allowed(pairs: Pairs, origin: Sums, kind: Donor) -> Bool[np.ndarray, "n new=100"]:
    """Which digits 10 a + b the column that is read may have in each donor."""
    at = pairs.read_place
    a, b = np.divmod(np.arange(100), 10)
    old = pairs.clean.column_sums[:, [at]]
    other = (a != pairs.clean.a_digits[:, [at]]) | (b != pairs.clean.b_digits[:, [at]])
    same_class = column_class(old) == column_class(a + b)
    digit = (a + b + origin.carry[:, [at]]) % 10
    same_digit = digit == pairs.clean.answer_digits[:, [at]]
    lowest = np.minimum(a, b) >= lowest_digit(at, pairs.places, pairs.padded)
    allowed = other & same_class & lowest
    if kind == "cross":
        return allowed & ~same_digit & ((a + b - old) % 10 != 0)
    return allowed & same_digit
