"""Everything that is measured of one text: which tokens matter, by knock-outs and by relevances.

And the tables of it: rows of one text, then of all texts.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lenses.flow.dropped_tokens import ORDERS, after_dropping
from lenses.flow.keyed_texts import KeyedText
from lenses.flow.relevance import (
    LAYERED,
    AttentionRows,
    attention_rows,
    gradient_relevance,
    inside_window,
    over_rows,
)
from lenses.flow.scores import TRUTHS, Rankings, agreement, first_less_best, labels, rank_of
from lenses.kept import PerPrompt
from lenses.patching.knock_out import answered, edge_drops, embedding_drops
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap
from models import Model
from models.parts import sinks
from models.passes import windows
from models.text import token_strings
from prompts.relevance import ROLES

FIRST_LAYER = "attention, first layer"
"""Of RANKERS and of ORDERS."""
SINK = ("mass", "even", "norm_ratio", "inside_window")
"""What is said of the first token, layer by layer."""
RANDOM_RANKINGS = 2_000
"""Of each prompt's tokens."""
RANKERS = {
    "knock-out of edges": None,
    "knock-out of the embedding": None,
    FIRST_LAYER: ("attention", "first"),
    "attention, mean": ("attention", "mean"),
    "attention, maximum": ("attention_max", "max"),
    "without sink, mean": ("attention_without_sink", "mean"),
    "value-weighted, first layer": ("value_weighted_sum", "first"),
    "value-weighted, mean": ("value_weighted_sum", "mean"),
    "gradient x input": ("gradient_x_input", "all"),
    "integrated gradients": ("integrated_gradients", "all"),
    "recency": ("recency", "none"),
}
"""What the words of a prompt are ranked by, and which relevance that is (means are over layers)."""


