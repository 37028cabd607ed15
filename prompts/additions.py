"""Additions with their ground truth by integer arithmetic, and how a model writes them as tokens.

Words (SCIENCE 6): *place* is a decimal place, 0 the units; the column i of a + b sums to s_i and
is `K` (s <= 8, kills a carry), `P` (s = 9, passes it on) or `G` (s >= 10, makes one); `carry` c_i
enters column i; `run` r_i is the number of P columns just below i; the cell of the answer digit
at place i is (i, r_i, c_i). In shapes, `places` counts the digits of an addend and `answer` those
of the sum, one more.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

KILL, PASS, MAKE, ANY = range(4)
"""Classes of a column, as ordered in `_PAIRS`; ANY stands for all three."""

Order = Literal["msb", "lsb"]

Some = TypeVar("Some", bound="Sums")  # not Self, which the check of shapes at run time refuses

NUMBERS = ("a", "b", "c")
"""The items of a layout that stand for numbers: the addends and the answer."""


class Cell(NamedTuple):
    """Where an answer digit stands: its place, the run of nines below it, the carry into it."""

    place: int
    run: int
    carry: int


def cells(places: int, *, padded: bool = True) -> list[Cell]:
    """Every cell of the sum of two numbers of `places` digits.

    A run that reaches the units has nothing below it to make a carry, so carry 0 only. Unless
    `padded`, the digit above the addends is only written where it is 1.
    """
    every = [
        Cell(place, run, carry)
        for place in range(places + 1)
        for run in range(place + 1)
        for carry in ((0,) if run == place else (0, 1))
    ]
    return [cell for cell in every if padded or cell.place < places or cell.carry == 1]


@dataclass(frozen=True)
class Sums:
    """A batch of additions; everything else about them follows by integer arithmetic."""

    a: Int[np.ndarray, "n"]
    b: Int[np.ndarray, "n"]
    places: int

    def __post_init__(self) -> None:
        """Raise ValueError where an addend does not fit into `places` digits."""
        for addend in (self.a, self.b):
            if addend.size and not 0 <= addend.min() <= addend.max() < 10**self.places:
                raise ValueError(f"an addend does not fit into {self.places} digits")

    def __len__(self) -> int:
        """How many additions."""
        return len(self.a)

    def __getitem__(self: Some, rows: slice | np.ndarray) -> Some:
        """The additions at `rows` (a slice, a mask or indices)."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[rows] for k, v in arrays.items() if isinstance(v, np.ndarray)})

    def batches(self: Some, size: int) -> list[Some]:
        """The additions in order, `size` at a time."""
        return [self[start : start + size] for start in range(0, len(self), size)]

    @cached_property
    def a_digits(self) -> Int[np.ndarray, "n places"]:
        """Digits of the first addend, units first."""
        return digits_of(self.a, self.places)

    @cached_property
    def b_digits(self) -> Int[np.ndarray, "n places"]:
        """Digits of the second addend, units first."""
        return digits_of(self.b, self.places)

    @cached_property
    def column_sums(self) -> Int[np.ndarray, "n places"]:
        """s_i = a_i + b_i, without the carry."""
        return self.a_digits + self.b_digits

    @cached_property
    def classes(self) -> Int[np.ndarray, "n places"]:
        """KILL, PASS or MAKE for each column (the tri-state ST)."""
        return (self.column_sums >= 9).astype(np.int64) + (self.column_sums >= 10)

    @cached_property
    def carry(self) -> Int[np.ndarray, "n answer"]:
        """c_i, the carry into column i; the last is the answer's leading digit."""
        powers = 10 ** np.arange(self.places + 1, dtype=np.int64)
        below = self.a[:, None] % powers + self.b[:, None] % powers
        return (below >= powers).astype(np.int64)

    @cached_property
    def run(self) -> Int[np.ndarray, "n answer"]:
        """r_i, the number of consecutive columns just below i that sum to nine."""
        run = np.zeros((len(self), self.places + 1), dtype=np.int64)
        for place in range(self.places):
            passes = self.classes[:, place] == PASS
            run[:, place + 1] = np.where(passes, run[:, place] + 1, 0)
        return run

    @cached_property
    def answer(self) -> Int[np.ndarray, "n"]:
        """a + b."""
        return self.a + self.b

    @cached_property
    def answer_digits(self) -> Int[np.ndarray, "n answer"]:
        """A_i = (s_i + c_i) mod 10, units first; the last is c_n."""
        return digits_of(self.answer, self.places + 1)

    @cached_property
    def uncarried(self) -> Int[np.ndarray, "n answer"]:
        """What each answer digit would be if no carry came in: s_i mod 10, and 0 for the last."""
        return np.pad(self.column_sums % 10, ((0, 0), (0, 1)))

    @property
    def texts(self) -> list[str]:
        """The questions as people write them: `12+34=`."""
        return [f"{a}+{b}=" for a, b in zip(self.a, self.b, strict=True)]


