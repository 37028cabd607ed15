"""When in training does each part of addition appear?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from experiments import Claim, Experiment, Results
from lenses.statistics.intervals import benjamini_hochberg, wilson
from prompts.additions import AdditionFormat, Cells

if TYPE_CHECKING:
    from models import Model
    from models.train.checkpoints import Course
    from models.train.recipe import Training
    from viz import Drawing

SIGNS = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}
"""The vocabulary of the adders trained here."""

MOST_AT_FIRST = 0.05
"""More than this share of heads with a role at step 0 would say that the method finds ghosts."""

LETTERS = {"none": "·", "carry": "c", "base_add": "b", "both": "cb", "combiner": "n"}
"""How roles are written into the cells of a figure."""


class CarryEmergence(Experiment):
    """Adders are trained from several seeds and examined on the way: what they can do, and how.

    At about 15 steps of each training, more where the loss falls: accuracy and loss of every cell
    (place, run of nines below, carry in), which heads move which digit when they are interchanged
    between minimal pairs, and what is lost without each head. A part of addition is *born* at the
    first of these steps from which on it is there; it came after the step examined before.

    Parts, by place: *base* (the digit is right or one off by the carry, no nines below), *carry*
    (given that, it is right, with a carry and without), *run r* (the same over r nines); and
    *base head*, *carry head* (a single head has that role), *base attention*, *carry attention*
    (all heads of one layer together move it). Pairs are not filtered by whether the adder solves
    them, so that every step is asked the same.

    Tables: `loss` (seed, step, place, loss: in nats, mean over the steps since the last row),
    `cells` (seed, step, place, run, carry, n, correct, known, loss, accuracy, low, high: the digit
    after the right ones; `known` counts those right but for the carry), `roles` (seed, step, kind:
    one head or the layer's whole attention, layer, head, place, role, and the rates that make it),
    `ablation` (seed, step, layer, head, place, carry, n, correct, accuracy, low, high: without
    that head), `births` (seed, part, place, before, step: last examined without it, first with
    it; empty where it never came), `order` (earlier, later, seed, doublings of the steps of
    training between the two, places over which it is a mean; only *run r* is asked as *carry* is,
    other parts have bars of their own), `agreement` (pair of seeds, dealt, estimate, null, low,
    high, p: share of roles that coincide at the end when heads are matched; null is the mean, low
    to high 95 % of it, with the roles of each place dealt out at random).
    """

    needs_model: ClassVar[bool] = False
    quick: ClassVar[dict[str, Any]] = {
        "places": 2, "width": 32, "steps": 60, "seeds": 2, "examined": 2, "per_cell": 20,
        "pairs": 8,
    }  # fmt: skip

    model: str = "none"
    """Not used: the adders are trained here, or read from `trained`."""
    batch_size: int = Field(256, ge=1)
    """Additions in one step of training."""
    places: int = Field(4, ge=2, le=12)
    """Digits of each addend."""
    layers: int = Field(2, ge=1)
    """Blocks of the adder."""
    heads: int = Field(4, ge=1)
    """Attention heads in each block."""
    width: int = Field(64, ge=4)
    """d_model, a multiple of the heads; MLPs are four times as wide."""
    steps: int = Field(1000, ge=20)
    """Steps of each training."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate; it rises for a tenth of the steps and falls along a cosine."""
    seeds: int = Field(3, ge=1)
    """Trainings, which differ in their first weights and in their additions."""
    examined: int = Field(9, ge=1)
    """Steps examined in any case, each as many times the one before; more where the loss falls."""
    per_cell: int = Field(100, ge=1)
    """Additions for each cell at each step examined; 73, all right, are the fewest that count."""
    pairs: int = Field(60, ge=1)
    """Minimal pairs of each kind and place at each step examined."""
    trained: tuple[Path, ...] = ()
    """Folders of `models.train` with steps that were kept (keep_at), read instead of training."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "CarryEmergence":
        if self.width % self.heads:
            raise ValueError("width: must be a multiple of heads")
        return self

    def measure(self, model: "Model | None") -> Results:
        """Train, and examine on the way; no model is needed."""
        from lenses.addition.births import agreements, all_births, order

        course = self._course()
        tables = {name: self.rows(name) for name in ("loss", "cells", "roles", "ablation")}
        keep = [course, *tables.values()]
        for seed, step in self.stream(course.plan, keep, label="training"):
            found = {"loss": course.reach(seed, step)}
            if course.is_due():
                found |= self._examined(course.adder(), course.style)
            for name, rows in found.items():
                if len(rows):
                    tables[name].append(labelled(rows, seed, step))
        frames = {name: rows.frame() for name, rows in tables.items()}
        born = all_births(frames["cells"], frames["roles"])
        agreed = agreements(frames["roles"], self.seed)
        return Results({**frames, "births": born, "order": order(born), "agreement": agreed})

    def figures(self, results: Results) -> "dict[str, Drawing]":
        """Loss by place and cell, births on a time line, roles side by side, and agreement."""
        tables = results.tables
        return {
            **timelines(tables["births"]),
            **learning(tables["loss"], tables["cells"]),
            **at_the_end(tables["roles"], tables["ablation"], tables["agreement"]),
        }

    def claims(self, results: Results) -> list[Claim]:
        """Do the adders learn, do long runs come last, do the seeds end alike?"""
        tables = results.tables
        tested = [_comes_later(*asked, tables["order"]) for asked in IN_ORDER]
        tested += [_agree(dealt, tables["agreement"]) for dealt in AGREE]
        return [_learned(tables["cells"]), _nothing_at_first(tables["roles"]), *corrected(tested)]

    def _course(self) -> "Course":
        """What is examined: trainings that go on here, or that were kept."""
        from models.train.checkpoints import Kept, Trainings

        if self.trained:
            return Kept(list(self.trained), self.device)
        style = AdditionFormat(digits=self.places, layout=("<bos>", *"a+b=c"), vocabulary=SIGNS)
        recipes = [self._recipe(self.seed + number) for number in range(self.seeds)]
        return Trainings(style, recipes, self.examined, self.device)

    def _recipe(self, seed: int) -> "Training":
        from models.train.recipe import Training

        return Training(
            layers=self.layers, heads=self.heads, width=self.width, steps=self.steps,
            warm_up=self.steps // 10, learning_rate=self.learning_rate, batch=self.batch_size,
            seed=seed, exact=False,
        )  # fmt: skip

    def _examined(self, adder: "Model", style: AdditionFormat) -> dict[str, pd.DataFrame]:
        """The cells, and the reduced battery: interchange and ablation."""
        from lenses.addition.emergence import cell_losses, head_ablations, head_roles, with_accuracy

        asked = Cells(style.digits, self.per_cell, self.seed, padded=style.pad).sums
        few = Cells(style.digits, -(-self.per_cell // 4), self.seed + 1, padded=style.pad).sums
        return {
            "cells": with_accuracy(cell_losses(adder, style, asked)),
            "roles": head_roles(adder, style, self.pairs, self.seed),
            "ablation": head_ablations(adder, style, few),
        }


def labelled(rows: pd.DataFrame, seed: int, step: int) -> pd.DataFrame:
    """The rows of one step of one training."""
    return rows.drop(columns="step", errors="ignore").assign(seed=seed, step=step)


IN_ORDER = (
    (
        "Long runs of nines are learned after short ones: the longest run comes after none.",
        "carry",
        "longest run",
    ),
)
AGREE = {
    "within place": "Trainings end alike: roles are in the same layers, or grouped into heads "
    "alike.",
    "within layer and place": "Trainings group places into heads alike: what one head does for "
    "several places, one head does in the others too.",
}

MORE_TRAININGS = (
    "more trainings (--seeds), longer (--steps), examined more often (--examined): in fewer than "
    "three both parts came to stay, or as far apart in all"
)


def _learned(cells: pd.DataFrame) -> Claim:
    """At the end of every training each cell is solved."""
    from lenses.addition.births import SOLVED

    last = cells[cells["step"] == cells.groupby("seed")["step"].transform("max")]
    first = cells[cells["step"] == cells.groupby("seed")["step"].transform("min")]
    solved, failed = last["low"] >= SOLVED, last["high"] < SOLVED
    verdict = "holds" if solved.all() else "fails" if failed.any() else "undecided"
    low, high = wilson(np.array(int(solved.sum())), np.array(len(last)))
    return Claim(
        kind="mechanical",
        sentence="Every training ends with an adder that solves every cell.",
        estimate=float(solved.mean()),
        low=float(low),
        high=float(high),
        n=len(last),
        null=float((first["low"] >= SOLVED).mean()),
        null_note="of cells at the first step examined (random weights at step 0)",
        unit="of cells",
        verdict=verdict,
        decide="more steps (--steps) or additions per cell" if verdict == "undecided" else "",
    )


def _nothing_at_first(roles: pd.DataFrame) -> Claim:
    """Random weights play no role: the method finds nothing where nothing was learned."""
    sentence = "Before the first step of training no head has a role."
    heads = roles[(roles["kind"] == "head") & (roles["step"] == 0)]
    if heads.empty:
        return _undecided(sentence, pd.Series(dtype=float), "trainings that kept step 0 (keep_at)")
    found = int((heads["role"] != "none").sum())
    low, high = wilson(np.array(found), np.array(len(heads)))
    verdict = Claim.judge(-float(high), -float(low), -MOST_AT_FIRST)
    return Claim(
        kind="mechanical",
        sentence=sentence,
        estimate=found / len(heads),
        low=float(low),
        high=float(high),
        n=len(heads),
        null=MOST_AT_FIRST,
        null_note="most that is taken for none; this is the value with random weights",
        unit="of heads and places",
        verdict=verdict,
        decide="more seeds (--seeds)" if verdict == "undecided" else "",
    )


def _comes_later(sentence: str, earlier: str, later: str, order: pd.DataFrame) -> Claim:
    """Whether one part comes after another, in doublings of the steps of training, over seeds."""
    from lenses.addition.births import mean_of_few

    rows = order[(order["earlier"] == earlier) & (order["later"] == later)].dropna()
    if rows.empty:
        return _undecided(sentence, rows["doublings"], MORE_TRAININGS)
    mean, low, high, p = mean_of_few(rows["doublings"].to_numpy())
    if np.isinf(low):
        return _undecided(sentence, rows["doublings"], MORE_TRAININGS)
    return Claim(
        kind="mechanical",
        sentence=sentence,
        estimate=mean,
        low=low,
        high=high,
        n=len(rows),
        p=p,
        null=0.0,
        null_note="both at once",
        unit="doublings of the steps of training",
        verdict=Claim.judge(low, high, 0),
        decide="more trainings (--seeds): the interval is Student's over seeds",
    )


def _undecided(sentence: str, values: pd.Series, decide: str) -> Claim:
    """A claim on values too few, or too much alike, for an interval."""
    return Claim(
        kind="mechanical",
        sentence=sentence,
        estimate=float(values.mean()) if len(values) else 0.0,
        n=len(values),
        verdict="undecided",
        decide=decide,
    )


def _agree(dealt: str, agreement: pd.DataFrame) -> Claim:
    """Whether roles at the end agree over trainings more than roles dealt out at random."""
    rows = agreement[(agreement["dealt"] == dealt) & (agreement["pair"] == "all")].dropna()
    if rows.empty:
        more = "more trainings (--seeds), or longer ones in which heads get roles"
        return _undecided(AGREE[dealt], pd.Series(dtype=float), more)
    row = rows.iloc[0]
    excess = float(row["estimate"] - row["null"])
    return Claim(
        kind="mechanical",
        sentence=AGREE[dealt],
        estimate=excess,
        n=len(agreement[agreement["dealt"] == dealt]) - 1,
        p=float(row["p"]),
        null=0.0,
        null_note=f"roles dealt out {dealt}, heads matched as freely: {row['null']:.2f} coincide, "
        f"in 95 % of deals {row['low']:.2f} to {row['high']:.2f}",
        unit="of roles, beyond chance",
        verdict="holds" if row["p"] <= 0.05 and excess > 0 else "undecided",
        decide="more trainings (--seeds)",
    )


def corrected(claims: list[Claim]) -> list[Claim]:
    """The claims with p corrected for their number (Benjamini & Hochberg 1995)."""
    tested = [claim for claim in claims if claim.p is not None]
    q = benjamini_hochberg(np.array([claim.p for claim in tested]))
    by_sentence = {claim.sentence: float(value) for claim, value in zip(tested, q, strict=True)}
    return [_corrected(claim, by_sentence.get(claim.sentence)) for claim in claims]


def _corrected(claim: Claim, q: float | None) -> Claim:
    if q is None:
        return claim
    lost = claim.verdict == "holds" and q > 0.05
    return claim.model_copy(update={"p": q, **({"verdict": "undecided"} if lost else {})})


def timelines(births: pd.DataFrame) -> "dict[str, Drawing]":
    """When every part came, by place and seed."""
    from viz import bars

    born = births.dropna().assign(seed=_named(births["seed"]), place=_places(births["place"]))
    if born.empty:
        return {}
    return {
        "Births": bars(
            born, "part", "step", series="place", facet="seed", low="before", high="step",
            caption=BIRTHS_CAPTION,
        )
    }  # fmt: skip


def learning(loss: pd.DataFrame, cells: pd.DataFrame) -> "dict[str, Drawing]":
    """Loss of each digit, and accuracy by run of nines, over the steps of training."""
    from viz import curves

    below = cells[cells["place"] < cells["place"].max()]
    pooled = below.groupby(["seed", "step", "run", "carry"])
    runs = pooled[["n", "correct"]].sum().assign(loss=pooled["loss"].mean()).reset_index()
    low, high = wilson(runs["correct"].to_numpy(), runs["n"].to_numpy())
    runs = runs.assign(accuracy=runs["correct"] / runs["n"], low=low, high=high)
    came = runs["carry"].map({0: "no carry", 1: "a carry"})
    runs = runs.assign(run=_named(runs["run"], "run"), panel=_named(runs["seed"]) + ", " + came)
    digits = loss.assign(seed=_named(loss["seed"]), place=_places(loss["place"]))
    how = {"x": "step", "log_x": True}
    return {
        "Loss by digit": curves(
            digits, y="loss", series="place", facet="seed", caption=LOSS_CAPTION, **how
        ),
        "Accuracy by run": curves(
            runs, y="accuracy", series="run", facet="panel", caption=RUNS_CAPTION, **how
        ),
        "Loss by run": curves(
            runs.drop(columns=["low", "high"]), y="loss", series="run", facet="panel",
            caption=RUN_LOSS_CAPTION, **how,
        ),
    }  # fmt: skip


def at_the_end(
    roles: pd.DataFrame, ablation: pd.DataFrame, agreement: pd.DataFrame
) -> "dict[str, Drawing]":
    """Roles of the trained heads side by side, what is lost without them, and agreement."""
    from viz import bars, curves, heat_map

    ends = side_by_side(roles)
    lost = lost_without(ablation).merge(
        ends[["seed", "layer", "head", "row", "panel"]].drop_duplicates()
    )
    grid = {"rows": "row", "columns": "place", "facet": "panel"}
    drawn = {
        "Heads that move the carry": heat_map(
            ends, value="carry_flip", text="letter", low=0, high=1, caption=CARRY_CAPTION,
            label="carries flipped", **grid,
        ),
        "Heads that move the base": heat_map(
            ends, value="base_flip", text="letter", low=0, high=1, caption=BASE_CAPTION,
            label="bases flipped", **grid,
        ),
        "Accuracy without a head": heat_map(
            lost, value="accuracy", low=0, high=1, caption=ABLATION_CAPTION, **grid
        ),
        "Carry attention": curves(
            together(roles), "step", "carry_flip", series="place", facet="panel", log_x=True,
            caption=TOGETHER_CAPTION,
        ),
    }  # fmt: skip
    if len(agreement):
        drawn["Agreement"] = bars(
            against_chance(agreement), "pair", "agreement", series="roles", facet="dealt",
            caption=AGREEMENT_CAPTION,
        )  # fmt: skip
    return drawn


def side_by_side(roles: pd.DataFrame) -> pd.DataFrame:
    """Single heads at the end, each in the row of the head of the first seed that it matches."""
    from lenses.addition.births import final_roles, matched

    final = final_roles(roles)
    first = next(iter(final.values()))
    last = roles["step"] == roles.groupby("seed")["step"].transform("max")
    heads = roles[last & (roles["kind"] == "head")].copy()
    for seed, table in final.items():
        partners = matched(first, table)
        for layer, row in enumerate(partners):
            mine = (heads["seed"] == seed) & (heads["layer"] == layer)
            like = {int(head): number for number, head in enumerate(row)}
            heads.loc[mine, "row"] = [f"layer {layer}, {like[h]}" for h in heads.loc[mine, "head"]]
    heads["letter"] = heads["role"].map(LETTERS)
    heads["panel"] = _named(heads["seed"])
    return heads.sort_values(["seed", "row", "place"], ignore_index=True)


def lost_without(ablation: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by place of digits that a carry comes into, each head ablated, at the end."""
    last = ablation["step"] == ablation.groupby("seed")["step"].transform("max")
    return ablation[last & (ablation["carry"] == 1)].drop(columns="carry")


def together(roles: pd.DataFrame) -> pd.DataFrame:
    """Flips of the carry by all heads of one layer, the layer that flips most, over the steps."""
    joint = roles[(roles["kind"] == "attention") & (roles["place"] > 0)]
    most = joint.groupby(["seed", "step", "place"])["carry_flip"].max().reset_index()
    return most.assign(panel=_named(most["seed"]), place=_places(most["place"]))


def against_chance(agreement: pd.DataFrame) -> pd.DataFrame:
    """Agreement found and by chance, one below the other."""
    found = agreement.assign(roles="found", agreement=agreement["estimate"])
    found[["low", "high"]] = np.nan
    chance = agreement.assign(roles="dealt at random", agreement=agreement["null"])
    both = pd.concat([found, chance], ignore_index=True)
    return both.assign(dealt="dealt out " + both["dealt"])


def _named(numbers: pd.Series, what: str = "seed") -> pd.Series:
    return what + " " + numbers.astype(str)


def _places(places: pd.Series) -> pd.Series:
    """Places as names, so that each is a series of its own."""
    return _named(places, "place")


BIRTHS_CAPTION = (
    "The step at which each part of addition was first there to stay, with the stretch since the "
    "step examined before. Parts that never came have no point. Skills, from the top: the sum of "
    "the column, its carry, the carry over 1, 2, ... nines; below them the heads that do it. Sums, "
    "carries and heads have bars of their own: only carries over more or fewer nines compare."
)
LOSS_CAPTION = (
    "Loss of each answer digit on the additions trained on, in nats. A digit of which nothing is "
    "known costs ln 10 = 2.3; one whose column is added without its carry, at most ln 2 = 0.69."
)
RUNS_CAPTION = (
    "Accuracy of digits by the nines in a row below them (run), over all places but the leading "
    "one, which is 0 or 1 anyway; with 95 % intervals. Where lines part, the adder does not look "
    "as far as the longer run."
)
RUN_LOSS_CAPTION = (
    "The same by loss in nats, which also shows how sure a wrong digit is: a rise says that the "
    "adder has come to take nines for carries, or for none."
)
CARRY_CAPTION = (
    "How many carries flip when a single head, at the digit read, is given what it computed for an "
    "addition with the other carry. Heads of each seed stand in the row of the head of the first "
    "seed whose roles they share most: equal panels mean that trainings end alike but for the "
    "numbers of heads. Letters: c carry, b base, cb both, n only carries over nines."
)
BASE_CAPTION = (
    "How many digits flip to the source's when a single head is given what it computed for another "
    "sum of the same column. Rows and letters as before."
)
ABLATION_CAPTION = (
    "Accuracy of digits that a carry comes into when a head's output is replaced by its mean. A "
    "head without a role that is needed nevertheless shares its work with others. Rows as before."
)
TOGETHER_CAPTION = (
    "How many carries flip when all heads of a layer are interchanged together, for the layer "
    "where most do. A carry that heads share shows here and in no single head."
)
AGREEMENT_CAPTION = (
    "Share of roles that coincide between two trainings when the heads of each layer are matched "
    "as well as can be, and the same with the roles of each place dealt out at random, to any head "
    "or within the layer (95 % of 1,000 deals)."
)
