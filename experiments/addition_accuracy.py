"""Which additions does the model get right?"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from pydantic import Field

from experiments import Claim, Experiment, Results
from lenses.statistics.intervals import wilson
from prompts.additions import Addition, AdditionFormat, Cells, Sums

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

SOLVED = 0.95
"""A cell counts as solved where the Wilson lower bound of its accuracy reaches this (SCIENCE 6)."""

LIKE = 0.05
"""Accuracies that differ by less are taken for alike."""

CELL = ["place", "run", "carry"]


class AdditionAccuracy(Experiment):
    """Accuracy of each answer digit, by what must be carried into it and over how many nines.

    A cell is (place, run, carry): the digit's decimal place, how many columns just below it sum
    to nine, and the carry into it. Uniform questions hardly ever hold long runs, so each cell is
    sampled. An adder is asked in its own format; a language model is shown solved additions
    first, numbers begin with no zero, and each digit must be one token.

    Tables: `cells` (place, run, carry, n, correct, accuracy, low, high: the digit at `place` after
    the right digits), `cells_generated` (after the model's own digits), `look_ahead` (place,
    look_ahead, at_most, longest), `digits` (uniform questions, by place and by prefix: given or
    generated),
    `answers` (whole answers to uniform questions, and how many a column-wise sum without carries
    gets), `errors` (digits of the cells that are wrong, by prefix, place and kind), `mistakes`
    (every wrong answer the model wrote).
    """

    batch_size: int = Field(128, ge=1)
    """Questions in one forward pass."""
    places: int | None = Field(None, ge=2, le=17)
    """Digits of each addend; an adder has its own, a language model 2 unless told otherwise."""
    per_cell: int = Field(80, ge=1)
    """Questions for each cell; 73 right ones are the fewest that show a cell to be solved."""
    uniform: int = Field(300, ge=1)
    """Questions drawn uniformly."""
    examples: int = Field(1, ge=0)
    """Solved additions that a language model is shown before each question."""

    def measure(self, model: "Model") -> Results:
        """What the model says at every answer digit, after the right prefix and after its own."""
        from lenses.addition.answers import addition_format, answered

        style = addition_format(model, self.places, self.examples, self.seed)
        how = {"places": style.digits, "seed": self.seed, "padded": style.pad}
        samples = {
            "cells": Cells(per_cell=self.per_cell, **how).sums,
            "uniform": Addition(count=self.uniform, **how).sums,
        }
        said = {name: Said(style.digits) for name in samples}
        for name, sums in samples.items():
            for batch in self.stream(sums.batches(self.batch_size), said[name], f"{name}"):
                said[name].update(*answered(model, style, batch))
        cells, uniform = (Marked(style, samples[name], said[name]) for name in samples)
        tables = {
            "cells": by_cell(cells, "given"),
            "cells_generated": by_cell(cells, "generated"),
            "digits": by_place(uniform),
            "answers": whole_answers(uniform),
            "errors": error_kinds(cells),
            "mistakes": pd.concat([mistakes(cells, "cells"), mistakes(uniform, "uniform")]),
        }
        tables["mistakes"] = tables["mistakes"].reset_index(drop=True)
        return Results(tables | {"look_ahead": look_ahead(tables["cells"])})

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """Accuracy by cell and by digit, look-ahead, and kinds of errors."""
        from viz import bars, cell_grid

        tables = results.tables
        return {
            "Accuracy by cell": cell_grid(tables["cells"], caption=CELLS_CAPTION),
            "Accuracy by cell, on its own": cell_grid(
                tables["cells_generated"], caption=GENERATED_CAPTION
            ),
            "Accuracy by digit": bars(
                tables["digits"], "place", "accuracy", series="prefix", caption=DIGITS_CAPTION
            ),
            "Kinds of errors": bars(
                tables["errors"].query("prefix == 'given'"),
                "place",
                "share",
                series="kind",
                caption=ERRORS_CAPTION,
            ),
        }

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, is every cell solved, do carries cross nines, does a uniform sample lie?"""
        cells = results.tables["cells"]
        over_nines = either_way(cells).query("run >= 1")
        return [
            _adds(results.tables["answers"].iloc[0]),
            _every_cell_is_solved(cells),
            _pooled(CROSS, over_nines.query("carry == 1")),
            _pooled(STOP, over_nines.query("carry == 0")),
            _uniform_hides(results.tables["digits"].query("prefix == 'given'"), cells, self.seed),
        ]

    def planted(self) -> "Model":
        """The exact adder, made to say the right digits whatever its weights compute."""
        from models import load

        return saying(load("adder_6d_2l"), lambda sums: sums.answer_digits)


