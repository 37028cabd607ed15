"""Which additions does the model get right?"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table
from lenses.addition.answers import answered
from lenses.addition.emergence import CELL, with_accuracy
from lenses.addition.forms import (
    CHOSEN_ON,
    addition_format,
    chosen_form,
    form_rows,
    forms_of,
    right_by_form,
    style_of,
    unused,
)
from lenses.kept import PerPrompt
from lenses.statistics.intervals import bootstrap, luck_as_far, share, wilson
from models import load
from prompts.additions import Addition, AdditionFormat, Cells, Sums
from viz import Drawing, bars, cell_grid

if TYPE_CHECKING:
    from models import Model

SOLVED = 0.95
"""A cell counts as solved where the Wilson lower bound of its accuracy reaches this (SCIENCE 6)."""
FEWEST = 5
"""Questions of which an interval is drawn."""
LIKE = 0.05
"""Accuracies that differ by less are taken for alike."""
SHARES = "n correct accuracy low high"
PREFIX = {"given": "after the right digits", "generated": "after its own digits"}
"""What stands before a digit, as tables say it and in words."""
PREFIXES = "what stands before the digit: `given` the right digits, `generated` the model's own"
SAMPLE = "`cells` for questions drawn by cell, `uniform` for those drawn uniformly"

Prefix = Literal["given", "generated"]


class AdditionAccuracy(Experiment):
    """Accuracy of each answer digit, by what must be carried into it and over how many nines.

    A *cell* is (place, run, carry): the digit's decimal place, how many columns just below it sum
    to nine, and the carry into it. Uniform questions hardly ever hold long runs, so each cell is
    sampled. An adder is asked in its own format. A language model is asked in the form that answers
    most of some other sums: bare, after solved ones, as in an interpreter, in a conversation, with
    a space, a new line or nothing before the answer. All forms are then measured on the same sums;
    the rest is about the chosen one. Numbers begin with no zero, each digit must be one token, and
    no sum that chose the form, or was shown, is measured. Every digit is read twice: after the
    right digits, and after those that the model itself wrote.
    """

    runs_on: ClassVar[str] = "adder 10 s, language model 5 to 20 min"
    batch_size: int = Field(128, ge=1)
    """Questions in one forward pass."""
    places: int | None = Field(None, ge=2, le=17)
    """Digits of each addend; an adder has its own, a language model 2 unless told otherwise."""
    per_cell: int = Field(80, ge=1)
    """Questions for each cell; 73 right ones are the fewest that show a cell to be solved."""
    uniform: int = Field(300, ge=1)
    """Questions drawn uniformly."""
    examples: int = Field(1, ge=0)
    """Solved additions that a language model is shown before each question in some forms."""
    per_form: int = Field(60, ge=1)
    """Uniform questions that a language model is asked in every form."""

    tables: ClassVar[Mapping[str, Table]] = {
        "cells": Table(
            "A row is a cell; its digit is read after the right digits.",
            key="place run carry",
            more=SHARES,
        ),
        "cells_generated": Table(
            "A row is a cell; its digit is read after the digits that the model itself wrote.",
            key="place run carry",
            more=SHARES,
        ),
        "look_ahead": Table(
            "A row is a decimal place with the runs of nines that the model sees through.",
            key="place",
            columns={
                "look_ahead": "longest run up to which every cell is solved; -1 if none is",
                "at_most": "longest run up to which every cell may yet turn out to be solved",
                "longest": "longest run that the place allows",
            },
        ),
        "digits": Table(
            "A row is a decimal place in uniform questions.",
            key="prefix place",
            columns={"prefix": PREFIXES},
            more=SHARES,
        ),
        "answers": Table(
            "The one row is about whole answers to uniform questions.",
            more=f"{SHARES} without_carries",
        ),
        "errors": Table(
            "A row is a kind of wrong digit at a decimal place, in questions drawn by cell.",
            key="prefix place kind",
            columns={
                "prefix": PREFIXES,
                "kind": "`carry lost`, `carry invented` or `other`",
                "errors": "how many digits are wrong in this way",
                "share": "share of the n digits that are wrong in this way",
            },
            more="n low high",
        ),
        "forms": Table(
            "A row is a form of the question on a sample of whole sums; empty for an adder.",
            key="form sample",
            columns={
                "form": "how the sum is asked for",
                "sample": "`choice`: the sums that chose the form; `measured`: other sums",
                "prompt": "the question of 12 + 34 in this form",
                "chosen": "whether all other tables are about this form",
            },
            more=SHARES,
        ),
        "form_lead": Table(
            "The one row is the lead of the chosen form over the bare one, on the same sums.",
            columns={"estimate": "share of sums right in the chosen form, minus that in the bare"},
            more="low high n",
        ),
        "mistakes": Table(
            "A row is a wrong answer that the model wrote.",
            key="sample prompt",
            columns={
                "sample": SAMPLE,
                "a": "first addend",
                "b": "second addend",
                "answer": "the right sum",
                "said": "what the model wrote; `_` is no digit, `...` a digit too many",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="No: answers are read, and nothing inside the model is changed.",
        assumes="The sampled questions stand for their cell, and the form of the question is one "
        "that the model can read.",
        stressed="Every cell has its own sample, and the worst cell is compared with the worst of "
        "as many cells that are all alike; a language model is asked in several forms, and one is "
        "chosen on sums that are not measured.",
        not_shown="How the model adds. High accuracy on uniform questions says nothing about long "
        "runs of nines, which hardly occur there.",
    )

    def measure(self, model: "Model") -> Results:
        """What the model says at every answer digit, after the right prefix and after its own."""
        style, forms = self._asked(model)
        how = {"places": style.digits, "seed": self.seed, "padded": style.pad}
        samples = {
            "cells": Cells(per_cell=self.per_cell, **how).sums,
            "uniform": Addition(count=self.uniform, **how).sums,
        }
        if model.card.arithmetic is None:
            samples = {k: v[unused(v, self.seed, self.examples)] for k, v in samples.items()}
        said = {name: PerPrompt() for name in samples}
        for name, sums in samples.items():
            for batch in self.stream(sums.batches(self.batch_size), said[name], name):
                given, generated, ends = answered(model, style, batch)
                said[name].update(given=given, generated=generated, ends=ends)
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
        return Results(tables | forms | {"look_ahead": look_ahead(tables["cells"])})

    def _asked(self, model: "Model") -> tuple[AdditionFormat, dict[str, pd.DataFrame]]:
        """How the model is asked, and of a language model how many sums are right in each form."""
        if model.card.arithmetic is not None:
            none = {"forms": pd.DataFrame(), "form_lead": pd.DataFrame()}
            return addition_format(model, self.places), none
        places = self.places or 2
        forms = forms_of(model, places, self.seed, self.examples)
        chosen, tried = chosen_form(model, forms, places, self.seed, self.examples, self.stream)
        sums = Addition(places, self.per_form, self.seed, padded=False).sums
        sums = sums[unused(sums, self.seed, self.examples)]
        right = right_by_form(model, forms, sums, self.stream, "every form")
        names = [form.name for form in forms]
        lead = right[forms.index(chosen)].astype(float) - right[names.index("bare")]
        found = bootstrap(lead[:, None], self.seed) if len(lead) >= FEWEST else None
        tables = {
            "forms": pd.concat([tried, form_rows(forms, chosen, right, "measured")]),
            "form_lead": pd.DataFrame(vars(found) if found else {}),
        }
        tables["forms"] = tables["forms"].reset_index(drop=True)
        return style_of(model, chosen, places), tables

    def headline(self, results: Results) -> str:
        """How many sums are right, and where the model is weakest."""
        cells, whole = results.tables["cells"], results.tables["answers"].iloc[0]
        text = f"The model answers {whole['correct']:.0f} of {whole['n']:.0f} random sums correctly"
        text += _in_form(results.tables["forms"])
        worst, failing = cells.loc[cells["low"].idxmin()], int((_at_most(cells) < SOLVED).sum())
        open_ = int((cells["low"] < SOLVED).sum())
        if failing:
            text += (
                f". Its weakest spot: {_digits_of(worst)} are right {worst['accuracy']:.0%} of the "
                f"time; {failing} of {len(cells)} cells (place, run of nines, carry) fail."
            )
        elif open_:
            text += (
                ". No cell (place, run of nines, carry) is known to fail, but "
                f"{open_} of {len(cells)} have too few questions to be sure."
            )
        else:
            text += (
                f", and every digit at least {SOLVED:.0%} of the time: at every place, with or "
                "without a carry, over any run of nines."
            )
        return text.replace("%", " %")

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, does the form matter, is every cell solved, do carries cross nines, ...?"""
        cells = results.tables["cells"]
        over_nines = either_way(cells).query("run >= 1")
        return [
            _adds(results.tables["answers"].iloc[0]),
            *_form_matters(results.tables),
            _every_cell_is_solved(cells),
            _pooled(CROSS, over_nines.query("carry == 1")),
            _pooled(STOP, over_nines.query("carry == 0")),
            _uniform_hides(results.tables["digits"].query("prefix == 'given'"), cells, self.seed),
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Accuracy by cell, by form and by digit, and kinds of errors."""
        tables = results.tables
        digits = tables["digits"].assign(before=tables["digits"]["prefix"].map(PREFIX))
        return {
            "Accuracy by cell": cell_grid(
                tables["cells"],
                caption="Accuracy of the answer digit at each place after the right digits, by how "
                "many columns just below it sum to nine (run) and whether a carry comes in. A "
                "model that looks only so far ahead is right on short runs and fails beyond.",
            ),
            **_drawn_forms(tables["forms"]),
            "Accuracy by cell, on its own": cell_grid(
                tables["cells_generated"],
                caption="The same digits after what the model itself wrote before them: an early "
                "mistake is passed on.",
            ),
            "Accuracy by digit": bars(
                digits, "place", "accuracy", series="before",
                caption="Accuracy by decimal place on uniform questions, where long runs hardly "
                "occur: a model may be near 1 everywhere here and yet fail some of the cells "
                "above.",
            ),
            "Kinds of errors": bars(
                tables["errors"].query("prefix == 'given'"), "place", "share", series="kind",
                caption="Share of the cells' digits that are wrong, by kind: a carry lost (the "
                "digit is what the column gives without it), a carry invented (one more than it "
                "should be), or anything else. By decimal place, after the right digits.",
            ),
        }  # fmt: skip

    def planted(self) -> "Model":
        """The exact adder, made to say the right digits whatever its weights compute."""
        return saying(load("adder_6d_2l"), lambda sums: sums.answer_digits)


CROSS = (
    "Carries cross nines: at least 95 % of the digits that a carry reaches over one or more nines "
    "are right."
)
STOP = (
    "A column that sums to 9 is not mistaken for a carry when none comes in: at least 95 % of the "
    "digits above such columns are right."
)


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
    return with_accuracy(grouped.agg(n="size", correct="sum").reset_index())


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


def saying(model: "Model", digits: Callable[[Sums], Int[np.ndarray, "n answer"]]) -> "Model":
    """An adder made to say `digits` of the questions it reads, by hooks that stay.

    What it reads is seen at its embedding; what it says is written over its logits.
    """
    style, seen = model.card.arithmetic, {}
    model.embed.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))

    def overwrite(_module, _inputs, logits):
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


def _digits_of(cell: pd.Series) -> str:
    """The digits of a cell in words: `at place 5, carries over 4 nines`."""
    place, run, carry = (int(cell[name]) for name in CELL)
    nines = "one nine" if run == 1 else f"{run} nines"
    if run:
        kind = f"carries over {nines}" if carry else f"digits above {nines} and without a carry"
    else:
        kind = "carries from the column just below" if carry else "digits without a carry"
    return f"at place {place}, {kind}"


def _adds(answers: pd.Series) -> Claim:
    """More whole answers are right than a sum without carries would get."""
    without = float(answers["without_carries"])
    return Claim.learned(
        "The model adds: it answers more uniform questions correctly than addition without carries "
        "would.",
        share(answers["correct"], answers["n"]),
        above=without,
        null=without,
        null_note="share of these questions that need no carry",
        unit="share of whole answers that are right",
        more="uniform questions (--uniform)",
    )


def _in_form(forms: pd.DataFrame) -> str:
    """In which form a language model was asked."""
    if forms.empty:
        return ""
    chosen = forms.loc[forms["chosen"], "form"].iloc[0]
    count = forms["form"].nunique()
    return f" in its best form ({chosen}; chosen among {count} on {CHOSEN_ON} other sums)"


def _form_matters(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """The chosen form does better than the bare one; nothing where there was no choice."""
    if tables["forms"].empty:
        return []
    measured = tables["forms"].query("sample == 'measured'").set_index("form")
    chosen, bare = measured[measured["chosen"]].iloc[0], measured.loc["bare"]
    lead = tables["form_lead"]
    return [
        Claim.mechanical(
            f"The form of the question matters: more sums are right in the form {chosen.name!r}, "
            "chosen on other sums, than in the bare form.",
            None if lead.empty else lead.iloc[0],
            above=0,
            null=0,
            null_note=f"the bare form, in which {bare['accuracy']:.0%} of the same sums are right; "
            f"in the chosen one {chosen['accuracy']:.0%}".replace("%", " %"),
            unit="share of whole sums right, each digit after the right ones before it",
            needs="5 questions in each form or more (--per-form)",
            more="questions in each form (--per-form)",
        )
    ]


def _drawn_forms(forms: pd.DataFrame) -> dict[str, Drawing]:
    """Accuracy by form of the question, if there is more than one."""
    if forms.empty:
        return {}
    measured = forms.query("sample == 'measured'").sort_values("accuracy", ascending=False)
    return {
        "Accuracy by form": bars(
            measured.assign(used=np.where(measured["chosen"], "chosen", "not chosen")),
            "form", "accuracy", series="used",
            caption="Share of whole sums that are right in each form of the question, each digit "
            "read after the right ones before it, on the same sums. The form of all other figures "
            f"was chosen on {CHOSEN_ON} other sums. Bars: 95 %.",
        )
    }  # fmt: skip


def _every_cell_is_solved(cells: pd.DataFrame) -> Claim:
    """The worst cell is solved; it fails where that is beyond luck among so many cells."""
    row = cells["low"].idxmin()
    worst, high = cells.loc[row], cells.loc[row, "high"]
    if high < SOLVED:
        high = _at_most(cells)[row]
    where = f"accuracy in the weakest cell: {_digits_of(worst)}"
    return Claim.learned(
        f"Every cell (place, run of nines, carry coming in) is solved: at least {SOLVED:.0%} of "
        "its digits are right.".replace("%", " %"),
        Estimate(worst["accuracy"], worst["low"], high, int(worst["n"])),
        above=SOLVED,
        unit=where if worst["accuracy"] < 1 else "accuracy in each cell",
        decide="more questions in each cell (--per-cell): 73, all of them right, are the fewest "
        "that show a cell to be solved",
    )


def _at_most(cells: pd.DataFrame) -> pd.Series:
    """Upper ends of the accuracy of every cell, corrected for their number (Bonferroni)."""
    high = wilson(cells["correct"].to_numpy(), cells["n"].to_numpy(), 1 - 0.05 / len(cells))[1]
    return pd.Series(high, cells.index)


def _pooled(sentence: str, cells: pd.DataFrame) -> Claim:
    """The digits of several cells, taken together, are right; not tested without any."""
    return Claim.learned(
        sentence,
        share(*cells[["correct", "n"]].sum()),
        above=SOLVED,
        unit="share of digits that are right",
        more="questions in these cells together (--per-cell)",
        needs="longer sums, in which a carry can cross a nine (--places 3)",
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
    p = float(luck_as_far(gap, null))
    holds = p <= 0.05 and below > 0
    where = f"{_digits_of(worst)} are right only {worst['accuracy']:.0%} of the time"
    if not holds:
        where = "some cell is far less accurate than its place is on average"
    return Claim.mechanical(
        f"Average accuracy hides a weak spot: {where}.".replace("%", " %"),
        Estimate(gap, below, above, int(worst["n"]), p),
        above=0,
        verdict="holds" if holds else "fails" if above <= LIKE else "undecided",
        null=float(null.mean()),
        null_note="the worst of as many cells that are all alike (random weights: not measured)",
        unit="accuracy at the place on average, minus accuracy in the cell",
        decide="more questions in each cell (--per-cell)",
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
