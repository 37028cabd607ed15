"""Answers marked against the ground truth: accuracy by cell, kinds of errors, the weakest cell.

A cell is (place, run, carry): the digit's decimal place, how many columns just below it sum to
nine, and the carry into it (SCIENCE 6).
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import special

from lenses.addition.answers import answered
from lenses.addition.emergence import CELL
from lenses.kept import PerPrompt
from lenses.statistics.accuracy import accuracy_of, with_accuracy
from lenses.statistics.intervals import Estimate, luck_as_far, wilson
from models import Model
from prompts.additions import AdditionFormat, Sums

SOLVED = 0.95
"""A cell counts as solved where the Wilson lower bound of its accuracy reaches this (SCIENCE 6)."""

Prefix = Literal["given", "generated"]
"""What stands before a digit: the right digits, or those that the model itself wrote."""


class Marked:
    """What a model said, marked against the ground truth."""

    def __init__(self, style: AdditionFormat, sums: Sums, said: PerPrompt) -> None:
        self.sums, self.said, self.padded = sums, said, style.pad
        self.written = style.write(sums).written
        self.right = {
            prefix: said[prefix] == sums.answer_digits for prefix in ("given", "generated")
        }
        all_right = (self.right["generated"] | ~self.written).all(1)
        self.whole = all_right & (said["ends"] | style.pad)


def ask(
    model: Model,
    style: AdditionFormat,
    sums: Sums,
    batch_size: int,
    stream: Callable[..., Iterator[Any]],
    label: str,
) -> Marked:
    """What the model says to each question, read in batches through `Experiment.stream`."""
    said = PerPrompt()
    for batch in stream(sums.batches(batch_size), said, label):
        given, generated, ends = answered(model, style, batch)
        said.update(given=given, generated=generated, ends=ends)
    return Marked(style, sums, said)


def by_cell(marked: Marked, prefix: Prefix) -> pd.DataFrame:
    """Accuracy of the digit that each question was drawn for, by cell."""
    rows = np.arange(len(marked.sums))
    frame = pd.DataFrame(marked.sums.cell, columns=CELL)
    frame["right"] = marked.right[prefix][rows, marked.sums.place]
    return accuracy_of(frame, CELL)


def by_place(marked: Marked) -> pd.DataFrame:
    """Accuracy of the digits of uniform questions, by what stands before them and by place."""
    row, place = np.nonzero(marked.written)
    parts = [
        pd.DataFrame({"prefix": prefix, "place": place, "right": right[row, place]})
        for prefix, right in marked.right.items()
    ]
    return accuracy_of(pd.concat(parts), ["prefix", "place"])


def whole_answers(marked: Marked) -> pd.DataFrame:
    """How many whole answers are right, beside the share that a sum without carries gets right."""
    counts = pd.DataFrame({"n": [len(marked.whole)], "correct": [int(marked.whole.sum())]})
    without = (marked.sums.uncarried == marked.sums.answer_digits).all(1).mean()
    return with_accuracy(counts).assign(without_carries=without)


def error_kinds(marked: Marked) -> pd.DataFrame:
    """Wrong digits of the cells by prefix, place and kind, as a share of the `n` asked there.

    With s the column's sum and c the carry into it, so that s + c mod 10 is right: `carry lost`
    says s mod 10 where c = 1, `carry invented` says s + 1 mod 10 where c = 0, `other` is the rest.
    (The digit above the addends has s = 0.)
    """
    sums, rows = marked.sums, np.arange(len(marked.sums))
    plain, carry = (values[rows, sums.place] for values in (sums.uncarried, sums.carry))
    parts = []
    for prefix in ("given", "generated"):
        said = marked.said[prefix][rows, sums.place]
        toggled = said == (plain + 1 - carry) % 10
        kind = np.select(
            [toggled & (carry == 1), toggled], ["carry lost", "carry invented"], "other"
        )
        right = marked.right[prefix][rows, sums.place]
        parts.append(_count_kinds(prefix, sums.place, np.where(right, "right", kind)))
    return pd.concat(parts, ignore_index=True)


def _count_kinds(prefix: Prefix, place: Int[np.ndarray, "n"], kind: np.ndarray) -> pd.DataFrame:
    """Every kind at every place, also those that do not occur."""
    counts = pd.crosstab(place, kind).rename_axis("place").rename_axis("kind", axis=1)
    n = counts.sum(axis=1)
    kinds = counts.reindex(columns=["carry lost", "carry invented", "other"], fill_value=0)
    table = kinds.stack().rename("errors").reset_index()
    table.insert(0, "prefix", prefix)
    table["n"] = n.loc[table["place"]].to_numpy()
    low, high = wilson(table["errors"].to_numpy(), table["n"].to_numpy())
    return table.assign(share=table["errors"] / table["n"], low=low, high=high)


def either_way(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of the places to which a carry may come or not; the units have none.

    Unpadded, the digit above the addends is only written where it is 1: to say 1 always would be
    right there, and shows nothing.
    """
    kinds = cells.groupby("place")["carry"].transform("nunique")
    return cells[kinds == 2]


