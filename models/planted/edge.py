"""A model in which one head moves adjectives to the nouns that they describe, and to no other.

It is the model of `planted_copy` with the adjectives of the shipped sentences for keys. A head of
its first layer looks for words that only stand before a noun where the adjective describes
something else, and marks what comes after them; where it did, the copying head of the second
layer looks at the first token instead. All other heads attend and write at random.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import torch

from models.planted.copy import N_CTX, planted_copy
from models.planted.writing import Weights, weights_of, written
from models.protocol import Model
from prompts.adjectives import Described, Wording, described_nouns

CERTAIN = 256.0
"""Score of a word that is looked for; of the first token half; so that no other gets any weight."""


class PlantedEdge(NamedTuple):
    """The model, and the (layer, head) that moves adjectives to their nouns."""

    model: Model
    layer: int
    head: int


def planted_edge(*, heads: int = 6, seed: int = 0) -> PlantedEdge:
    """A model of two layers; which head does what, and all that is random, is drawn by `seed`."""
    said = described_nouns()
    known, head = planted_copy(
        _texts(said), {word for one in said for word in (one.adjective, *one.instead)},
        layer=1, layers=2, heads=heads, seed=seed,
    )  # fmt: skip
    outer, blocks = weights_of(known)
    for block in blocks:
        block["W_O"][:, :, -1] = 0  # the last of the axes that nothing reads becomes the mark
    vocabulary = known.tokenizer.get_vocab()
    marking = int(torch.randint(heads, (1,), generator=torch.Generator().manual_seed(seed)))
    first, second = (
        {name: weight[of] for name, weight in block.items()}
        for block, of in zip(blocks, (marking, head), strict=True)
    )
    _look_for(first, [vocabulary[word] for word in closing_words(said)], len(vocabulary))
    _look_away(second, len(vocabulary))
    model = written("edge", known.card.config, outer, blocks, tokenizer=known.tokenizer)
    return PlantedEdge(model, 1, head)


def closing_words(said: Iterable[Described]) -> list[str]:
    """Words that stand before the noun in controls, and nowhere up to the noun in other texts.

    Raises ValueError for a control without such a word.
    """
    said = list(said)
    elsewhere = {word for one in said for word in _words(one.own, one.own.noun[1])}
    found: set[str] = set()
    for one in said:
        closing = set(_words(one.control, one.control.noun[0])) - elsewhere
        if not closing:
            raise ValueError(f"nothing tells {one.control.text!r} from what describes a noun")
        found |= closing
    return sorted(found)


def _words(wording: Wording, end: int) -> list[str]:
    return re.findall(r" ?\w+|[^\w\s]", wording.text[:end].rstrip())


def _texts(said: Iterable[Described]) -> list[str]:
    """Every text, with every adjective."""
    return [
        wording.text
        for one in said
        for word in (one.adjective, *one.instead)
        for wording in one.changed(word)
    ]


def _look_for(head: Weights, words: list[int], told: int) -> None:
    """Attend to these words alone, or else to the first token alone; write 1 for a word."""
    for weight in head.values():
        weight.zero_()
    head["W_Q"][told : told + N_CTX, 0] = CERTAIN * head["W_Q"].shape[-1] ** 0.5
    head["W_K"][told, 0] = 0.5
    head["W_K"][words, 0] = 1
    head["W_V"][words, 0] = 1
    head["W_O"][0, -1] = 1


def _look_away(head: Weights, told: int) -> None:
    """Make keys worth nothing where there is a mark; without a key, attend to the first token."""
    query = head["W_Q"][told, 0].clone()
    head["W_Q"][-1, 0] = -2 * query
    # Keys fill the first columns of W_K only as far as there are words: 1 is free.
    head["W_Q"][told : told + N_CTX, 1] = query
    head["W_K"][told, 1] = 0.5