@dataclass(frozen=True)
class CellSums(Sums):
    """Additions each drawn so that its answer digit at `place` lies in a chosen cell."""

    place: Int[np.ndarray, "n"]

    @property
    def cell(self) -> Int[np.ndarray, "n 3"]:
        """Place, run and carry of the digit that each addition was drawn for."""
        rows = np.arange(len(self))
        return np.stack([self.place, self.run[rows, self.place], self.carry[rows, self.place]], 1)


@dataclass(frozen=True)
class Addition:
    """`count` additions of two numbers of `places` digits, uniform.

    `padded` numbers may begin with zeros; others begin with 1 to 9.
    """

    places: int
    count: int
    seed: int
    padded: bool = True

    @cached_property
    def sums(self) -> Sums:
        """All of them."""
        classes = np.full((self.count, self.places), ANY)
        return draw(classes, np.random.default_rng(self.seed), padded=self.padded)

    def batches(self, size: int) -> list[Sums]:
        """All of them, `size` at a time; which additions are drawn does not depend on `size`."""
        return self.sums.batches(size)


@dataclass(frozen=True)
class Cells:
    """`per_cell` additions for every cell of an answer digit, since uniform ones miss long runs."""

    places: int
    per_cell: int
    seed: int
    padded: bool = True

    @cached_property
    def sums(self) -> CellSums:
        """All of them, cell after cell in the order of `cells`."""
        chosen = cells(self.places, padded=self.padded)
        classes = np.stack([cell_classes(cell, self.places) for cell in chosen])
        rng = np.random.default_rng(self.seed)
        drawn = draw(classes.repeat(self.per_cell, axis=0), rng, padded=self.padded)
        place = np.array([cell.place for cell in chosen]).repeat(self.per_cell)
        return CellSums(drawn.a, drawn.b, self.places, place)

    def batches(self, size: int) -> list[CellSums]:
        """All of them, `size` at a time; which additions are drawn does not depend on `size`."""
        return self.sums.batches(size)


def digits_of(numbers: Int[np.ndarray, "n"], places: int) -> Int[np.ndarray, "n {places}"]:
    """The lowest `places` decimal digits of each number, units first."""
    return numbers[:, None] // 10 ** np.arange(places, dtype=np.int64) % 10


def number_of(digits: Int[np.ndarray, "n places"]) -> Int[np.ndarray, "n"]:
    """The numbers that have these digits, units first."""
    return digits @ 10 ** np.arange(digits.shape[1], dtype=np.int64)


def cell_classes(cell: Cell, places: int) -> Int[np.ndarray, "{places}"]:
    """The classes of columns that put a digit into `cell`: free above and below, fixed between."""
    classes = np.full(places, ANY)
    decider = cell.place - cell.run - 1
    classes[decider + 1 : cell.place] = PASS
    if decider >= 0:
        classes[decider] = MAKE if cell.carry else KILL
    return classes


def _pairs(lowest_digit: int) -> Int[np.ndarray, "pair 2"]:
    """Pairs of digits >= `lowest_digit`, sorted by the class of their sum."""
    pairs = np.stack(np.meshgrid(*[np.arange(lowest_digit, 10)] * 2, indexing="ij"), -1)
    pairs = pairs.reshape(-1, 2)
    return pairs[np.argsort(pairs.sum(1), kind="stable")]


_PAIRS = {padded: _pairs(0 if padded else 1) for padded in (True, False)}