@dataclass(frozen=True)
class AttentionSeen:
    """What attention says of a text, in any model that reads it, and what cutting its tokens costs.

    These are the numbers that are compared with models of random weights.
    """

    text: KeyedText
    attention: AttentionRows
    drops: Float[np.ndarray, "token"]
    """What the answer loses when no later token may attend to a token (nats)."""

    @classmethod
    def of(cls, model: Model, text: KeyedText) -> "AttentionSeen":
        """Read a text with its answer, and cut off each token of its prompt in turn."""
        tokens, prompt = text.tokens(model), len(text.given)
        drops = edge_drops(model, tokens, prompt).sum(0).double().numpy()
        return cls(text, attention_rows(model, tokens, prompt), drops)

    @property
    def by_layer(self) -> Float[np.ndarray, "layer token"]:
        """Attention (mean over heads) that each prompt token gets."""
        prompt = len(self.text.given)
        return over_rows(self.attention.rows[0], prompt)[:, :prompt].double().numpy()

    def numbers(
        self,
        model: Model,
        orders: dict[str, Float[np.ndarray, "token"]],
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """The curve of agreement over layers, the sink, and what dropping tokens does."""
        prompt, rows, scored = len(self.text.given), self.attention.rows[0], self.text.scored
        sizes = windows(model, self.text.tokens(model)[:-1])
        even = 1 / np.arange(prompt, prompt + len(self.text.new))
        return {
            "curve": agreement(self.by_layer[:, scored], self.drops[scored])[:, 0],
            "mass": rows[..., 0].mean(-1).double().numpy(),
            "even": np.full(len(rows), even.mean()),
            "norm_ratio": self._norm_ratio(),
            "inside_window": inside_window(rows, prompt, sizes).double().numpy(),
            "window": np.array([np.nan if size is None else size for size in sizes]),
            "tweaks": after_dropping(model, self.text, orders, rng),
        }

    def _norm_ratio(self) -> Float[np.ndarray, "layer"]:
        """Length of the first token's state over the median of the others'."""
        first, rest = self.attention.length[:, 0], self.attention.length[:, 1:]
        usual = rest.median(-1).values if rest.numel() else rest.mean(-1)
        return (first / usual).double().numpy()


@dataclass(frozen=True)
class TextRelevance:
    """All that one text shows: both truths, every relevance, and how they rank its words."""

    seen: AttentionSeen
    rankings: Rankings
    whole: float
    """What the answer loses when every prompt token has the reference embedding."""

    @classmethod
    def of(cls, model: Model, text: KeyedText, reference: Float[Tensor, "d"]) -> "TextRelevance":
        """Measure a text; `reference` is the embedding that tokens are replaced by."""
        tokens, prompt = text.tokens(model), len(text.given)
        edges = edge_drops(model, tokens, prompt)
        truth = torch.stack([edges, embedding_drops(model, tokens, prompt, reference)])
        attention = attention_rows(model, tokens, prompt)
        gradient = gradient_relevance(model, tokens, prompt, reference)
        rankings = Rankings.of(attention, gradient, truth)
        seen = AttentionSeen(text, attention, rankings.truth[0].sum(0))
        return cls(seen, rankings, gradient.whole)

    @property
    def text(self) -> KeyedText:
        """What was read."""
        return self.seen.text

    @property
    def orders(self) -> dict[str, Float[np.ndarray, "token"]]:
        """What each of ORDERS but the random one goes by: the least is dropped first."""
        found = self.rankings
        return {
            ORDERS[0]: abs(self.seen.drops),
            ORDERS[1]: found["attention", "first"],
            ORDERS[2]: found["attention", "mean"],
            ORDERS[3]: found["value_weighted_sum", "mean"],
            ORDERS[4]: abs(found["integrated_gradients", "all"]),
        }

    def kept(self, model: Model, seed: int) -> dict[str, np.ndarray]:
        """What is kept of a text: its estimates, each with a first axis of one prompt."""
        rankings, text = self.rankings, self.text
        rng, other = (np.random.default_rng([seed, text.number, i]) for i in range(2))
        both = (text.scored | (np.arange(len(text.given)) == 0), text.scored)
        kept = {
            "scores": np.stack([rankings.scores(scored) for scored in both]),
            "baseline": rankings.baseline(text.scored, RANDOM_RANKINGS, other),
            "ranks": self.ranks(),
            "checks": self.checks(model),
            **self.seen.numbers(model, self.orders, rng),
        }
        return {name: value[None] for name, value in kept.items()}

    def ranks(self) -> Float[np.ndarray, "role ranker"]:
        """Rank of the words of each role by each of RANKERS; NaN without the word."""
        found, text = self.rankings, self.text
        if text.key_row is None:
            truth = found.truth.sum(1)
            values = [found[name] for name in RANKERS.values() if name]
        else:
            truth = found.truth[:, text.key_row]
            values = [found.of_token(name, text.key_row) for name in RANKERS.values() if name]
        ranked = np.stack([*truth, *values])
        return np.stack([rank_of(ranked, text.words[role], text.scored) for role in ROLES])

    def checks(self, model: Model) -> Float[np.ndarray, "4"]:
        """How far rows are from summing to 1 (beyond it, of attention with learned sinks), what
        integrated gradients sum to and should, and the answer's log-probability."""
        rows = self.seen.attention.rows
        sums = rows.sum(-1)
        first_sees_more = rows.shape[-1] > rows.shape[-2]
        if not first_sees_more:  # the one token that the first row sees is the sink
            sums[LAYERED.index("attention_without_sink"), :, 0] += 1
        beyond = sums - 1
        if sinks(model.blocks) is not None:
            mean = LAYERED.index("attention")
            beyond[mean] = beyond[mean].clamp(min=0)
        summing = [i for i, name in enumerate(LAYERED) if name != "attention_max"]
        error = beyond[summing].abs().max().item()
        plain = answered(model, self.text.tokens(model)[None], len(self.text.given))
        integrated = self.rankings["integrated_gradients", "all"].sum()
        return np.array([error, integrated, self.whole, plain.log_probability.sum().item()])


def relevance_rows(model: Model, found: TextRelevance) -> pd.DataFrame:
    """Every relevance and truth of every token that has one."""
    text, rankings = found.text, found.rankings
    told, prompt = labels(model.cfg.n_layers), len(text.given)
    seen = over_rows(rankings.seen, prompt).double().numpy()
    values = np.full((len(told), seen.shape[1]), np.nan)
    values[: len(seen)], values[:, :prompt] = seen, rankings.answer
    truth = np.full((len(TRUTHS), seen.shape[1]), np.nan)
    truth[:, :prompt] = rankings.truth.sum(1)
    dropped = [(f"drop_{name}", "none", None) for name in TRUTHS]
    names = pd.DataFrame([*dropped, *told], columns=["measure", "layers", "layer"])
    names = names.astype({"layer": "Int64"})
    rows = grid({"cell": len(names), "pos": seen.shape[1]}, value=np.concatenate([truth, values]))
    rows = rows.dropna(subset="value").reset_index(drop=True)
    rows = names.iloc[rows.pop("cell")].reset_index(drop=True).join(rows)
    ids = np.array(text.given + text.new[:-1])
    tokens, role = np.array(token_strings(model, ids), dtype=object), _roles(text, len(ids))
    return pd.DataFrame({
        "prompt": text.number, "pos": rows["pos"], "token_id": ids[rows["pos"]],
        "token": tokens[rows["pos"]], "role": role[rows["pos"]],
        "phase": np.where(rows["pos"] < prompt, "prompt", "generated"),
        **{name: rows[name] for name in ("measure", "layers", "layer", "value")},
    })  # fmt: skip


def _roles(text: KeyedText, length: int) -> np.ndarray:
    """Which token belongs to which word: key, misleading or none."""
    roles = np.full(length, "none", dtype=object)
    for role, words in text.words.items():
        roles[[pos for word in words for pos in word]] = role
    return roles


def pair_rows(model: Model, found: TextRelevance) -> pd.DataFrame:
    """Generated x prompt tokens: what each loses, and how it attends."""
    text, rankings = found.text, found.rankings
    axes = {"row": len(text.new), "pos": len(text.given)}
    rows = grid(
        axes,
        drop_edges=rankings.truth[0],
        drop_embedding=rankings.truth[1],
        attention_first=rankings.of_token(("attention", "first")),
        attention_mean=rankings.of_token(("attention", "mean")),
        value_weighted_mean=rankings.of_token(("value_weighted_sum", "mean")),
    )
    given, new = (token_strings(model, ids) for ids in (text.given, text.new))
    rows.insert(0, "prompt", text.number)
    rows.insert(2, "generated", [new[row] for row in rows["row"]])
    rows.insert(4, "token", [given[pos] for pos in rows["pos"]])
    return rows


def prompt_rows(
    model: Model, texts: list[KeyedText], checks: Float[np.ndarray, "prompt 4"]
) -> pd.DataFrame:
    """What was read, and what `TextRelevance.checks` gave."""
    asked = [text.prompt for text in texts]
    rows = pd.DataFrame({
        "prompt": [text.number for text in texts],
        "name": [prompt.name for prompt in asked],
        "kind": [prompt.kind for prompt in asked],
        "rewords": [prompt.of for prompt in asked],
        "given": [model.tokenizer.decode(text.given) for text in texts],
        "generated": [model.tokenizer.decode(text.new) for text in texts],
        "key": [prompt.key for prompt in asked],
        "misleading": [prompt.misleading for prompt in asked],
        "depends": [text.depends for text in texts],
        "given_tokens": [len(text.given) for text in texts],
        "generated_tokens": [len(text.new) for text in texts],
    })  # fmt: skip
    names = ("row_error", "integrated", "whole", "log_probability")
    return rows.assign(**dict(zip(names, checks.T, strict=True)))


def rank_rows(
    texts: list[KeyedText], ranks: Float[np.ndarray, "prompt role ranker"]
) -> pd.DataFrame:
    """Where each of RANKERS ranks the words of each prompt."""
    axes = {"prompt": len(texts), "role": ROLES, "ranker": list(RANKERS)}
    rows = grid(axes, rank=ranks).dropna(subset="rank").reset_index(drop=True)
    of = rows.pop("prompt").to_numpy()
    rows.insert(0, "prompt", [texts[i].number for i in of])
    rows.insert(1, "kind", [texts[i].prompt.kind for i in of])
    words = [getattr(texts[i].prompt, role) for i, role in zip(of, rows["role"], strict=True)]
    rows.insert(3, "word", words)
    told = {"tokens": [int(texts[i].scored.sum()) for i in of]}
    return rows.assign(**told, depends=np.array([texts[i].depends for i in of], dtype=bool))


def sink_rows(model: Model, own: PerPrompt, seed: int) -> pd.DataFrame:
    """Means of SINK over prompts with intervals, by layer, and the window of each layer."""
    table = pd.DataFrame({"layer": range(model.cfg.n_layers)})
    for name in SINK:
        found = bootstrap(own[name], seed).within(0, np.inf)
        table[name], table[f"{name}_low"] = found.estimate, found.low
        table[f"{name}_high"] = found.high
    widest = own["window"][np.argmax([(~np.isnan(w)).sum() for w in own["window"]])]
    table["window"] = pd.Series(widest).astype("Int64")
    return table.assign(n=len(own["mass"]))


def claimed_rows(kept: PerPrompt, weights: str) -> pd.DataFrame:
    """What claims are about: one row per prompt and statistic that has a value."""
    curve, tweaks = kept["curve"], kept["tweaks"][..., 0]
    above = tweaks[..., ORDERS.index(FIRST_LAYER)] - tweaks[..., -1]
    columns = {
        "first_layer": curve[:, 0],
        "first_less_best": first_less_best(curve),
        "dropping": above.mean(1),
        "sink": (kept["mass"] - kept["even"]).mean(1),
    }
    frames = [
        pd.DataFrame({"statistic": name, "weights": weights, "prompt": range(len(value)),
                      "value": value})
        for name, value in columns.items()
    ]  # fmt: skip
    return pd.concat(frames).dropna().reset_index(drop=True)
