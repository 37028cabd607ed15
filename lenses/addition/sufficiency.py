"""Do the heads that were found suffice? All others are ablated, and the model is asked (SCIENCE 6).

A head counts at one token: what is kept are (token, layer, head), what is ablated are all other
heads at every token. MLPs, embeddings and biases stay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, prod

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from lenses.addition.contrasts import token_positions
from lenses.patching.head_sets import Mode, ablated, stand_in
from lenses.patching.interchange import activations
from lenses.statistics.intervals import wilson
from models import Model
from prompts.additions import AdditionFormat, Sums

WHOLE = -1
"""Stands for the whole answer where a place is expected."""

Kept = tuple[str, int, int]
"""Token, layer and head."""


@dataclass(frozen=True)
class Questions:
    """Additions as tokens without their last one, each token of one at the pos of its like."""

    sums: Sums
    tokens: Int[np.ndarray, "n pos"]
    at: Int[np.ndarray, "n answer"]
    """Pos from which each answer digit is read."""
    digits: Int[np.ndarray, "n answer"]
    """Token ids of the right digits."""
    positions: dict[str, int]

    @classmethod
    def of(cls, style: AdditionFormat, sums: Sums) -> "Questions":
        """Unpadded, only answers that begin with the digit above the addends are kept."""
        sums = sums if style.pad else sums[sums.answer_digits[:, -1] == 1]
        written = style.write(sums)
        tokens, digits = written.tokens[:, :-1], style.digit_ids[sums.answer_digits]
        named = {name: int(pos[0]) for name, pos in token_positions(style, sums).items()}
        named = {name: pos for name, pos in named.items() if pos < tokens.shape[1]}
        return cls(sums, tokens, written.at - 1, digits, named)


def keeping(
    model: Model, found: Questions, kept: Sequence[Sequence[Kept]]
) -> Bool[np.ndarray, "set layer pos head"]:
    """The sets that are ablated when only these heads are kept at these tokens."""
    shape = (len(kept), model.cfg.n_layers, found.tokens.shape[1], model.cfg.n_heads)
    gone = np.ones(shape, dtype=bool)
    for number, heads in enumerate(kept):
        for token, layer, head in heads:
            gone[number, layer, found.positions[token], head] = False
    return gone


def every_head(model: Model, found: Questions) -> list[Kept]:
    """All heads of the model, at every token that has a name."""
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return [(token, layer, h) for token in found.positions for layer in layers for h in heads]


def random_alike(
    model: Model, kept: Sequence[Kept], draws: int, rng: np.random.Generator
) -> list[list[Kept]]:
    """Different sets that have as many heads at each token as `kept`, and are not that set.

    Drawn among all heads; none where there are fewer than `draws` such sets.
    """
    layers, heads = model.cfg.n_layers, model.cfg.n_heads
    count = Counter(token for token, _, _ in kept)
    if prod(comb(layers * heads, size) for size in count.values()) <= draws:
        return []
    found: dict[frozenset[Kept], list[Kept]] = {frozenset(kept): []}
    while len(found) <= draws:
        drawn = [
            (token, *divmod(int(number), heads))
            for token, size in count.items()
            for number in rng.choice(layers * heads, size, replace=False)
        ]
        found.setdefault(frozenset(drawn), drawn)
    return list(found.values())[1:]


def accuracy_with(
    model: Model,
    found: Questions,
    reference: Questions,
    sets: Bool[np.ndarray, "set layer pos_or_1 head"],
    mode: Mode,
    seed: int,
    batch_size: int,
) -> Bool[np.ndarray, "set n answer"]:
    """Which answer digits are right, after right ones, when the heads of each set are ablated.

    What stands in for them comes from `reference`, which has the same positions.
    """
    z = activations(model, reference.tokens, batch_size).z
    instead = stand_in(mode, z, np.random.default_rng(seed), len(found.tokens))
    said = ablated(model, found.tokens, sets, instead, found.at, batch_size)
    return said == found.digits


def by_place(right: Bool[np.ndarray, "n answer"]) -> pd.DataFrame:
    """Accuracy of each place and of the whole answer (place WHOLE), with Wilson intervals."""
    answers = np.concatenate([right.all(1, keepdims=True), right], axis=1)
    correct, n = answers.sum(0), np.full(answers.shape[1], len(right))
    low, high = wilson(correct, n)
    places = np.arange(answers.shape[1]) + WHOLE
    return pd.DataFrame(
        {"place": places, "accuracy": correct / n, "low": low, "high": high, "n": n}
    )