def draw(
    classes: Int[np.ndarray, "n places"], rng: np.random.Generator, *, padded: bool = True
) -> Sums:
    """Additions whose columns have the given classes, uniform among all that do."""
    columns = [
        _draw_column(column, rng, _PAIRS[padded or place < classes.shape[1] - 1])
        for place, column in enumerate(classes.T)
    ]
    digits = np.stack(columns)
    a, b = (number_of(digits[:, :, operand].T) for operand in (0, 1))
    return Sums(a, b, classes.shape[1])


def _draw_column(
    classes: Int[np.ndarray, "n"], rng: np.random.Generator, pairs: Int[np.ndarray, "pair 2"]
) -> Int[np.ndarray, "n 2"]:
    """One pair of digits for each class, uniform among the pairs of that class."""
    total = pairs.sum(1)
    size = np.array([(total <= 8).sum(), (total == 9).sum(), (total >= 10).sum(), len(pairs)])
    start = np.array([0, size[0], size[0] + size[1], 0])
    return pairs[start[classes] + rng.integers(size[classes])]


def every_pattern(places: int, per_pattern: int, seed: int) -> Sums:
    """`per_pattern` additions for each of the 3^places patterns of K, P and G columns."""
    patterns = digits_base(3, places).repeat(per_pattern, axis=0)
    return draw(patterns, np.random.default_rng(seed))


def digits_base(base: int, places: int) -> Int[np.ndarray, "{base}**{places} {places}"]:
    """Every row of `places` digits below `base`, in counting order."""
    return np.arange(base**places)[:, None] // base ** np.arange(places) % base


