"""How well each relevance ranks the tokens of a prompt as knocking them out does (SCIENCE 3)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lenses.flow.relevance import LAYERED, AttentionRows, GradientRelevance, over_rows
from lenses.statistics.correlations import spearman
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap

TRUTHS = ("edges", "embedding")
"""What knocking a token out means: nothing after it attends to it, or its embedding is replaced."""

SCOPES = ("answer", "token")
"""One ranking for the whole answer, or one for each generated token, averaged over those."""

TARGETS = ("magnitude", "signed")
"""Sizes ranked against the sizes of drops, or signed values against signed drops."""

POOLED = tuple(measure for measure in LAYERED if measure != "rollout")
"""Relevances of which the mean and the maximum over layers are taken too."""

OTHERS = (
    ("attention_all_rows", "first", 0),
    ("attention_all_rows", "mean", None),
    ("gradient_norm", "all", None),
    ("gradient_x_input", "all", None),
    ("integrated_gradients", "all", None),
    ("recency", "none", None),
)
"""Relevances of the whole answer alone; `recency` is the token's position."""


class Label(NamedTuple):
    """What a relevance is: which measure, of which layers (`layer` where it is a single one)."""

    measure: str
    layers: str
    layer: int | None


def labels(layers: int) -> list[Label]:
    """Every relevance of a model with that many layers, in the order of `Rankings`."""
    each = [
        Label(measure, "each" if layer else "first", layer)
        for measure in LAYERED
        for layer in range(layers)
    ]
    pooled = [Label(measure, how, None) for how in ("mean", "max") for measure in POOLED]
    return [*each, *pooled, *(Label(*other) for other in OTHERS)]


@dataclass(frozen=True)
class Rankings:
    """Everything that ranks the prompt tokens of one text, and the truth about them."""

    seen: Float[Tensor, "layered row pos"]
    """What each row sees, of the relevances that rows have; generated tokens included."""
    answer: Float[np.ndarray, "cell token"]
    """Each of `labels` for the whole answer."""
    token: Float[np.ndarray, "cell row token"]
    """Each of `labels` for each generated token; NaN where it is of the whole answer alone."""
    truth: Float[np.ndarray, "truth row token"]
    """Each of TRUTHS: what each generated token loses, in nats."""

    @classmethod
    def of(
        cls,
        attention: AttentionRows,
        gradient: GradientRelevance,
        truth: Float[Tensor, "truth row token"],
    ) -> "Rankings":
        """From what was measured of one text."""
        prompt = truth.shape[-1]
        rows = attention.rows
        pooled = rows[: len(POOLED)]
        seen = torch.cat([rows.flatten(0, 1), pooled.mean(1), pooled.amax(1)])
        others = torch.stack(
            [
                attention.all_rows[0, :prompt],
                attention.all_rows.mean(0)[:prompt],
                gradient.norm,
                gradient.x_input,
                gradient.integrated,
                torch.arange(prompt).float(),
            ]
        )
        answer = torch.cat([over_rows(seen, prompt)[:, :prompt], others])
        token = torch.cat(
            [seen[..., :prompt], torch.full((len(others), *truth.shape[1:]), torch.nan)]
        )
        return cls(seen, *(part.double().numpy() for part in (answer, token, truth)))

    def __getitem__(self, name: tuple[str, str]) -> Float[np.ndarray, "token"]:
        """The relevance of a measure and `layers`, for the whole answer."""
        return self.answer[self._cell(name)]

    def of_token(
        self, name: tuple[str, str], row: int | slice = slice(None)
    ) -> Float[np.ndarray, "*row token"]:
        """The same for generated tokens."""
        return self.token[self._cell(name), row]

    def _cell(self, name: tuple[str, str]) -> int:
        layers = (len(self.seen) - 2 * len(POOLED)) // len(LAYERED)
        return [label[:2] for label in labels(layers)].index(name)

    def baseline(
        self, scored: Bool[np.ndarray, "token"], draws: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "scope draw"]:
        """What random rankings of the scored tokens score against the sizes of drops of edges."""
        random = rng.random((draws, int(scored.sum())))
        whole = agreement(random, self.truth[0].sum(0)[scored])[:, 0]
        each = agreement(random[None, :, None], self.truth[0][:, scored])
        return np.stack([whole, _mean(each)[0, :, 0]])

    def scores(
        self, scored: Bool[np.ndarray, "token"]
    ) -> Float[np.ndarray, "scope cell truth target"]:
        """Spearman's correlation with the truth over the scored tokens; NaN where undefined."""
        whole = agreement(self.answer[:, None, scored], self.truth.sum(1)[:, scored])
        each = agreement(self.token[:, None, :, scored], self.truth[..., scored])
        return np.stack([whole, _mean(each)])


