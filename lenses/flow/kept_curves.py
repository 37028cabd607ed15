"""How much of a prediction the pieces that a flow diagram ranks first can keep (SCIENCE 8).

Insertion: only the first pieces are kept. Deletion: they alone are ablated (Petsiuk et al. 2018,
section 3.2, for pixels). What is left of a prediction is the probability of the token that is
explained over what it was, at most 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.flow.faithfulness import (
    Absent,
    Clean,
    Pieces,
    area,
    best_first,
    gradient_scores,
    with_only,
)
from lenses.flow.splits import RULES, Split, splits
from lenses.flow.trace import Flow, Threshold, trace
from lenses.kept import Moments, PerPrompt
from lenses.statistics.grid import grid
from lenses.statistics.intervals import Intervals, bootstrap, wilson
from models import Model

RANDOM_SHARES, RANDOM_ORDER, GRADIENT_ORDER = "random shares", "random order", "gradient order"
ORDERS = (*RULES, GRADIENT_ORDER, RANDOM_SHARES, RANDOM_ORDER)
"""Rules; pieces by what the prediction loses without each to first order; the diagram of shares
that are drawn by chance; pieces in an order drawn by chance."""
ABLATIONS = ("zero", "mean")
"""A piece becomes nothing, or the mean of its layer over the texts."""
KEPT = (0.05, 0.15, 0.35, 0.65)
REMOVED = (0.01, 0.05, 0.2)
"""Shares of the mass between 0 and 1 at which curves are measured; without the first pieces
little is left."""
MEASURES = ("kept first", "removed first", "between")
"""Areas: under the curve of insertion, under that of deletion, and the first less the second."""
THRESHOLDS = (
    *(Threshold("top-p", value) for value in (0.7, 0.9, 0.95)),
    *(Threshold("top-k", value) for value in (2, 4, 8)),
    *(Threshold("minimum weight", value) for value in (0.003, 0.001, 0.0003, 0.0001)),
)
Equal = Literal["mass", "links"]


@dataclass(frozen=True)
class Means:
    """What is kept of the texts for mean ablation: values and MLPs, of first tokens and others."""

    value: Moments
    mlp: Moments

    @classmethod
    def empty(cls) -> "Means":
        """Before any text."""
        return cls(Moments(2), Moments(2))

    def update(self, clean: Clean) -> None:
        """Take in the tokens of a text."""
        place = (torch.arange(len(clean.tokens)) > 0).long()
        self.value.update(clean.gathered.detach(), place)
        self.mlp.update(clean.added.detach(), place)

    def absents(self, clean: Clean) -> tuple[Absent, Absent]:
        """What stands in for pieces of a text, by each of ABLATIONS."""
        mean = Absent(
            torch.from_numpy(self.value.state()["mean"]).to(clean.gathered),
            torch.from_numpy(self.mlp.state()["mean"]).to(clean.added),
        )
        return Absent.zero(clean), mean


def pieces_of(flow: Flow, clean: Clean) -> Float[Tensor, "piece"]:
    """The weights of a diagram's links, as scores of pieces."""
    mlp = flow.mlp if len(clean.mass.mlp) else clean.mass.mlp
    return Pieces(flow.attention.to(clean.mass.mlp), mlp.to(clean.mass.mlp)).flat()


def random_shares(split: Split, rng: np.random.Generator) -> Split:
    """The same joints with shares drawn by chance; half of each goes to the residual stream."""

    def drawn(like: Tensor) -> Tensor:
        return torch.from_numpy(rng.exponential(size=like.shape)).to(like)

    attention = drawn(split.attention).tril()
    residual = drawn(split.residual) * torch.arange(1, len(split.residual[0]) + 1)
    whole = attention.sum(-1) + residual
    return replace(
        split,
        attention=attention / whole[..., None],
        residual=residual / whole,
        bias=torch.zeros_like(split.bias),
        mlp=torch.from_numpy(rng.uniform(size=split.mlp.shape)).to(split.mlp),
    )


def orders_of(
    model: Model, clean: Clean, rng: np.random.Generator
) -> tuple[Float[Tensor, "order piece"], float]:
    """Scores of all pieces by each of ORDERS, and how far any diagram's weights are from 1."""
    found, depth = splits(model, clean.tokens, target=clean.token), len(clean.mass.attention)
    by_rule = [*(found[rule] for rule in RULES), random_shares(found["norms"], rng)]
    flows = [trace(split, depth, -1) for split in by_rule]
    scores = [pieces_of(flow, clean) for flow in flows]
    scores.insert(len(RULES), gradient_scores(model, clean).flat())
    scores.append(torch.from_numpy(rng.uniform(size=len(scores[0]))).to(scores[0]))
    return torch.stack(scores), float(np.max([flow.error for flow in flows]))


