"""Where a glimpse network looks, what it says, and what it says when it is made to look elsewhere.

Looking elsewhere is an intervention on the weights alone: all of the weight goes to another slot,
and inputs and readout stay as they are. If the answer is then that slot's letter, what is said
comes from the place that is looked at.
"""

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Bool, Float

from lenses.statistics.accuracy import with_accuracy
from lenses.statistics.intervals import wilson
from models.train.glimpse import Glimpse, Recipe, Wide, course, network
from prompts.cued import COLOURS, Cued


class Look(NamedTuple):
    """What a network does with each case."""

    right: Bool[np.ndarray, "case"]
    """Whether it says the answer."""
    weights: Float[np.ndarray, "case slot"] | None
    """How much of each slot it sees; None for a network without weights."""


@torch.inference_mode()
def look(net: Glimpse | Wide, cases: Cued) -> Look:
    """Answers and weights of a network."""
    said = net(cases).argmax(-1).numpy()
    weights = net.weights(cases).double().numpy() if isinstance(net, Glimpse) else None
    return Look(said == cases.answer, weights)


def at_the_right_place(weights: Float[np.ndarray, "case slot"], cases: Cued) -> float:
    """Mean weight of the slot that the cue names."""
    return float(weights[np.arange(len(cases)), cases.right].mean())


def by_place(
    weights: Float[np.ndarray, "case slot"], cases: Cued
) -> Float[np.ndarray, "right slot"]:
    """Mean weight of each slot, by the slot that the cue names; NaN where it names it never."""
    slots = weights.shape[1]
    named = np.eye(slots)[cases.right]
    count = named.sum(0)[:, None]
    return np.divide(named.T @ weights, count, out=np.full((slots, slots), np.nan), where=count > 0)


class Moved(NamedTuple):
    """How often each letter is said, of the cases in which the two slots hold different ones."""

    cued: int
    """That of the slot which the cue names."""
    seen: int
    """That of the slot which it was made to look at."""
    cases: int


@torch.inference_mode()
def made_to_look_elsewhere(net: Glimpse, cases: Cued, seed: int) -> Moved:
    """All of the weight goes to a slot drawn from the others."""
    number = np.arange(len(cases))
    slots = cases.colour.shape[1]
    elsewhere = (cases.right + np.random.default_rng(seed).integers(1, slots, len(cases))) % slots
    weights = torch.eye(slots)[torch.from_numpy(elsewhere)]
    said = net(cases, weights).argmax(-1).numpy()
    own, other = (cases.letter[number, slot] for slot in (cases.right, elsewhere))
    differ = own != other
    counts = [(said == letter)[differ].sum() for letter in (own, other)]
    return Moved(int(counts[0]), int(counts[1]), int(differ.sum()))


@torch.no_grad()
def glimpse_errors(net: Glimpse, cases: Cued) -> Float[np.ndarray, "2"]:
    """How far weights of a case are from summing to 1, and logits from those of a matrix product.

    The second computes glimpse and linear layer as one contraction of weights, inputs and readout.
    """
    net = deepcopy(net).double()
    weights, inputs, cue = net.weights(cases), net.inputs(cases), net.cue[cases.cue]
    glimpsed, of_cue = net.readout.chunk(2)
    whole = einsum(weights, inputs, glimpsed, "case slot, case slot width, width said -> case said")
    logits = net(cases) - cue @ of_cue
    errors = [(weights.sum(-1) - 1).abs().max(), (logits - whole).abs().max()]
    return np.array([error.item() for error in errors])


def network_row(
    kind: str, seed: int, step: int, net: Glimpse | Wide, asked: Cued
) -> dict[str, Any]:
    """A row of a network at a step: how many new cases it answers, with a 95 % interval."""
    found = look(net, asked)
    correct, n = int(found.right.sum()), len(asked)
    low, high = (float(end) for end in wilson(correct, n))
    seen = np.nan if found.weights is None else at_the_right_place(found.weights, asked)
    parameters = sum(weight.numel() for weight in net.parameters())
    told = {"network": kind, "seed": seed, "step": step, "right_weight": seen}
    told |= {"parameters": parameters, "n": n, "correct": correct, "accuracy": correct / n}
    return told | {"low": low, "high": high}


def place_rows(seed: int, step: int, weights: np.ndarray, asked: Cued) -> list[dict[str, Any]]:
    """Rows of the mean weight on each slot, for each slot that is the right one."""
    told = {"seed": seed, "step": step}
    grid = by_place(weights, asked)
    return [
        told | {"right": right, "slot": slot, "attention": grid[right, slot]}
        for right, slot in np.ndindex(grid.shape)
    ]


def example_rows(step: int, weights: np.ndarray, asked: Cued) -> list[dict[str, Any]]:
    """Rows of the first case: what each slot shows, and its weight."""
    cue = COLOURS[asked.cue[0]]
    return [
        {"step": step, "slot": slot, "shown": shown, "cue": cue, "attention": weight}
        for slot, (shown, weight) in enumerate(zip(asked.words(0), weights.tolist(), strict=True))
    ]


def moved_row(name: str, seed: int, net: Glimpse, asked: Cued, drawn: int) -> dict[str, Any]:
    """A row of a network made to look at other slots, which `drawn` seeds."""
    moved = made_to_look_elsewhere(net, asked, drawn)
    told = {"network": name, "seed": seed, "cued": moved.cued, "seen": moved.seen}
    return told | {"n": moved.cases}


def training_rows(
    kind: str, recipe: Recipe, asked: Cued, first: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of each table that one training gives: `networks`, and with attention the others.

    A network is asked before its first step, after its last, and at halvings between them. `first`
    is the seed of the first training, whose first case is the `example`; it also draws the slots
    that networks are made to look at.
    """
    found: dict[str, list[dict[str, Any]]] = {"networks": []}
    examined = [0, *(recipe.steps // 2**power for power in range(6))]
    for step, net in course(kind, recipe, examined):
        found["networks"].append(network_row(kind, recipe.seed, step, net, asked))
        if kind == "attention":
            weights = look(net, asked).weights
            rows = place_rows(recipe.seed, step, weights, asked)
            found.setdefault("places", []).extend(rows)
            if recipe.seed == first:
                found.setdefault("example", []).extend(example_rows(step, weights[0], asked))
    if kind == "attention":
        nets = {"attention": net, "untrained": network(kind, recipe)}
        found["moved"] = [
            moved_row(name, recipe.seed, one, asked, first) for name, one in nets.items()
        ]
        weights, logits = glimpse_errors(net, asked)
        found["errors"] = [{"seed": recipe.seed, "weights": weights, "logits": logits}]
    return found


def letters_said(moved: pd.DataFrame) -> pd.DataFrame:
    """Whose letter networks say that look elsewhere: all trainings of each together.

    `moved` has the columns of `moved_row`. A row is a network and a `letter`, that of the slot
    `seen` or of the slot `cued`: how many of n answers it is, `accuracy` their share, with Wilson's
    interval. A network without cases has no row.
    """
    whole = moved.groupby("network", sort=False)[["seen", "cued", "n"]].sum()
    whole = whole[whole["n"] > 0].reset_index()
    long = whole.melt(["network", "n"], ["seen", "cued"], "letter", "correct", ignore_index=False)
    long = long.sort_index(kind="stable").reset_index(drop=True)
    return with_accuracy(long)