CELLS_CAPTION = (
    "Accuracy of the answer digit at each place after the right digits before it, by how many "
    "columns just below it sum to nine (run) and whether a carry comes in. A model that looks "
    "only so far ahead is right on short runs and fails beyond."
)
GENERATED_CAPTION = (
    "The same digits after what the model itself wrote before them: an early mistake is passed on."
)
DIGITS_CAPTION = (
    "Accuracy by decimal place on uniform questions, where long runs hardly occur: a model may be "
    "near 1 everywhere here and yet fail some of the cells above."
)
ERRORS_CAPTION = (
    "Share of the cells' digits that are wrong, by kind: a carry lost (the digit is what the "
    "column gives without it), a carry invented (one more than it should be), or anything else. "
    "By decimal place, after the right digits."
)
CROSS = "Carries cross nines: digits that a carry reaches over one or more nines are right."
STOP = "Nines alone bring no carry: digits above one or more nines that none reaches are right."

Prefix = Literal["given", "generated"]


class Said:
    """The digit a model says at each place of each answer, -1 where it says something else."""

    def __init__(self, places: int) -> None:
        nothing = np.zeros((0, places + 1), dtype=np.int64)
        self._parts = {"given": nothing, "generated": nothing, "ends": np.zeros(0, dtype=bool)}

    def update(
        self,
        given: Int[np.ndarray, "batch answer"],
        generated: Int[np.ndarray, "batch answer"],
        ends: Bool[np.ndarray, "batch"],
    ) -> None:
        """Add a batch: digits after the right prefix, after its own, and whether it then ends."""
        new = {"given": given, "generated": generated, "ends": ends}
        self._parts = {k: np.concatenate([v, new[k]]) for k, v in self._parts.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        """`given`, `generated` or `ends`, for all batches so far."""
        return self._parts[name]

    def state(self) -> dict[str, np.ndarray]:
        """All of it."""
        return dict(self._parts)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._parts = dict(state)


class Marked:
    """What a model said, marked against the ground truth."""

    def __init__(self, style: AdditionFormat, sums: Sums, said: Said) -> None:
        self.sums, self.said, self.padded = sums, said, style.pad
        self.written = style.write(sums).written
        self.right = {
            prefix: said[prefix] == sums.answer_digits for prefix in ("given", "generated")
        }
        all_right = (self.right["generated"] | ~self.written).all(1)
        self.whole = all_right & (said["ends"] | style.pad)


def by_cell(marked: Marked, prefix: Prefix) -> pd.DataFrame:
    """Accuracy of the digit that each question was drawn for, by cell."""
    rows = np.arange(len(marked.sums))
    frame = pd.DataFrame(marked.sums.cell, columns=CELL)
    frame["right"] = marked.right[prefix][rows, marked.sums.place]
    return accuracy(frame, CELL)


def by_place(marked: Marked) -> pd.DataFrame:
    """Accuracy of the digits of uniform questions, by what stands before them and by place."""
    row, place = np.nonzero(marked.written)
    parts = [
        pd.DataFrame({"prefix": prefix, "place": place, "right": right[row, place]})
        for prefix, right in marked.right.items()
    ]
    return accuracy(pd.concat(parts), ["prefix", "place"])


def accuracy(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Share of `right` rows in each group, with its Wilson interval."""
    grouped = frame.groupby(by)["right"]
    return with_interval(grouped.agg(n="size", correct="sum").reset_index())


def with_interval(counts: pd.DataFrame) -> pd.DataFrame:
    """`correct` of `n` as accuracy, low and high (Wilson)."""
    low, high = wilson(counts["correct"].to_numpy(), counts["n"].to_numpy())
    return counts.assign(accuracy=counts["correct"] / counts["n"], low=low, high=high)


def whole_answers(marked: Marked) -> pd.DataFrame:
    """How many whole answers are right, beside the share that a sum without carries gets right."""
    counts = pd.DataFrame({"n": [len(marked.whole)], "correct": [int(marked.whole.sum())]})
    without = (marked.sums.uncarried == marked.sums.answer_digits).all(1).mean()
    return with_interval(counts).assign(without_carries=without)


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


def saying(model: "Model", digits: Callable[[Sums], Int[np.ndarray, "n answer"]]) -> "Model":
    """An adder made to say `digits` of the questions it reads, by hooks that stay.

    What it reads is seen at its embedding; what it says is written over its logits.
    """
    style, seen = model.card.arithmetic, {}
    model.embed.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))

    def overwrite(_module, _inputs, logits):
        import torch

        said = torch.from_numpy(style.digit_ids[digits(_read(style, seen["tokens"]))])
        for place in range(style.digits + 1):
            logits[:, style.read_at(place)].fill_(0).scatter_(1, said[:, place, None], 1)
        return logits

    model.unembed.register_forward_hook(overwrite)
    return model


def _read(style: AdditionFormat, tokens) -> Sums:
    """The questions that stand in an adder's tokens."""
    value = {token: digit for digit, token in enumerate(style.digit_ids.tolist())}
    a, b = (
        sum(
            np.array([value[t] for t in tokens[:, style.operand_at(name, place)].tolist()])
            * 10**place
            for place in range(style.digits)
        )
        for name in ("a", "b")
    )
    return Sums(a, b, style.digits)


def _needed(estimate: float, threshold: float) -> int:
    """Questions after which a 95 % interval around `estimate` no longer holds `threshold`."""
    spread = max(estimate * (1 - estimate), threshold * (1 - threshold))
    return int(np.ceil(3.84 * spread / max(abs(estimate - threshold), 0.005) ** 2))


def _claim(sentence: str, row: pd.Series, threshold: float, option: str, **fields) -> Claim:
    """A learned claim that an accuracy exceeds a threshold."""
    verdict = Claim.judge(row["low"], row["high"], threshold)
    need = _needed(row["accuracy"], threshold)
    decide = f"about {need} questions ({option})" if verdict == "undecided" else ""
    return Claim(
        kind="learned",
        sentence=sentence,
        estimate=row["accuracy"],
        low=row["low"],
        high=row["high"],
        n=int(row["n"]),
        null=threshold,
        verdict=verdict,
        decide=decide,
        **fields,
    )


def _adds(answers: pd.Series) -> Claim:
    """More whole answers are right than a sum without carries would get."""
    return _claim(
        "It adds: more uniform questions are answered right than by adding without carries.",
        answers,
        float(answers["without_carries"]),
        "--uniform",
        null_note="share of these questions that need no carry",
    )


def _every_cell_is_solved(cells: pd.DataFrame) -> Claim:
    """The worst cell is solved; it fails where that is beyond luck among so many cells."""
    worst = cells.loc[cells["low"].idxmin()].copy()
    if worst["high"] < SOLVED:
        worst["high"] = wilson(worst["correct"], worst["n"], 1 - 0.05 / len(cells))[1]
    where = f"place {worst['place']:.0f}, run {worst['run']:.0f}, carry {worst['carry']:.0f}"
    return _claim(
        "Every cell is solved.",
        worst,
        SOLVED,
        "--per-cell",
        null_note=f"least accuracy of a solved cell; the estimate is of the worst: {where}",
    )


def _pooled(sentence: str, cells: pd.DataFrame) -> Claim:
    """The digits of several cells, taken together, are right; undecided without any."""
    if cells.empty:
        return Claim(
            kind="learned",
            sentence=sentence,
            estimate=0,
            low=0,
            high=1,
            n=0,
            verdict="undecided",
            decide="sums so short have no such digit: --places 3",
        )
    total = with_interval(cells[["n", "correct"]].sum().to_frame().T).iloc[0]
    return _claim(
        sentence, total, SOLVED, "--per-cell", null_note="least accuracy to count as right"
    )


def _uniform_hides(digits: pd.DataFrame, cells: pd.DataFrame, seed: int) -> Claim:
    """The worst cell lies further below its place's uniform accuracy than chance would put it.

    The interval is Newcombe's for the difference in that cell.
    """
    both = cells.merge(digits, on="place", suffixes=("", "_uniform"))
    shortfall = both["accuracy_uniform"] - both["accuracy"]
    worst = both.loc[shortfall.idxmax()]
    null = _shortfall_by_chance(both, seed)
    gap = float(shortfall.max())
    below, above = _newcombe(worst)
    p = float((1 + (null >= gap).sum()) / (1 + len(null)))
    holds = p <= 0.05 and below > 0
    verdict = "holds" if holds else "fails" if above <= LIKE else "undecided"
    return Claim(
        kind="mechanical",
        sentence="Uniform accuracy hides a cell that is worse than the rest of its place.",
        estimate=gap,
        low=below,
        high=above,
        n=int(worst["n"]),
        p=p,
        null=float(null.mean()),
        null_note="the worst of as many cells that are all alike (random weights: not measured)",
        verdict=verdict,
        decide="more questions in each cell (--per-cell)" if verdict == "undecided" else "",
    )


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
