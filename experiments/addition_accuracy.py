"""Which additions does the model get right?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table
from lenses.addition import marked
from lenses.addition.emergence import CELL
from lenses.addition.forms import CHOSEN_ON, addition_format, asked_in_forms, unused
from lenses.addition.marked import SOLVED
from lenses.statistics.intervals import luck_outside, share
from models import load
from models.planted.saying import saying
from prompts.additions import Addition, AdditionFormat, Cells
from viz import Drawing, bars, cell_grid

if TYPE_CHECKING:
    from models import Model

LIKE = 0.05
"""Accuracies that differ by less are taken for alike."""
SHARES = "n correct accuracy low high"
PREFIX = {"given": "after the right digits", "generated": "after its own digits"}
"""What stands before a digit, as tables say it and in words."""
PREFIXES = "what stands before the digit: `given` the right digits, `generated` the model's own"
SAMPLE = "`cells` for questions drawn by cell, `uniform` for those drawn uniformly"

CROSS = (
    "Carries cross nines: at least 95 % of the digits that a carry reaches over one or more nines "
    "are right."
)
STOP = (
    "A column that sums to 9 is not mistaken for a carry when none comes in: at least 95 % of the "
    "digits above such columns are right."
)
PLACES = dict(enumerate(
    ["units", "tens", "hundreds", "thousands", "ten-thousands", "hundred-thousands", "millions"]
))  # fmt: skip


class AdditionAccuracy(Experiment):
    """The model is asked sums, and each digit of its answers is marked right or wrong, by what
    must be carried into it and over how many nines.

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
    quick: ClassVar[dict[str, Any]] = {"per_cell": 8, "uniform": 40}

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
        read = (self.batch_size, self.stream)
        cells, uniform = (
            marked.ask(model, style, sums, *read, name) for name, sums in samples.items()
        )
        wrong = [marked.mistakes(cells, "cells"), marked.mistakes(uniform, "uniform")]
        by_cell = marked.by_cell(cells, "given")
        return Results(
            {
                "cells": by_cell,
                "cells_generated": marked.by_cell(cells, "generated"),
                "digits": marked.by_place(uniform),
                "answers": marked.whole_answers(uniform),
                "errors": marked.error_kinds(cells),
                "mistakes": pd.concat(wrong, ignore_index=True),
                **forms,
                "look_ahead": marked.look_ahead(by_cell),
            }
        )

    def _asked(self, model: "Model") -> tuple[AdditionFormat, dict[str, pd.DataFrame]]:
        """How the model is asked, and of a language model how many sums are right in each form."""
        if model.card.arithmetic is not None:
            none = {"forms": pd.DataFrame(), "form_lead": pd.DataFrame()}
            return addition_format(model, self.places), none
        how = (self.places or 2, self.per_form, self.seed, self.examples, self.stream)
        return asked_in_forms(model, *how)

    def headline(self, results: Results) -> str:
        """How many sums are right, and where the model is weakest."""
        cells, whole = results.tables["cells"], results.tables["answers"].iloc[0]
        asked = f"{whole['n']:.0f} random {cells['place'].max()}-digit sums"
        text = f"The model answers {whole['correct']:.0f} of {asked} correctly"
        if cells[["low", "accuracy"]].notna().any().all():
            text += _by_kind_of_digit(cells)
        return f"{text}.{_in_form(results.tables['forms'])}".replace("%", " %")

    def claims(self, results: Results) -> list[Claim]:
        """Does it add, does the form matter, is every cell solved, do carries cross nines, ...?"""
        cells = results.tables["cells"]
        over_nines = marked.either_way(cells).query("run >= 1")
        return [
            _adds(results.tables["answers"].iloc[0]),
            *_form_matters(results.tables),
            _every_cell_is_solved(cells),
            _pooled(CROSS, over_nines.query("carry == 1")),
            _pooled(STOP, over_nines.query("carry == 0")),
            _uniform_hides(results.tables["digits"].query("prefix == 'given'"), cells, self.seed),
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Errors by cell, accuracy by form and by digit, and kinds of errors."""
        tables = results.tables
        digits = tables["digits"].assign(before=tables["digits"]["prefix"].map(PREFIX))
        return {
            "Errors by cell": cell_grid(
                tables["cells"],
                caption="Share of answer digits that are wrong, by how many columns just below "
                "the digit sum to nine (run) and whether a carry comes in; hatched: there is no "
                "such sum. A model that looks only so far ahead is right on short runs and fails "
                "beyond.",
            ),
            **_drawn_forms(tables["forms"]),
            "Errors by cell, on its own": cell_grid(
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


def _in_form(forms: pd.DataFrame) -> str:
    """In which form a language model was asked."""
    if forms.empty:
        return ""
    chosen = forms.loc[forms["chosen"], "form"].iloc[0]
    count = forms["form"].nunique()
    others = f"of {count} forms none was better on {CHOSEN_ON} other sums"
    return f" It was asked in the form {chosen} ({others})."


def _digits_of(cell: pd.Series) -> str:
    """The digits of a cell in words: `the tens digit without a carry`."""
    place, run, carry = (int(cell[name]) for name in CELL)
    digit = f"the {PLACES.get(place, f'10^{place}')} digit"
    nines = "a column that sums to 9" if run == 1 else f"{run} columns that sum to 9"
    if not run:
        return f"{digit} with{'' if carry else 'out'} a carry" if place else digit
    over = f"with a carry over {nines}" if carry else f"without a carry above {nines}"
    return f"{digit} {over}"


def _by_kind_of_digit(cells: pd.DataFrame) -> str:
    """Which digits are right: all of them, or those that are most and least often."""
    failing, open_ = (int((of < SOLVED).sum()) for of in (marked.at_most(cells), cells["low"]))
    kinds = f"of {len(cells)} kinds (place, carry, nines below)"
    if not open_:
        return (
            f", and every digit at least {SOLVED:.0%} of the time: at every place, with or without "
            "a carry, over any run of nines"
        )
    if not failing:
        return (
            f". No kind of digit is known to be right less than {SOLVED:.0%} of the time, but "
            f"{open_} {kinds} had too few questions to be sure"
        )
    least, always = cells.loc[cells["accuracy"].idxmin()], cells[cells["accuracy"] == 1]
    right = f" Always right were {len(always)} {kinds}" if len(always) else ""
    right += f", such as {_digits_of(always.iloc[0])}." if len(always) else ""
    return (
        f"; {_digits_of(least)} is right least often ({least['accuracy']:.0%}).{right} "
        f"Surely right less than {SOLVED:.0%} of the time {'is' if failing == 1 else 'are'} "
        f"{failing} {kinds}"
    )


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


def _every_cell_is_solved(cells: pd.DataFrame) -> Claim:
    """The worst cell is solved; it fails where that is beyond luck among so many cells."""
    sentence = (
        f"Every cell (place, run of nines, carry coming in) is solved: at least {SOLVED:.0%} of "
        "its digits are right.".replace("%", " %")
    )
    if cells[["low", "high"]].isna().any(axis=None):
        return Claim.not_tested("learned", sentence, "an interval in every cell (--per-cell)")
    row = cells["low"].idxmin()
    worst, high = cells.loc[row], cells.loc[row, "high"]
    if high < SOLVED:
        high = marked.at_most(cells)[row]
    where = f"accuracy in the weakest of {len(cells)} cells: {_digits_of(worst)}"
    where += "; the interval's upper end allows for the choice" if high < SOLVED else ""
    return Claim.learned(
        sentence,
        Estimate(worst["accuracy"], worst["low"], high, int(worst["n"])),
        above=SOLVED,
        unit=where if worst["accuracy"] < 1 else "accuracy in each cell",
        decide="more questions in each cell (--per-cell): 73, all of them right, are the fewest "
        "that show a cell to be solved",
    )


def _pooled(sentence: str, cells: pd.DataFrame) -> Claim:
    """The digits of several cells, taken together, are right; not tested without any."""
    return Claim.learned(
        sentence,
        share(*cells[["correct", "n"]].sum()),
        above=SOLVED,
        unit="share of digits that are right",
        more="questions in these cells together (--per-cell)",
        needs="longer sums, in which a carry crosses a nine below the top digit (--places 3)",
    )


def _uniform_hides(digits: pd.DataFrame, cells: pd.DataFrame, seed: int) -> Claim:
    """The worst cell lies further below its place's uniform accuracy than chance would put it."""
    if (weakest := marked.weak_spot(digits, cells, seed)) is None:
        sentence = "Average accuracy hides a weak spot."
        return Claim.not_tested("mechanical", sentence, "an accuracy in some cell (--per-cell)")
    worst, gap, null = weakest
    holds = gap.p <= 0.05 and gap.low > 0
    where = f"{_digits_of(worst)} is right only {worst['accuracy']:.0%} of the time"
    if not holds:
        where = "some cell is far less accurate than its place is on average"
    return Claim.mechanical(
        f"Average accuracy hides a weak spot: {where}.".replace("%", " %"),
        gap,
        above=0,
        holds=bool(holds),
        p_fails=float(luck_outside(gap, below=LIKE)),
        null=null,
        null_note="the worst of as many cells that are all alike (random weights: not measured)",
        unit="accuracy at the place on average, minus accuracy in the cell",
        decide="more questions in each cell (--per-cell)",
    )


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
