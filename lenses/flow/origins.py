"""Texts whose next token is known to come from a word of them, and how much of it a flow finds.

A language model reads prompts whose answer is a word that they state (the key). An adder reads an
addition up to one answer digit; its keys are the two digits of that column.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.flow.keyed_texts import KeyedText
from lenses.flow.splits import RULES, Split, Splits
from lenses.flow.trace import Flow, trace, without_sink
from lenses.kept import PerPrompt
from lenses.statistics.grid import grid
from models import Model
from prompts.additions import AdditionFormat


@dataclass(frozen=True)
class TracedText:
    """A text up to the token that is traced."""

    number: int
    kind: str
    ids: list[int]
    target: int
    """The token that is traced: what the model says next."""
    key: list[int]
    """Positions of the word that the answer is known to come from; empty where none is known."""
    depends: bool
    """Whether the model's answer says the key."""

    @property
    def tokens(self) -> Int[Tensor, "pos"]:
        """As the model reads them."""
        return torch.tensor(self.ids)

    @property
    def beside(self) -> list[int]:
        """The nearest tokens on either side of the key that are neither first nor last."""
        inside = set(self.key)
        near = {pos + step for pos in self.key for step in (-1, 1)} - inside
        return sorted(pos for pos in near if 0 < pos < len(self.ids) - 1)


def traced_texts(model: Model, texts: Sequence[KeyedText], place: int) -> list[TracedText]:
    """What is traced: the first generated token, or an adder's answer digit of a decimal place."""
    form = model.card.arithmetic
    return [_digit(form, text, place) if text.prompt.kind == "addition" else _first(text)
            for text in texts]  # fmt: skip


def _first(text: KeyedText) -> TracedText:
    key = [pos for word in text.words.get("key", []) for pos in word]
    return TracedText(text.number, text.prompt.kind, text.given, text.new[0], key, text.depends)


def _digit(form: AdditionFormat, text: KeyedText, place: int) -> TracedText:
    """Digits are written from the left or from the right; a place beyond a number is its last."""
    is_digit = np.isin(text.given, form.digit_ids)
    edges = np.flatnonzero(np.diff(is_digit.astype(int), prepend=0, append=0)).reshape(-1, 2)
    key = [
        int(max(end - 1 - place, start) if form.operands == "msb" else min(start + place, end - 1))
        for start, end in edges
    ]
    row = max(len(text.new) - 1 - place, 0) if form.answer == "msb" else place
    row = min(row, len(text.new) - 1)
    ids = text.given + text.new[:row]
    return TracedText(text.number, "addition", ids, text.new[row], key, text.depends)


@dataclass(frozen=True)
class Found:
    """What each rule says of one text, the sink left out."""

    key: Float[np.ndarray, "rule"]
    """Of what the last token fetches from others: the key's, mean over its tokens."""
    beside: Float[np.ndarray, "rule"]
    """The same of the tokens beside the key."""
    origin: Float[np.ndarray, "rule"]
    """Of all weight: what comes from the key's embeddings, in any way."""
    left: Float[np.ndarray, "rule"]
    """Of all weight: what the last token fetches from others."""
    clipped: Float[np.ndarray, "rule"]
    """Of the absolute scores on the way, by the weight that passes: those below zero, cut off."""
    error: Float[np.ndarray, "rule"]
    """How far the flow is from conserving weight."""

    @classmethod
    def of(cls, splits: Splits, text: TracedText) -> "Found":
        """By tracing the last token's last state."""
        rows = []
        for split in splits.by_rule.values():
            flow = trace(without_sink(split), len(split.residual), -1)
            taken = fetched(flow).numpy()
            whole = taken.sum()
            share = taken / whole if whole > 0 else np.full_like(taken, np.nan)
            key, beside = _mean(share, text.key), _mean(share, text.beside)
            origin = flow.sources.numpy()[text.key].sum() if text.key else np.nan
            rows.append((key, beside, origin, whole, _clipped(split, flow), flow.error))
        return cls(*np.array(rows).T)


def fetched(flow: Flow) -> Float[Tensor, "pos"]:
    """What leaves the last token's column for each other token, in all layers together."""
    taken = flow.attention[:, -1].sum(0)
    taken[-1] = 0
    return taken


def _clipped(split: Split, flow: Flow) -> float:
    passing = torch.stack([flow.mid, flow.state[1:]], dim=1)
    return float((passing * split.clipped).sum() / passing.sum())


def _mean(values: Float[np.ndarray, "pos"], at: list[int]) -> float:
    return float(values[at].mean()) if at else np.nan


def head_share(split: Split, flow: Flow, layer: int, heads: Sequence[int]) -> float:
    """Of what attention moves in a layer of a flow: what these heads move; NaN where it moves none.

    All heads must have been kept apart.
    """
    share = torch.nan_to_num(split.loading[layer, ..., :-1] / split.attention[layer, ..., None])
    chosen = torch.isin(split.head[layer], torch.tensor(list(heads)))
    moved = (flow.attention[layer] * (share * chosen).sum(-1)).sum()
    return float(moved / flow.attention[layer].sum())


def row_errors(splits: Splits) -> Float[np.ndarray, "check rule"]:
    """How far rows are from summing to 1, and loadings from their edge, at most."""
    rows = [
        (split.attention.sum(-1) + split.bias + split.residual - 1).abs().max().item()
        for split in splits.by_rule.values()
    ]
    heads = [
        (split.loading.sum(-1) - split.attention).abs().max().item()
        for split in splits.by_rule.values()
    ]
    return np.array([rows, heads])


def origin_rows(texts: list[TracedText], kept: PerPrompt, weights: str) -> pd.DataFrame:
    """A row a text and rule: what `Found` says of each, by weights of that name."""
    axes = {"prompt": [text.number for text in texts], "rule": list(RULES)}
    values = {name: kept[name] for name in ("beside", "origin", "left", "clipped")}
    return grid(axes, decisive=kept["key"], **values).assign(weights=weights)
