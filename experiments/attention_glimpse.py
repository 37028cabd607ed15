"""Can a tiny network learn where to look?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table
from lenses.flow.glimpse import letters_said, moved_row, network_row, training_rows
from lenses.statistics.intervals import FEWEST, Intervals, bootstrap, share
from models.planted.glimpse import planted_glimpse
from models.train.glimpse import KINDS, Recipe
from prompts.cued import COLOURS, LETTERS, cued
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

SURE = 0.95
"""Of new cases that a network answers: from here on it has learned the task."""
HALF = 0.5
PLACEBO = 0.1
"""How far above an even share the weight of the cued slot may be where it is not the right one."""
TOLERANCE = 1e-6
MORE = "trainings (--seeds)"
NEEDS = f"{FEWEST} trainings or more (--seeds)"
NAMES = {
    "attention": "with attention",
    "even weights": "without: even weights",
    "hidden layer": "without: a hidden layer",
    "shuffled answers": "with attention, answers by lot",
}
"""Networks in words."""
RIVALS = {
    "even weights": "the same network with even weights",
    "hidden layer": "a network with a hidden layer over all slots",
}


class AttentionGlimpse(Experiment):
    """A tiny network is trained to answer "blue? red C, blue H, green A" with H; which of the slots
    to look at it must find out by itself.

    A case has slots, each with a colour and a letter, and a cue: one of the colours. The right
    place is the slot of the cued colour and differs from case to case. The network has four steps.
    The embedding of the cue is scored against each slot; a softmax makes *weights* of the scores;
    the *glimpse* is the sum of all slots, each multiplied by its weight; a linear layer reads the
    letter from the glimpse (and the cue). Nobody tells it where to look: it is trained on letters
    alone.

    Its rivals are trained on the same cases: the same network whose weights are even, and one that
    sees all slots in their places through a hidden layer, with many times the parameters. As a
    placebo, attention is also trained on answers from slots that are drawn by lot: then no place is
    the right one, and none should be found. All are asked cases that they never saw.

    At the end the weights are moved by hand: all of the weight goes to another slot. If the answer
    becomes that slot's letter, the network says what it looks at.
    """

    needs_model: ClassVar[bool] = False
    runs_on: ClassVar[str] = "no model 15 s"
    quick: ClassVar[dict[str, Any]] = {"steps": 60, "seeds": 2, "cases": 200}

    model: str = "none"
    """Not used: the networks are trained here."""
    batch_size: int = Field(128, ge=1)
    """Cases in one step of training."""
    slots: int = Field(8, ge=2, le=len(COLOURS))
    """Slots of a case."""
    width: int = Field(16, ge=1)
    """Length of an embedding."""
    steps: int = Field(300, ge=2)
    """Steps of each training."""
    learning_rate: float = Field(0.02, gt=0)
    """Learning rate of Adam."""
    seeds: int = Field(5, ge=1)
    """Trainings of each network, which differ in their first weights and in their cases."""
    cases: int = Field(1000, ge=10)
    """New cases that each network is asked."""

    tables: ClassVar[Mapping[str, Table]] = {
        "networks": Table(
            "A row is a network at one step of one training, asked new cases.",
            key="network seed step",
            columns={
                "network": "`attention`; its rivals without it, `even weights` and `hidden layer`; "
                "`shuffled answers`: attention trained on answers by lot; `planted`: weights "
                "written by hand",
                "seed": "seed of the training: of its first weights and its cases",
                "step": "steps of training done",
                "right_weight": "mean weight of the slot that the cue names; empty without weights",
                "parameters": "how many numbers the network has learned",
            },
            more="n correct accuracy low high",
        ),
        "places": Table(
            "A row is a slot: how much the network with attention sees of it, by the slot that "
            "the cue names, at one step of one training.",
            key="seed step right slot",
            columns={
                "seed": "seed of the training",
                "step": "steps of training done",
                "right": "the slot that the cue names, from 0",
                "slot": "the slot that is seen, from 0",
                "attention": "mean weight of the slot; those of a row sum to 1",
            },
        ),
        "example": Table(
            "A row is a slot of the first case, at one step of the first training.",
            key="step slot",
            columns={
                "step": "steps of training done",
                "slot": "the slot, from 0",
                "shown": "its colour and its letter",
                "cue": "the colour that is asked for",
                "attention": "the weight of the slot",
            },
        ),
        "moved": Table(
            "A row is a network that was made to look at another slot than it would.",
            key="network seed",
            columns={
                "network": "`attention` after training, `untrained`, or `planted`",
                "seed": "seed of the training",
                "cued": "how many of n answers are the letter of the slot that the cue names",
                "seen": "how many of n answers are the letter of the slot that is looked at",
            },
            more="n",
        ),
        "errors": Table(
            "A row is a trained network with attention, computed a second time in another way.",
            key="seed",
            columns={
                "seed": "seed of the training",
                "weights": "how far the weights of a case are from summing to 1, at most",
                "logits": "how far glimpse and linear layer are from one matrix product, at most",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes for what is said: the weights are moved to another slot, and nothing else; "
        "accuracies are behaviour",
        assumes="the rivals are fair: trained on the same cases for as many steps, and no smaller",
        stressed="that weights show learning and not the method: they are even before training and "
        "stay so when answers come from slots by lot; one written by hand looks where it must",
        not_shown="that a larger network without attention, trained for longer, could not learn "
        "this; or that attention in language models marks what matters",
    )

    def measure(self, model: "Model | None") -> Results:
        """Train every network from every seed; no model is needed."""
        names = ("networks", "places", "example", "moved", "errors")
        tables = {name: self.rows(name) for name in names}
        asked = cued(self.cases, self.slots, np.random.default_rng([self.seed, 1]))
        plan = [(kind, seed) for seed in range(self.seed, self.seed + self.seeds) for kind in KINDS]
        how = (self.slots, self.width, self.steps, self.learning_rate, self.batch_size)
        for kind, seed in self.stream(plan, keep=tables.values(), label="training"):
            found = training_rows(kind, Recipe(*how, seed), asked, self.seed)
            for name, rows in found.items():
                tables[name].append(pd.DataFrame(rows))
        planted = planted_glimpse()
        row = network_row("planted", self.seed, 0, planted, asked)
        tables["networks"].append(pd.DataFrame([row]))
        row = moved_row("planted", self.seed, planted, asked, self.seed)
        tables["moved"].append(pd.DataFrame([row]))
        return Results(tables)

    def headline(self, results: Results) -> str:
        """How well the networks answer with attention and without, and where it looks."""
        ends = _ends(results.tables["networks"])
        said = ends.groupby("network")[["accuracy", "right_weight", "parameters"]].mean()
        own, even, wide = (said.loc[name] for name in KINDS[:3])
        told = "Yes" if self.claims(results)[0].verdict == "holds" else "Not shown at this size"
        return (
            f"{told}: after {ends['step'].max():,} steps of training the network with attention "
            f"answers {100 * own['accuracy']:.0f} % of new cases and puts "
            f"{100 * own['right_weight']:.0f} % of its weight on the right one of {self.slots} "
            f"slots. Without attention the same network answers {100 * even['accuracy']:.0f} %, "
            f"and one with a hidden layer and {wide['parameters'] / own['parameters']:.0f} times "
            f"the parameters {100 * wide['accuracy']:.0f} %."
        )

    def claims(self, results: Results) -> list[Claim]:
        """Does it answer, better than its rivals, by looking at the right place?"""
        networks, moved = results.tables["networks"], results.tables["moved"]
        ends = _ends(networks).pivot(index="seed", columns="network")
        first = networks[networks["step"] == networks["step"].min()]
        first = first[first["network"] == "attention"]
        return [
            self._answers(ends["accuracy"]["attention"], first["accuracy"]),
            *(self._better(ends["accuracy"], rival) for rival in RIVALS),
            self._looks(ends["right_weight"]["attention"], first["right_weight"]),
            self._follows(moved),
            *self._checks(results, ends["right_weight"]["shuffled answers"]),
        ]

    def _over(self, values: pd.Series, least: float = 0) -> Intervals:
        """The mean share over trainings with its interval; of few trainings there is none."""
        return bootstrap(values.to_numpy(float), self.seed).within(least, 1)

    def _answers(self, own: pd.Series, first: pd.Series) -> Claim:
        enough = len(own) >= FEWEST
        return Claim.learned(
            "With attention the network answers at least 95 % of new cases, in more than half of "
            "the trainings.",
            share((own >= SURE).sum(), len(own)) if enough else None, above=HALF,
            null=float((first >= SURE).mean()),
            null_note=f"before training; guessing one of the {len(LETTERS)} letters gives "
            f"{1 / len(LETTERS):.2f} of the cases",
            unit="share of trainings", needs=NEEDS, decide="longer trainings (--steps)",
        )  # fmt: skip

    def _better(self, accuracy: pd.DataFrame, rival: str) -> Claim:
        return Claim.learned(
            f"With attention more new cases are answered than by {RIVALS[rival]}.",
            self._over(accuracy["attention"] - accuracy[rival], least=-1), above=0, null=0,
            null_note="no difference, as between networks that were not trained",
            unit="difference of the shares of new cases answered, mean over trainings",
            family="With attention against without", label=rival, needs=NEEDS, more=MORE,
        )  # fmt: skip

    def _looks(self, own: pd.Series, first: pd.Series) -> Claim:
        return Claim.learned(
            "More than half of the weight lies on the slot that the cue names, of which training "
            "says nothing.",
            self._over(own), above=HALF, null=float(first.mean()),
            null_note=f"before training; even weights give {1 / self.slots:.3f}",
            unit="weight of the right slot, mean over cases and trainings", needs=NEEDS,
            decide="longer trainings (--steps)",
        )  # fmt: skip

    def _follows(self, moved: pd.DataFrame) -> Claim:
        followed = (moved["seen"] / moved["n"]).groupby(moved["network"])
        return Claim.learned(
            "When its weights are moved to another slot, the network says that slot's letter, in "
            "more than half of cases.",
            self._over(followed.get_group("attention")), above=HALF,
            null=float(followed.get_group("untrained").mean()), null_note="before training",
            unit="share of cases in which the two slots hold different letters, mean over "
            "trainings", needs=NEEDS, decide="longer trainings (--steps)",
        )  # fmt: skip

    def _checks(self, results: Results, placebo: pd.Series) -> list[Claim]:
        """Networks with a known answer, and the arithmetic."""
        networks, errors = results.tables["networks"], results.tables["errors"]
        planted = networks[networks["network"] == "planted"].iloc[0]
        even = 1 / self.slots
        return [
            Claim.mechanical(
                "A network written by hand to look at the cued slot answers every case.",
                share(int(planted["correct"]), int(planted["n"])),
                verdict="holds" if planted["accuracy"] == 1 else "fails", check=True,
                unit="share of new cases answered",
            ),
            Claim.mechanical(
                "Where answers come from slots by lot, no place is found: the weight of the cued "
                f"slot stays within {PLACEBO:g} of an even share.",
                self._over(placebo), below=even + PLACEBO, null=even, null_note="even weights",
                unit="weight of the cued slot, mean over cases and trainings", check=True,
                needs=NEEDS, decide="longer trainings (--steps)",
            ),
            Claim.identity(
                "The weights of a case sum to 1.", errors["weights"], within=TOLERANCE,
                unit=f"largest difference; tolerance {TOLERANCE:g}",
            ),
            Claim.identity(
                "Slots times weights, summed, then the linear layer, are one matrix product.",
                errors["logits"], within=TOLERANCE,
                unit=f"largest difference of a logit; tolerance {TOLERANCE:g}",
            ),
        ]  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Where it looks before, during and after; how well it answers; one case."""
        tables = results.tables
        return {
            **_places_figure(tables["places"], tables["networks"]),
            **_accuracy_figures(tables["networks"]),
            **_example_figure(tables["example"]),
            **_moved_figure(tables["moved"]),
        }