def look_ahead(cells: pd.DataFrame) -> pd.DataFrame:
    """How many nines below a digit the model sees through, by place (SCIENCE 6).

    The largest R such that every cell with run <= R and run < place is solved; -1 if not even
    run 0 is. `at_most` is the same for cells that may yet be solved (Wilson upper bound), so that
    few questions widen the range and do not lower it. `longest` is the largest that the place
    allows. The units have nothing below them.
    """
    rows = []
    for place, group in either_way(cells).query("run < place").groupby("place"):
        reached = [
            int((group[end] >= SOLVED).groupby(group["run"]).all().cumprod().sum()) - 1
            for end in ("low", "high")
        ]
        rows.append((place, *reached, int(group["run"].max())))
    return pd.DataFrame(rows, columns=["place", "look_ahead", "at_most", "longest"])


def mistakes(marked: Marked, sample: str) -> pd.DataFrame:
    """The wrong answers a model wrote; `_` is no digit, `...` a digit where it should end."""
    wrong = np.flatnonzero(~marked.whole)
    digits = np.where(marked.said["generated"] < 0, "_", marked.said["generated"].astype(str))
    more = np.where(marked.said["ends"] | marked.padded, "", "...")
    texts = ["".join(digits[row, marked.written[row]][::-1]) + more[row] for row in wrong]
    sums = marked.sums[wrong]
    columns = {"prompt": wrong, "a": sums.a, "b": sums.b, "answer": sums.answer}
    return pd.DataFrame({"sample": sample, **columns, "said": texts})


def at_most(cells: pd.DataFrame) -> pd.Series:
    """Upper ends of the accuracy of every cell, one-sided, corrected for their number (Bonferroni).

    Exact (Clopper & Pearson 1934, Biometrika 26): a Wilson interval is too narrow where it must be
    this sure, so that one wrong answer to one question of each cell would seem to tell something.
    """
    correct, wrong = cells["correct"].to_numpy(), (cells["n"] - cells["correct"]).to_numpy()
    high = special.betaincinv(correct + 1, np.maximum(wrong, 1), 1 - 0.05 / len(cells))
    return pd.Series(np.where(wrong > 0, high, 1.0), cells.index)


class WeakSpot(NamedTuple):
    """The cell that lies furthest below what its place is on average."""

    cell: pd.Series
    """Its row."""
    gap: Estimate
    """Accuracy at its place minus accuracy in it, with p of the largest gap by chance."""
    null: float
    """The mean of the largest gap where all cells of a place are alike."""


def weak_spot(digits: pd.DataFrame, cells: pd.DataFrame, seed: int) -> WeakSpot | None:
    """The worst cell beside the uniform `digits` of its place; both have accuracies.

    The interval is Newcombe's for the difference in that cell; p is of the worst among as many.
    None where no cell has an accuracy.
    """
    both = cells.merge(digits, on="place", suffixes=("", "_uniform"))
    shortfall = both["accuracy_uniform"] - both["accuracy"]
    if shortfall.isna().all():
        return None
    worst = both.loc[shortfall.idxmax()]
    null = _shortfall_by_chance(both, seed)
    gap = float(shortfall.max())
    p = float(luck_as_far(gap, null))
    return WeakSpot(worst, Estimate(gap, *_newcombe(worst), int(worst["n"]), p), float(null.mean()))


def _shortfall_by_chance(both: pd.DataFrame, seed: int) -> Float[np.ndarray, "draw"]:
    """10,000 draws of the largest shortfall if cells and uniform digits of a place were alike."""
    rng, largest = np.random.default_rng(seed), np.full(10_000, -np.inf)
    for _, cells in both.groupby("place"):
        uniform, n = cells.iloc[0], cells["n"].to_numpy()
        right = cells["correct"].sum() + uniform["correct_uniform"]
        rate = (right + 0.5) / (n.sum() + uniform["n_uniform"] + 1)
        among_uniform = rng.binomial(int(uniform["n_uniform"]), rate, (10_000, 1))
        among_cells = rng.binomial(n, rate, (10_000, len(n)))
        shortfall = among_uniform / uniform["n_uniform"] - among_cells / n
        largest = np.maximum(largest, shortfall.max(axis=1))
    return largest


def _newcombe(worst: pd.Series) -> tuple[float, float]:
    """Ends of the 95 % interval of uniform minus cell accuracy (Newcombe 1998, method 10)."""
    gap = worst["accuracy_uniform"] - worst["accuracy"]
    below = np.hypot(
        worst["accuracy_uniform"] - worst["low_uniform"], worst["high"] - worst["accuracy"]
    )
    above = np.hypot(
        worst["high_uniform"] - worst["accuracy_uniform"], worst["accuracy"] - worst["low"]
    )
    return float(gap - below), float(gap + above)