def masses(clean: Clean, equal: Equal) -> Float[Tensor, "piece"]:
    """What each piece counts: its mass, or 1 for each that is there."""
    mass = clean.mass.flat()
    return mass if equal == "mass" else (mass > 0).to(mass)


def curves_of(
    model: Model, clean: Clean, means: Means, equal: Equal, rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "..."]]:
    """All curves of one text: what is left, and the KL, over shares kept and shares removed.

    Ends included: `inserted_left` [order ablation share], and so on. `errors`: of all kept from the
    model's own prediction, of the weights of diagrams from 1.
    """
    scores, flow_error = orders_of(model, clean, rng)
    mass, orders = masses(clean, equal), len(scores)
    nothing = torch.zeros_like(scores[:1], dtype=torch.bool)
    first = best_first(scores, mass, (*KEPT, *REMOVED), rng)
    kept, removed = first.split([len(KEPT), len(REMOVED)], dim=1)
    rows = torch.cat([nothing, ~nothing, kept.flatten(0, 1), ~removed.flatten(0, 1)])
    found: dict[str, list[np.ndarray]] = {}
    off = []
    for absent in means.absents(clean):
        outcome = with_only(model, clean, clean.mass.unflat(rows), absent)
        nats = outcome.log_probability - float(clean.log_p[clean.token])
        off.append(abs(nats[1]))
        for name, value in (("left", np.exp(np.minimum(nats, 0))), ("kl", outcome.kl)):
            for way, curve in _curves(value, orders).items():
                found.setdefault(f"{way}_{name}", []).append(curve)
    stacked = {name: np.stack(values, axis=1) for name, values in found.items()}
    return stacked | {"errors": np.array([max(off), flow_error])}


def _curves(
    values: Float[np.ndarray, "row"], orders: int
) -> dict[str, Float[np.ndarray, "order share"]]:
    """Rows of `curves_of` as curves with both ends."""
    nothing, everything = (np.full((orders, 1), end) for end in values[:2])
    kept, removed = np.split(values[2:], [orders * len(KEPT)])
    kept, removed = kept.reshape(orders, -1), removed.reshape(orders, -1)
    return {
        "inserted": np.concatenate([nothing, kept, everything], axis=1),
        "deleted": np.concatenate([everything, removed, nothing], axis=1),
    }


def areas_of(
    inserted: Float[np.ndarray, "*cell kept"], deleted: Float[np.ndarray, "*cell removed"]
) -> Float[np.ndarray, "*cell measure"]:
    """Each of MEASURES."""
    first, second = area(_ended(KEPT), inserted), area(_ended(REMOVED), deleted)
    return np.stack([first, second, first - second], axis=-1)


def _ended(shares: Sequence[float]) -> Float[np.ndarray, "share"]:
    return np.array([0.0, *shares, 1.0])


def thresholds_of(
    model: Model, clean: Clean, means: Means, equal: Equal, rule: str
) -> Float[np.ndarray, "threshold number"]:
    """For each of THRESHOLDS: links drawn, share of the mass, what is left by each ablation."""
    split = splits(model, clean.tokens, [rule], target=clean.token)[rule]
    drawn = torch.stack(
        [pieces_of(trace(split, len(split.mlp), -1, how), clean) > 0 for how in THRESHOLDS]
    )
    mass, own = masses(clean, equal), float(clean.log_p[clean.token])
    share = (drawn * mass).double().sum(-1) / mass.double().sum()
    nats = [
        with_only(model, clean, clean.mass.unflat(drawn), absent).log_probability - own
        for absent in means.absents(clean)
    ]
    left = np.exp(np.minimum(nats, 0))
    return np.stack(
        [(drawn & (mass > 0)).sum(-1).cpu().numpy(), share.cpu().numpy(), *left], axis=1
    )


def curve_rows(curves: PerPrompt, seed: int) -> pd.DataFrame:
    """What is left along every curve, mean over prompts with its interval; the KL beside it."""
    frames = []
    for way, shares in (("inserted", KEPT), ("deleted", REMOVED)):
        left, kl = (_and_both(curves[f"{way}_{name}"]) for name in ("left", "kl"))
        axes = {"order": ORDERS, "ablation": (*ABLATIONS, "both"), "share": _ended(shares).tolist()}
        rows = grid(axes, **_within(0, bootstrap(left, seed)), kl=kl.mean(0))
        frames.append(rows.assign(way=way))
    return pd.concat(frames, ignore_index=True)