def _ends(networks: pd.DataFrame) -> pd.DataFrame:
    """The trained networks after their last step."""
    trained = networks[networks["network"] != "planted"]
    return trained[trained["step"] == trained["step"].max()]


def _named(step: int, last: int) -> str:
    """Before, during or after training."""
    when = "before" if step == 0 else "after" if step == last else "during"
    return f"{when} (step {step:,})"


def _places_figure(places: pd.DataFrame, networks: pd.DataFrame) -> dict[str, Drawing]:
    own = networks[networks["network"] == "attention"]
    weight, steps = own.groupby("step")["right_weight"].mean(), places["step"]
    middle = (weight - (weight.iloc[0] + weight.iloc[-1]) / 2).abs().idxmin()
    shown = places[steps.isin([0, middle, steps.max()])]
    mean = shown.groupby(["step", "right", "slot"], as_index=False)["attention"].mean()
    mean["when"] = [_named(step, steps.max()) for step in mean["step"]]
    mean = mean.rename(columns={"right": "slot that the cue names", "slot": "slot that is seen"})
    return {
        "Where the network looks, before, during and after training": heat_map(
            mean, "slot that the cue names", "slot that is seen", "attention", facet="when",
            low=0, high=1, label="weight of the slot (each row sums to 1)",
            caption="Weights of the slots, mean over new cases and trainings. Each row is a place "
            "that the cue may name. Before training the weights are nearly even in every row; "
            "after it the diagonal has them: the network looks at the slot that the cue names, "
            "wherever that slot stands.",
        )
    }  # fmt: skip