def agreement(
    values: Float[np.ndarray, "*cell token"], truth: Float[np.ndarray, "*cell token"]
) -> Float[np.ndarray, "*cell target"]:
    """Rank correlation of sizes with sizes, and of signed values with signed ones."""
    shape = np.broadcast_shapes(values.shape, truth.shape)
    pairs = ((abs(values), abs(truth)), (values, truth))
    found = [spearman(*(np.broadcast_to(part, shape) for part in pair)) for pair in pairs]
    return np.stack(found, axis=-1)


def _mean(
    each: Float[np.ndarray, "cell truth row target"],
) -> Float[np.ndarray, "cell truth target"]:
    """Mean over the rows in which the correlation is defined."""
    known = ~np.isnan(each)
    total, count = np.where(known, each, 0).sum(2), known.sum(2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def rank_of(
    values: Float[np.ndarray, "*cell token"],
    words: list[list[int]],
    scored: Bool[np.ndarray, "token"],
) -> Float[np.ndarray, "*cell"]:
    """1 where every word is above all other scored tokens, 2 where one token is not below, ...

    A word's value is that of its best token; of several words the lowest counts. NaN without any,
    and where values are.
    """
    if not words:
        return np.full(values.shape[:-1], np.nan)
    lowest = np.min([values[..., word].max(-1) for word in words], axis=0)
    others = scored.copy()
    others[np.concatenate(words)] = False
    rank = 1.0 + (values[..., others] >= lowest[..., None]).sum(-1)
    return np.where(np.isnan(lowest), np.nan, rank)


def score_rows(
    scores: Float[np.ndarray, "prompt first_token scope cell truth target"],
    baseline: Float[np.ndarray, "prompt scope draw"],
    seed: int,
) -> pd.DataFrame:
    """Means over prompts with intervals, by relevance; then random rankings.

    Scores are given with the first token in and without it.
    """
    told = labels((scores.shape[3] - 2 * len(POOLED) - len(OTHERS)) // len(LAYERED))
    axes = {"first_token": (True, False), "scope": SCOPES, "cell": len(told)}
    axes |= {"truth": TRUTHS, "target": TARGETS}
    rows = grid(axes, **vars(bootstrap(scores, seed)))
    names = pd.DataFrame(told).astype({"layer": "Int64"})
    rows = names.iloc[rows.pop("cell")].reset_index(drop=True).join(rows)
    rows = rows[rows["n"] > 0]
    return pd.concat([rows, _baseline_rows(baseline)], ignore_index=True)


def _baseline_rows(baseline: np.ndarray) -> pd.DataFrame:
    """Where 95 % of the means over prompts of random rankings lie."""
    known = baseline[~np.isnan(baseline).any(axis=(1, 2))]
    if not len(known):
        return pd.DataFrame()
    means = known.mean(0)  # [scope draw]
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return pd.DataFrame(
        {
            "measure": "random", "layers": "none", "first_token": False, "scope": SCOPES,
            "truth": "edges", "target": "magnitude", "estimate": means.mean(1), "low": low,
            "high": high, "n": len(known),
        }
    )  # fmt: skip


def first_less_best(curve: Float[np.ndarray, "prompt layer"]) -> Float[np.ndarray, "prompt"]:
    """The first layer's value less that of the later layer that is best in the other prompts.

    To choose the layer on the same prompt would favour it by luck. NaN with a single layer.
    """
    later = curve[:, 1:]
    if not later.size:
        return np.full(len(curve), np.nan)
    known = ~np.isnan(later)
    rest = np.where(known, later, 0)
    count = known.sum(0) - known
    means = (rest.sum(0) - rest) / np.maximum(count, 1)
    chosen = np.where(count > 0, means, -np.inf).argmax(1)
    found = curve[:, 0] - later[np.arange(len(curve)), chosen]
    return np.where((count > 0).any(1), found, np.nan)


def beside_random(lines: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """The lines of each measure, and random rankings beside them at every layer."""
    names = {"answer": "whole answer", "token": "each generated token"}
    lines = lines.assign(line=lines["scope"].map(names))
    columns = ["measured", "line", "layer", "rank_correlation", "low", "high", "n"]
    everywhere = lines[["measured", "layer"]].drop_duplicates()
    random = random[columns[3:]].assign(line="random rankings")
    both = pd.concat([lines[columns], everywhere.merge(random, how="cross")[columns]])
    return both.astype({"layer": int}).reset_index(drop=True)


def league_rows(told: pd.DataFrame) -> pd.DataFrame:
    """One row a relevance and truth, the best first; single layers but the first left out."""
    found = told[(told["layers"] != "each") & (told["measure"] != "value_weighted")]
    which = (", " + found["layers"]).where(~found["layers"].isin(["all", "none"]), "")
    found = found.assign(relevance=found["measured"] + which)
    best = found.groupby("relevance")["rank_correlation"].transform("max")
    found = found.assign(best=best).sort_values(["best", "relevance"], ascending=False)
    columns = ["relevance", "knocked_out", "rank_correlation", "low", "high", "n"]
    return found[columns].reset_index(drop=True)
