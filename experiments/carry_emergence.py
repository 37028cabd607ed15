"""When in training does each part of addition appear?"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from experiments import Claim, Estimate, Experiment, Reading, Results, Table, corrected
from lenses.addition.births import (
    SOLVED,
    agreements,
    all_births,
    final_roles,
    matched,
    mean_of_few,
    order,
    trends,
)
from lenses.addition.emergence import cell_losses, head_ablations, head_roles, with_accuracy
from lenses.addition.marked import at_most
from lenses.statistics.intervals import share
from models.train.checkpoints import Course, Kept, Trainings
from models.train.recipe import Training
from prompts.additions import AdditionFormat, Cells
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

SIGNS = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}
"""The vocabulary of the adders trained here."""
LEVEL = 0.05
MOST_AT_FIRST = 0.05
"""More than this share of heads with a role at step 0 would mean that the method finds ghosts."""
ROW = "head of the first seed"  # which those of other seeds are most like
LETTERS = {"none": "·", "carry": "c", "base_add": "b", "both": "cb", "combiner": "n"}
"""How roles are written into the cells of a figure."""
PARTS = {
    "base": "column sums",
    "carry": "carries over no nines",
    "longest run": "carries over the longest run of nines",
    "base head": "heads that move sums",
    "carry head": "heads that move carries",
    "base attention": "layers that move sums",
    "carry attention": "layers that move carries",
}
"""Parts of addition in words; carries over one nine or more are `run 1`, `run 2`, ..."""
TOLD = ("base", "carry", "longest run", "carry head")
"""Parts of addition that the headline dates."""
LEARNED = "Every training ends with an adder that solves every cell."
NOTHING = "Before training, heads have no role: fewer than 5 % have one, counted at each place."
LATER = "Carries over the longest run of nines are learned later than carries over no nines."
HUMAN = {
    "sums": ("column sums, units first", "Column sums are learned units first."),
    "carries": ("carries, units first", "Carries over no nines are learned units first."),
    "runs": ("carries, short runs of nines first", "At one place, carries are learned in the order "
             "of the nines that they run over: few first."),
}  # fmt: skip
"""What is ordered: its name on the page, and the claim."""
SHOWN = {"holds": "shown", "fails": "surely not so"}
AGREE = {
    "within place": "Different trainings end alike: matched heads share more roles than they would "
    "if the roles of each place were dealt to random heads of any layer.",
    "within layer and place": "Different trainings group places into heads alike: matched heads "
    "share more roles than if the roles of each place were dealt to random heads of the same "
    "layer.",
}
TRAINING = {"seed": "seed of the training: of its first weights and its additions"}
AT_STEP = TRAINING | {"step": "steps of training done"}


class CarryEmergence(Experiment):
    """Small models are trained to add. On the way it is examined which digits they get right,
    and which heads move a digit or a carry.

    About 15 steps of each training are examined, more where the loss falls: accuracy and loss of
    every cell (a place of the answer, the run of nines just below it, and the carry that comes in);
    which heads move which digit when their output is exchanged between two additions that differ in
    one thing (a minimal pair); what is lost without each head. A part of addition is *born* at the
    first of these steps from which on it is always there: it came after the step before.

    Parts of a place are skills: its *base* (the digit is right or one off, so that only the carry
    may be missing; no nines below), its *carry* (of these digits, those that are right, with a
    carry and without), and *run r* (the same over r nines). Others are how it is done: a single
    head moves the base or the carry (*base head*, *carry head*), or all heads of one layer do
    together (*base attention*, *carry attention*). Pairs are used whether or not the adder solves
    them, so that every step is asked the same.

    Only carries over more or fewer nines are asked in the same way; other parts have bars of their
    own, so that their order alone tells little.
    """

    needs_model: ClassVar[bool] = False
    in_one_piece: ClassVar[str] = "each step of training needs the one before"
    runs_on: ClassVar[str] = "no model 3 min"
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
    """Layers of the adder."""
    heads: int = Field(4, ge=1)
    """Attention heads in each layer."""
    width: int = Field(64, ge=4)
    """d_model, a multiple of the heads; MLPs are four times as wide."""
    steps: int = Field(1000, ge=20)
    """Steps of each training."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate; it rises for a tenth of the steps and falls along a cosine."""
    seeds: int = Field(5, ge=1)
    """Trainings, which differ in their first weights and in their additions."""
    examined: int = Field(9, ge=1)
    """Steps examined in any case, each as many times the one before; more where the loss falls."""
    per_cell: int = Field(100, ge=1)
    """Additions for each cell at each step examined; 73, all right, are the fewest that count."""
    pairs: int = Field(60, ge=1)
    """Minimal pairs of each kind and place at each step examined."""
    trained: tuple[Path, ...] = ()
    """Folders of `models.train` with steps that were kept (keep_at), read instead of training."""

    tables: ClassVar[Mapping[str, Table]] = {
        "loss": Table(
            "A row is the loss of one answer digit at one step of a training.",
            key="seed step place",
            columns=AT_STEP | {"loss": "loss in nats, mean over the steps since the row before"},
        ),
        "cells": Table(
            "A row is a cell of the answer at one step of a training: how often its digit is right "
            "after the right digits before it.",
            key="seed step place run carry",
            columns=AT_STEP
            | {
                "known": "how many of n are right or one off, as without the carry",
                "loss": "mean loss of the digit in nats",
            },
            more="n correct accuracy low high",
        ),
        "roles": Table(
            "A row is a head, or all heads of a layer together, at one step of a training: which "
            "digits of a place change when its output is exchanged.",
            key="seed step kind layer head place",
            columns=AT_STEP
            | {
                "kind": "`head`, or `attention` for all heads of the layer together",
                "head": "number of the head in its layer, from 0; -1 for all of them together",
                "role": "`carry`, `base_add` (the column's sum), `both`, `combiner` (carries over "
                "nines only) or `none`; given to single heads",
            },
            more="carry_flip carry_null base_flip base_change nines_flip nines_null",
        ),
        "ablation": Table(
            "A row is the accuracy of a place, with or without a carry, when the output of one "
            "head is replaced by its mean.",
            key="seed step layer head place carry",
            columns=AT_STEP,
            more="n correct accuracy low high",
        ),
        "births": Table(
            "A row is a part of addition at one place in one training: when it came to stay.",
            key="seed part place",
            columns=TRAINING
            | {
                "part": "`base`, `carry`, `run r`, `base head`, `carry head`, `base attention` or "
                "`carry attention`",
                "before": "last step examined without it; empty where it never came",
                "step": "first step from which on it was there; empty where it never came",
            },
        ),
        "order": Table(
            "A row compares when two parts of addition came in one training.",
            key="earlier later seed",
            columns=TRAINING
            | {
                "earlier": "the part expected first",
                "later": "the part expected after it",
                "doublings": "how often the steps of training doubled between the two, mean over "
                "places",
                "places": "places at which both came",
            },
        ),
        "trends": Table(
            "A row is how far the parts of addition come in the order that people would expect.",
            key="what training",
            columns={
                "what": "`sums` and `carries` by place, units first; `runs`: carries by the nines "
                "that they run over, few first",
                "training": "seed of the training, or `all` for the mean over trainings",
                "tau": "rank correlation (Kendall's tau-b) of date and order: 1 as expected, -1 "
                "reversed; what never came counts as last",
            },
            more="low high p n",
        ),
        "agreement": Table(
            "A row is the share of roles that coincide at the end of two trainings, heads matched "
            "within their layer.",
            key="pair dealt",
            columns={
                "pair": "the two seeds, or `all` for the mean over pairs",
                "dealt": "where roles may go when they are dealt out at random",
                "null": "mean share when the roles are dealt out at random",
                "low": "lower end of 95 % of the shares with dealt roles",
                "high": "upper end of 95 % of the shares with dealt roles",
            },
            more="estimate p",
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes for heads: a head's output is exchanged with that of another addition, or "
        "replaced by its mean; what an adder can do is behaviour",
        assumes="the steps examined are dense enough to date a part, a head's mean is a fair "
        "absence, and these trainings stand for others of their size",
        stressed="that the method finds no roles in random weights: heads are examined before the "
        "first step; that shared roles are no luck: they are held against roles dealt at random",
        not_shown="that larger models or other ways of writing additions learn in this order, or "
        "that nothing of a part was there before it passed its bar",
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "CarryEmergence":
        if self.width % self.heads:
            raise ValueError("width: must be a multiple of heads")
        return self

    def measure(self, model: "Model | None") -> Results:
        """Train, and examine on the way; no model is needed."""
        course = self._course()
        tables = {name: self.rows(name) for name in ("loss", "cells", "roles", "ablation")}
        keep = [course, *tables.values()]
        for seed, step in self.stream(course.plan, keep, label="training"):
            found = {"loss": course.reach(seed, step)}
            if course.is_due():
                found |= self._examined(course.adder(), course.style)
            for name, rows in found.items():
                if len(rows):
                    rows = rows.drop(columns="step", errors="ignore")
                    tables[name].append(rows.assign(seed=seed, step=step))
        frames = {name: rows.frame() for name, rows in tables.items()}
        born = all_births(frames["cells"], frames["roles"])
        agreed = agreements(frames["roles"], self.seed)
        found = {"order": order(born), "trends": trends(born, self.seed), "agreement": agreed}
        return Results({**frames, "births": born, **found})

    def _course(self) -> Course:
        """What is examined: trainings that go on here, or that were kept."""
        if self.trained:
            return Kept(list(self.trained), self.device)
        style = AdditionFormat(digits=self.places, layout=("<bos>", *"a+b=c"), vocabulary=SIGNS)
        recipes = [self._recipe(self.seed + number) for number in range(self.seeds)]
        return Trainings(style, recipes, self.examined, self.device)

    def _recipe(self, seed: int) -> Training:
        return Training(
            layers=self.layers, heads=self.heads, width=self.width, steps=self.steps,
            warm_up=self.steps // 10, learning_rate=self.learning_rate, batch=self.batch_size,
            seed=seed, exact=False,
        )  # fmt: skip

    def _examined(self, adder: "Model", style: AdditionFormat) -> dict[str, pd.DataFrame]:
        """The cells, and the reduced battery: interchange and ablation."""
        asked = Cells(style.digits, self.per_cell, self.seed, padded=style.pad).sums
        few = Cells(style.digits, -(-self.per_cell // 4), self.seed + 1, padded=style.pad).sums
        return {
            "cells": with_accuracy(cell_losses(adder, style, asked)),
            "roles": head_roles(adder, style, self.pairs, self.seed),
            "ablation": head_ablations(adder, style, few),
        }

    def headline(self, results: Results) -> str:
        """When sums, carries, and carries over nines came, and what is solved at the end."""
        cells, births = at_the_end(results.tables["cells"]), results.tables["births"]
        longest = births["part"] == "run " + (births["place"] - 1).astype(str)
        longest = births[longest & (births["place"] > 1)].assign(part="longest run")
        births = pd.concat([births, longest])
        steps = {PARTS[part]: births["step"][births["part"] == part] for part in TOLD}
        trainings, solved = cells["seed"].nunique(), (cells["low"] >= SOLVED).mean()
        judged, end = {c.sentence: c for c in self.claims(results)}, cells["step"].max()
        tested = {name: judged[sentence] for name, sentence in HUMAN.values()}
        return (
            f"In {trainings} training{'s' * (trainings > 1)} of {end:,} steps, "
            f"{_dated(steps, end)} (medians of the places and trainings where they do); that "
            f"the longest run comes later is {SHOWN.get(judged[LATER].verdict, 'not shown')}."
            f"{_missed(steps)} At the end, {100 * solved:.0f} % of all kinds of digits (place, "
            f"carry, nines below) are solved. {_orders(tested)}"
        )

    def claims(self, results: Results) -> list[Claim]:
        """Do the adders learn, do long runs come last, do the seeds end alike?"""
        tables = results.tables
        tested = [_comes_later(tables["order"]), *(_in_order(w, tables["trends"]) for w in HUMAN)]
        tested += [_agree(dealt, tables["agreement"]) for dealt in AGREE]
        tested = corrected(tested, decide="more trainings (--seeds)")
        return [_learned(tables["cells"]), _nothing_at_first(tables["roles"]), *tested]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Births on a time line, loss and accuracy, roles side by side, and agreement."""
        tables = results.tables
        hero, by_training = timelines(tables["births"])
        return {
            **hero,
            **one_training(tables["cells"]),
            **learning(tables["loss"], tables["cells"]),
            **side_by_side_figures(tables["roles"], tables["ablation"]),
            **agreement_figures(tables["agreement"]),
            **by_training,
        }


def _dated(births: Mapping[str, pd.Series], end: int) -> str:
    """When parts came to stay, those together that came at one step: "carries appear at ..."."""
    at: dict[str, list[str]] = {}
    for part, steps in births.items():
        when = f"appear at step {steps.median():.0f}" if steps.notna().any() else "never appear"
        at.setdefault(when + ", where training ends" * bool(steps.median() == end), []).append(part)
    said = {when: " and ".join(", ".join(parts).rsplit(", ", 1)) for when, parts in at.items()}
    return "; ".join(f"{parts} {when}" for when, parts in said.items())


def _missed(births: Mapping[str, pd.Series]) -> str:
    """At how many places, of all trainings, a part never came that came at others."""
    never = {part: (steps.isna().sum(), len(steps)) for part, steps in births.items()}
    some = [f"{part} in {n} of {all_}" for part, (n, all_) in never.items() if 0 < n < all_]
    return f" Some never appear: {', '.join(some)} cases (places times trainings)." if some else ""


def _orders(tested: Mapping[str, Claim]) -> str:
    """In which orders parts are shown to come, and in which not."""
    said = (f"{order} ({SHOWN.get(claim.verdict, 'not shown')})" for order, claim in tested.items())
    return f"Other orders: {'; '.join(said)}."


def _learned(cells: pd.DataFrame) -> Claim:
    """At the end of every training each cell is solved."""
    first = cells[cells["step"] == cells.groupby("seed")["step"].transform("min")]
    last = at_the_end(cells)
    solved, failed = last["low"] >= SOLVED, at_most(last) < SOLVED  # luck in so many cells counted
    return Claim.mechanical(
        LEARNED,
        share(int(solved.sum()), len(last)),
        verdict="holds" if solved.all() else "fails" if failed.any() else "undecided",
        null=float((first["low"] >= SOLVED).mean()),
        null_note="of the cells at the first step examined (random weights at step 0)",
        unit="of cells: place, run of nines below, carry; solved are those with an accuracy that "
        f"is surely {100 * SOLVED:.0f} % or more",
        decide="more steps (--steps), or more additions in a cell (--per-cell)",
    )


def _nothing_at_first(roles: pd.DataFrame) -> Claim:
    """Random weights play no role: the method finds nothing where nothing was learned."""
    heads = roles[(roles["kind"] == "head") & (roles["step"] == 0)]
    return Claim.mechanical(
        NOTHING,
        share(int((heads["role"] != "none").sum()), len(heads)),
        below=MOST_AT_FIRST, null=MOST_AT_FIRST, check=True, unit="of heads, at each place",
        null_note="largest share that counts as none; the estimate is the one with random weights",
        decide="more trainings (--seeds)", needs="trainings that kept step 0 (keep_at)",
    )  # fmt: skip


def _comes_later(rows: pd.DataFrame) -> Claim:
    """Whether long runs come after none, in doublings of the steps of training, over seeds."""
    rows = rows[(rows["earlier"] == "carry") & (rows["later"] == "longest run")].dropna()
    found = None
    if len(rows):
        mean, low, high, p = mean_of_few(rows["doublings"].to_numpy())
        found = Estimate(mean, low, high, len(rows), p if np.isfinite(low) else None)
    return Claim.mechanical(
        LATER, found, above=0.0, null=0.0,
        null_note="both at the same step; the interval is Student's over trainings",
        unit="doublings of the steps of training from one to the other",
        more="trainings (--seeds)",
        needs="3 trainings or more (--seeds) in which both come to stay, not equally far apart in "
        "all: train longer (--steps) or examine more often (--examined)",
    )  # fmt: skip


def _in_order(what: str, trend: pd.DataFrame) -> Claim:
    """Whether parts come in the order that people would expect; reversed, the claim fails."""
    rows = trend[(trend["what"] == what) & (trend["training"] == "all")].dropna(subset="tau")
    label, sentence = HUMAN[what]
    tell = partial(
        Claim.mechanical, sentence, family="Parts come in the order in which people add",
        label=label, unit="rank correlation of date and order (tau-b), mean over trainings",
        null=0.0, null_note="dates exchanged at random between places or runs of each training; "
        "the interval is Student's over trainings, where they differ",
    )  # fmt: skip
    if rows.empty or rows.iloc[0]["n"] < 3:
        return tell(None, needs="parts that come at different steps in 3 trainings: examine more "
                    "often (--examined), or more trainings (--seeds)")  # fmt: skip
    found = Estimate(*(rows.iloc[0][name] for name in ("tau", "low", "high", "n", "p")))
    agree = not found.low <= 0 <= found.high  # where all trainings are alike there is no interval
    holds, turned = agree and found.estimate > 0, agree and found.estimate < 0
    return tell(found, holds=bool(holds and found.p <= LEVEL), decide="more trainings (--seeds)",
                p_fails=found.p if turned else 1.0)  # fmt: skip


def _agree(dealt: str, agreement: pd.DataFrame) -> Claim:
    """Whether roles at the end agree over trainings more than roles dealt out at random."""
    rows = agreement[(agreement["dealt"] == dealt) & (agreement["pair"] == "all")].dropna()
    needs = "2 trainings or more (--seeds), long enough (--steps) for heads to get roles"
    if rows.empty:
        return Claim.not_tested("mechanical", AGREE[dealt], needs)
    row, pairs = rows.iloc[0], (agreement["dealt"] == dealt).sum() - 1
    excess = float(row["estimate"] - row["null"])
    return Claim.mechanical(
        AGREE[dealt],
        Estimate(excess, np.nan, np.nan, pairs, row["p"]),
        verdict="holds" if row["p"] <= LEVEL and excess > 0 else "undecided",
        null=0.0,
        null_note=f"roles dealt out {dealt}, heads matched in the same way: {row['null']:.2f} of "
        f"the roles coincide, in 95 % of deals {row['low']:.2f} to {row['high']:.2f}",
        unit="share of roles that coincide, above that of roles dealt at random",
        decide="more trainings (--seeds)",
    )


def timelines(births: pd.DataFrame) -> tuple[dict[str, Drawing], dict[str, Drawing]]:
    """When every part came, by place: over trainings, and in each."""
    if births["step"].isna().all():
        return {}, {}
    part = births["part"].replace(PARTS).str.replace("run", "carries over nines:")
    named = births.assign(part=part, seed=_named(births["seed"]))
    by = named.groupby(["part", "place"], sort=False)["step"]
    over = by.agg(step="median", low="min", high="max").reset_index()
    hero = {
        "When each part came": bars(
            over.assign(place=_named(over["place"], "place")),
            "part",
            "step",
            series="place",
            low="low",
            high="high",
            caption="The first step from which each part of addition was there to stay: the median "
            "over trainings, lines from the earliest to the latest. On top are skills: column "
            "sums, carries over no nines, then over 1, 2, ... nines. Below are the heads that do "
            "it, single or all those of a layer. Only carries over more or fewer nines are asked "
            "in the same way; sums, carries and heads have bars of their own.",
        )
    }
    by_training = {
        "When each part came, by training": bars(
            named.assign(place=_named(births["place"], "place")),
            "part",
            "step",
            series="place",
            facet="seed",
            low="before",
            high="step",
            caption="The same for each training. Lines reach back to the step examined before. "
            "Parts that never came have no point.",
        )
    }
    return hero, by_training


def one_training(cells: pd.DataFrame) -> dict[str, Drawing]:
    """What the first training can do at each step examined, cell by cell."""
    seed = cells["seed"].min()
    rows = cells[(cells["seed"] == seed) & (cells["place"] < cells["place"].max())]
    rows = rows.sort_values(["place", "run", "carry", "step"])
    nines = rows["run"].astype(str) + rows["run"].map({1: " nine"}).fillna(" nines")
    cell = _named(rows["place"], "place") + ", " + nines
    came = rows["carry"].map({0: "no carry comes in", 1: "a carry comes in"})
    return {
        f"Seed {seed} as it learns": heat_map(
            rows.assign(cell=cell, came=came), "cell", "step", "accuracy", facet="came",
            low=0, high=1, label="accuracy of the digit",
            caption=f"Seed {seed}, step by step from left to right. A row is a kind of digit: its "
            "place (0: units) and the nines just below it. One that darkens late is learned late; "
            "one that fades again was right for a reason that was given up. Hatched: cannot be.",
        )
    }  # fmt: skip


def learning(loss: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Drawing]:
    """Accuracy by run of nines, and loss of each digit, over the steps of training."""
    below = cells[cells["place"] < cells["place"].max()]
    pooled = below.groupby(["seed", "step", "run", "carry"])[["n", "correct"]].sum()
    runs = with_accuracy(pooled.reset_index())
    came = runs["carry"].map({0: "no carry", 1: "a carry"})
    runs = runs.assign(run=_named(runs["run"], "run"), panel=_named(runs["seed"]) + ", " + came)
    digits = loss.assign(seed=_named(loss["seed"]), place=_named(loss["place"], "place"))
    how = {"x": "step", "log_x": True}
    return {
        "Accuracy by run of nines": curves(
            runs, y="accuracy", series="run", facet="panel", **how,
            caption="Accuracy of digits by the number of nines in a row just below them (run), "
            "over all places but the leading one, which is 0 or 1 anyway. Bands: 95 %. Where lines "
            "part, the adder does not look as far as the longer run.",
        ),
        "Loss by digit": curves(
            digits, y="loss", series="place", facet="seed", **how,
            caption="Loss of each answer digit on the additions trained on, in nats. A digit of "
            "which nothing is known costs ln 10 = 2.3; one whose column is added without its carry "
            "costs ln 2 = 0.69 at most.",
        ),
    }  # fmt: skip


def side_by_side_figures(roles: pd.DataFrame, ablation: pd.DataFrame) -> dict[str, Drawing]:
    """Roles of the trained heads side by side, and what is lost without them."""
    ends = side_by_side(roles)
    named = ends[["seed", "layer", "head", ROW, "panel"]].drop_duplicates()
    lost = lost_without(ablation).merge(named)
    grid = {"rows": ROW, "columns": "place", "facet": "panel", "low": 0, "high": 1}
    return {
        "Heads that move the carry": heat_map(
            ends, value="carry_flip", text="letter", label="share of carries that flip", **grid,
            caption="How many carries flip when a single head, at the token that predicts the "
            "digit, is given what it computed for an addition with the other carry. Heads of each "
            "seed stand in the row of the head of the first seed with which they share most roles: "
            "equal panels mean that trainings end alike but for the numbers of heads. Letters: c "
            "carry, b sum of the column, cb both, n only carries over nines.",
        ),
        "Heads that move the sum of a column": heat_map(
            ends, value="base_flip", text="letter", label="share of digits that follow", **grid,
            caption="How many digits become the other addition's when a single head is given what "
            "it computed for another sum in the same column. Rows and letters as before.",
        ),
        "Accuracy without a head": heat_map(
            lost, value="accuracy", **grid,
            caption="Accuracy of digits that a carry comes into when a head's output is replaced "
            "by its mean. A head that is needed and has no role shares its work with others. Rows "
            "as before.",
        ),
        "The carry, all heads of a layer together": curves(
            together(roles), "step", "carry_flip", series="place", facet="panel", log_x=True,
            caption="How many carries flip when all heads of a layer are exchanged together, for "
            "the layer where most do. A carry that heads share shows here and in no single head.",
        ),
    }  # fmt: skip


def agreement_figures(agreement: pd.DataFrame) -> dict[str, Drawing]:
    """How much trainings agree, beside roles dealt out at random."""
    if agreement.empty:
        return {}
    found = agreement.assign(roles="found", agreement=agreement["estimate"])
    found[["low", "high"]] = np.nan
    chance = agreement.assign(roles="dealt at random", agreement=agreement["null"])
    both = pd.concat([found, chance], ignore_index=True)
    return {
        "Do trainings end alike?": bars(
            both.assign(dealt="dealt out " + both["dealt"]), "pair", "agreement", series="roles",
            facet="dealt",
            caption="Share of roles that coincide between two trainings when the heads of each "
            "layer are matched as well as can be. Beside it the same with the roles of each place "
            "dealt out at random, to any head or within the layer (95 % of 1,000 deals).",
        )
    }  # fmt: skip


def side_by_side(roles: pd.DataFrame) -> pd.DataFrame:
    """Single heads at the end, each in the row of the head of the first seed that it matches."""
    final = final_roles(roles)
    first = next(iter(final.values()))
    heads = at_the_end(roles[roles["kind"] == "head"]).copy()
    for seed, table in final.items():
        partners = matched(first, table)
        for layer, row in enumerate(partners):
            mine = (heads["seed"] == seed) & (heads["layer"] == layer)
            like = {int(head): number for number, head in enumerate(row)}
            heads.loc[mine, ROW] = [f"L{layer}H{like[h]}" for h in heads.loc[mine, "head"]]
    heads["letter"] = heads["role"].map(LETTERS)
    heads["panel"] = _named(heads["seed"])
    return heads.sort_values(["seed", ROW, "place"], ignore_index=True)


def lost_without(ablation: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by place of digits that a carry comes into, each head ablated, at the end."""
    last = at_the_end(ablation)
    return last[last["carry"] == 1].drop(columns="carry")


def together(roles: pd.DataFrame) -> pd.DataFrame:
    """Flips of the carry by all heads of one layer, the layer that flips most, over the steps."""
    joint = roles[(roles["kind"] == "attention") & (roles["place"] > 0)]
    most = joint.groupby(["seed", "step", "place"])["carry_flip"].max().reset_index()
    return most.assign(panel=_named(most["seed"]), place=_named(most["place"], "place"))


def at_the_end(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step of each training."""
    return rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]


def _named(numbers: pd.Series, what: str = "seed") -> pd.Series:
    """Numbers as names, so that each is a series or a panel of its own."""
    return what + " " + numbers.astype(str)