def _accuracy_figures(networks: pd.DataFrame) -> dict[str, Drawing]:
    trained = networks[networks["network"] != "planted"]
    trained = trained.assign(network=trained["network"].map(NAMES))
    answered = trained[trained["network"] != NAMES["shuffled answers"]]
    weighed = trained[trained["network"].isin([NAMES["attention"], NAMES["shuffled answers"]])]
    weighed = weighed.rename(columns={"right_weight": "weight (share)"})
    told = {
        "n": "mean over trainings; bands go from the lowest to the highest training",
        "even": "Without attention the best guess is the letter that most of the slots hold.",
    }
    return {
        "Answers during training": curves(
            _means(answered, "accuracy"), "steps of training", "accuracy", series="network",
            reference=1 / len(LETTERS),
            caption=f"Share of new cases answered, {told['n']}. Dashed: guessing one of the "
            f"{len(LETTERS)} letters. {told['even']}",
        ),
        "The weight of the right slot": curves(
            _means(weighed, "weight (share)"), "steps of training", "weight (share)",
            series="network",
            caption=f"Weight of the slot that the cue names, {told['n']}. As a placebo, attention "
            "was also trained on answers that come from slots drawn by lot: then no slot is the "
            "right one, and none is found.",
        ),
    }  # fmt: skip