def repeated_pairs(places: int) -> Sums:
    """The same pair of digits in every column but one, which has any pair: 444444+555556."""
    usual, other, odd = (
        axis.ravel()
        for axis in np.meshgrid(np.arange(100), np.arange(100), np.arange(places), indexing="ij")
    )
    at_odd = np.arange(places) == odd[:, None]
    pair = np.where(at_odd, other[:, None], usual[:, None])
    return Sums(number_of(pair // 10), number_of(pair % 10), places)


def edge_cases(places: int) -> Sums:
    """Every pair of 0, 1, and the numbers near powers of ten, their multiples and repdigits."""
    powers = 10 ** np.arange(places + 1, dtype=np.int64)
    near = (powers[:, None] * np.arange(1, 10)).ravel()[:, None] + np.array([-1, 0, 1])
    repeated = (powers - 1) // 9 * np.arange(1, 10)[:, None]
    numbers = np.unique(np.concatenate([near.ravel(), repeated.ravel(), [0, 1]]))
    numbers = numbers[numbers < 10**places]
    a, b = (axis.ravel() for axis in np.meshgrid(numbers, numbers, indexing="ij"))
    return Sums(a, b, places)


@dataclass(frozen=True)
class Written:
    """Additions as tokens, answers included, and where each answer digit stands."""

    tokens: Int[np.ndarray, "n pos"]
    """Shorter rows are filled up on the right, which a causal model does not see."""
    at: Int[np.ndarray, "n answer"]
    """Pos of the answer digit of each place, -1 where that digit is not written."""
    prompt: Int[np.ndarray, "n"]
    """Pos of the first token of the answer."""

    @property
    def written(self) -> Bool[np.ndarray, "n answer"]:
        """Which answer digits are written at all."""
        return self.at >= 0


class AdditionFormat(BaseModel):
    """How a model writes an addition: a card's `[arithmetic]` table."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    digits: int = Field(ge=1, le=17)
    """Digits of each addend."""
    pad: bool = True
    """Zeros in front: addends have `digits` digits, the answer one more."""
    operands: Order = "msb"
    """Digit of an addend that is written first: the highest (msb) or the units (lsb)."""
    answer: Order = "msb"
    """Digit of the answer that is written first."""
    layout: tuple[str, ...] = ("a", "+", "b", "=", "c")
    """The sequence: a, b, c stand for addends and answer, the rest are keys of `vocabulary`."""
    vocabulary: dict[str, Annotated[int, Field(ge=0, lt=2**24)]]
    """Token id of each digit and of each sign in `layout`."""

    @model_validator(mode="after")
    def _complete(self) -> "AdditionFormat":
        """Refuse a layout without its three numbers, and signs and digits without an id."""
        numbers = [item for item in self.layout if item in NUMBERS]
        if sorted(numbers) != sorted(NUMBERS) or numbers[-1] != "c":
            raise ValueError("layout: needs a, b and c once each, c as the last of them")
        needed = [*map(str, range(10)), *(item for item in self.layout if item not in NUMBERS)]
        if missing := [item for item in needed if item not in self.vocabulary]:
            raise ValueError(f"vocabulary: no id for {', '.join(map(repr, missing))}")
        return self

    @property
    def digit_ids(self) -> Int[np.ndarray, "10"]:
        """Token ids of the digits 0 to 9."""
        return np.array([self.vocabulary[str(digit)] for digit in range(10)])

    def tokens(self, a: Int[np.ndarray, "n"], b: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n pos"]:
        """Token ids of the additions, answers included (raises ValueError unless `pad`)."""
        self._require_pad()
        return self.write(Sums(np.asarray(a), np.asarray(b), self.digits)).tokens

    def read_at(self, place: int) -> int:
        """The pos whose logits predict the answer digit at `place`."""
        return self._digit_at("c", place) - 1

    def operand_at(self, name: Literal["a", "b"], place: int) -> int:
        """The pos of the digit of addend `name` at `place`."""
        return self._digit_at(name, place)

    def write(self, sums: Sums) -> Written:
        """The additions as tokens, where each answer digit stands, and where the answers begin."""
        parts = [self._part(item, sums) for item in self.layout]
        width = np.concatenate([(part >= 0) for part in parts], axis=1).sum(1)
        rows = np.concatenate(parts, axis=1)
        kept = np.argsort(rows < 0, axis=1, kind="stable")[:, : width.max(initial=0)]
        tokens = np.maximum(np.take_along_axis(rows, kept, axis=1), 0)
        at, prompt = self._answer_at(sums, width)
        return Written(tokens, at, prompt)

    def _part(self, item: str, sums: Sums) -> Int[np.ndarray, "n width"]:
        """Token ids of one item of the layout, -1 for digits that are not written."""
        if item not in NUMBERS:
            return np.full((len(sums), 1), self.vocabulary[item])
        digits = {"a": sums.a_digits, "b": sums.b_digits, "c": sums.answer_digits}[item]
        ids = np.where(self._is_written(digits), self.digit_ids[digits], -1)
        order = self.answer if item == "c" else self.operands
        return ids[:, ::-1] if order == "msb" else ids

    def _is_written(self, digits: Int[np.ndarray, "n w"]) -> Bool[np.ndarray, "n w"]:
        """All digits where numbers are padded, else those that are no leading zeros."""
        if self.pad:
            return np.ones_like(digits, dtype=bool)
        above = np.cumsum(digits[:, ::-1], axis=1)[:, ::-1] > 0
        above[:, 0] = True
        return above

    def _answer_at(
        self, sums: Sums, width: Int[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "n answer"], Int[np.ndarray, "n"]]:
        """Pos of each answer digit (-1: not written), and of the answer's first token."""
        is_written = self._is_written(sums.answer_digits)
        length = is_written.sum(1)
        place = np.arange(sums.places + 1)
        rank = length[:, None] - 1 - place if self.answer == "msb" else place
        start = width - (len(self.layout) - 1 - self.layout.index("c")) - length
        return np.where(is_written, start[:, None] + rank, -1), start

    def _digit_at(self, name: str, place: int) -> int:
        """Pos of a digit where all numbers have the same width (raises ValueError unless `pad`)."""
        self._require_pad()
        width = {"a": self.digits, "b": self.digits, "c": self.digits + 1}
        if not 0 <= place < width[name]:
            raise ValueError(f"{name} has no digit at place {place}")
        start = sum(width.get(item, 1) for item in self.layout[: self.layout.index(name)])
        order = self.answer if name == "c" else self.operands
        return start + (width[name] - 1 - place if order == "msb" else place)

    def _require_pad(self) -> None:
        if not self.pad:
            raise ValueError("numbers of different widths have no fixed positions: use write()")