def _and_both(
    values: Float[np.ndarray, "prompt order ablation *cell"],
) -> Float[np.ndarray, "prompt order either_or_both *cell"]:
    """With the mean of the ablations as one more."""
    return np.concatenate([values, values.mean(2, keepdims=True)], axis=2)


def area_rows(curves: PerPrompt) -> pd.DataFrame:
    """Each of MEASURES of every prompt, by both ablations."""
    areas = areas_of(curves["inserted_left"], curves["deleted_left"])
    axes = {"prompt": len(areas), "order": ORDERS, "ablation": ABLATIONS, "measure": MEASURES}
    return grid(axes, area=areas)


def areas_between(areas: pd.DataFrame) -> pd.DataFrame:
    """Area between the curves by prompt and order, mean of both ablations; NaN where one lacks."""
    rows = areas[areas["measure"] == "between"]
    by = rows.assign(known=rows["area"].notna()).groupby(["prompt", "order"])
    return by["area"].mean().where(by["known"].all()).unstack()


def best_rows(areas: pd.DataFrame) -> pd.DataFrame:
    """For each prompt the rule that is best on the others, and its area on this one."""
    wide = areas_between(areas)
    own = wide[list(RULES)].to_numpy()
    chosen = best_elsewhere(own)
    return pd.DataFrame(
        {
            "prompt": range(len(wide)),
            "rule": [list(RULES)[number] for number in chosen],
            "area": own[np.arange(len(own)), chosen],
            "random": wide[RANDOM_SHARES].to_numpy(),
        }
    )


def score_rows(curves: PerPrompt, seed: int) -> pd.DataFrame:
    """Area between the curves of every order by each ablation and both, mean over prompts."""
    between = areas_of(curves["inserted_left"], curves["deleted_left"])[..., -1]
    axes = {"order": ORDERS, "ablation": (*ABLATIONS, "both")}
    return grid(axes, **_within(-1, bootstrap(_and_both(between), seed)))


def best_elsewhere(areas: Float[np.ndarray, "prompt rule"]) -> Int[np.ndarray, "prompt"]:
    """For each prompt the rule with the largest mean area over all other prompts."""
    return (areas.sum(0) - areas).argmax(axis=1)


def threshold_rows(found: Float[np.ndarray, "prompt threshold number"], seed: int) -> pd.DataFrame:
    """What each threshold draws and leaves, mean over prompts and ablations, with intervals."""
    links, mass, left = found[..., 0], found[..., 1], found[..., 2:].mean(-1)
    names = [f"{how.kind} {how.value:g}" for how in THRESHOLDS]
    rows = grid({"threshold": names}, **_within(0, bootstrap(left, seed)))
    worth = _within(-1, bootstrap(left - mass, seed))
    ends = {"worth": worth["estimate"], "worth_low": worth["low"], "worth_high": worth["high"]}
    return rows.assign(links=links.mean(0), mass=mass.mean(0), **ends)


def best_rule(best: pd.DataFrame) -> str:
    """The rule that is best most often, of `best_rows`."""
    return best["rule"].mode()[0]


def ranked(scores: pd.DataFrame) -> list[str]:
    """Rules by their area between the curves, mean of both ablations, largest first."""
    both = scores.query("ablation == 'both'").set_index("order")["estimate"]
    return both[list(RULES)].sort_values(ascending=False).index.tolist()


def curve_tables(curves: PerPrompt, seed: int) -> dict[str, pd.DataFrame]:
    """All tables of what `curves_of` found: curves, areas of prompts, scores, the best rules."""
    areas = area_rows(curves)
    return {
        "curves": curve_rows(curves, seed),
        "areas": areas,
        "scores": score_rows(curves, seed),
        "best": best_rows(areas),
    }


def _within(least: float, found: Intervals) -> dict[str, np.ndarray]:
    """Estimates of numbers from `least` to 1, with intervals that stay there.

    Each end is the tighter of the bootstrap's and Wilson's. The latter holds for all numbers in a
    range, which vary at most as much as shares of yes and no do; the former reaches far out where
    nearly all numbers are equal.
    """
    width = 1 - least
    found = found.within(least, 1)
    place = ((found.estimate - least) / width).clip(0, 1)
    low, high = (least + width * end for end in wilson(place * found.n, found.n))
    unknown = np.isnan(found.low)
    low = np.where(unknown, np.nan, np.fmax(low, found.low))
    high = np.where(unknown, np.nan, np.fmin(high, found.high))
    return {"estimate": found.estimate, "low": low, "high": high, "n": found.n}