def _means(networks: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean, least and most of the trainings, by network and step."""
    by = networks.groupby(["network", "step"], sort=False)[value]
    means = by.agg(mean="mean", low="min", high="max").reset_index()
    return means.rename(columns={"mean": value, "step": "steps of training"})


def _example_figure(example: pd.DataFrame) -> dict[str, Drawing]:
    last, cue = example["step"].max(), example["cue"].iloc[0]
    shown = example.assign(
        slot=(example["slot"] + 1).astype(str) + ": " + example["shown"],
        training=[f"step {step:,}" for step in example["step"]],
        written=[f"{weight:.2f}" for weight in example["attention"]],
    )
    return {
        f"One case: “{cue}?”": heat_map(
            shown, "training", "slot", "attention", text="written", low=0, high=1,
            label="weight of the slot (each row sums to 1)",
            caption=f"Weights in one new case, in the first training, from its first step to step "
            f"{last:,}. The cue asks for {cue}; the answer is the letter beside it.",
        )
    }  # fmt: skip


def _moved_figure(moved: pd.DataFrame) -> dict[str, Drawing]:
    said = letters_said(moved)
    if said.empty:
        return {}
    said = said.drop(columns=["n", "correct"]).rename(columns={"accuracy": "answers (share)"})
    said = said.replace(
        {
            "network": {"attention": "trained"},
            "letter": {"seen": "the slot seen", "cued": "the slot cued"},
        }
    )
    return {
        "What it says when it is made to look elsewhere": bars(
            said, "network", "answers (share)", series="letter",
            caption="Whose letter is said when all of the weight is moved from the slot that the "
            "cue names to another one, and nothing else is changed. A network that reads what it "
            "looks at says the letter of the slot seen. Cases in which the two slots hold "
            "different letters; lines: 95 % (Wilson). Planted: weights written by hand.",
        )
    }  # fmt: skip
