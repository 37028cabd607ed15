"""A model, its weights written by code, whose digits carry their place's word iff it is announced.

It reads characters and some words. Block 0: one head finds the announced length of numbers
("nine-digit number"), one where the number began, one the token before; its MLP turns length and
distance into the digit's place, and a digit after another into the word of both ("thirteen").
Block 1: a head looks for the digit at the place that comes next, and copies it. Where no length was
announced there is no place in the state, and nothing to look for: the copy is wrong. A planted
control (the idea of Tracr: Lindner et al. 2023, section 1).
"""

import re
from functools import cache

import torch
from torch import Tensor

from models.card import NativeConfig
from models.native import vocabulary_tokenizer
from models.planted.writing import Weights, written
from models.protocol import Model
from prompts.passages import passages
from prompts.place_values import (
    FILLERS,
    OTHER_WORDS,
    PLACE_WORDS,
    PREFIX_WORDS,
    SMALL,
    place_prompts,
)
from prompts.texts import shipped_texts

N_CTX = 256
D_HEAD = 16
ROOT = D_HEAD**0.5
"""Scores are divided by it."""
LATEST = 20.0
"""Score that each token is ahead of the one before, where the latest is looked for."""
SOUGHT = 300.0
"""Score of a digit at the place looked for, above all that lateness may add up to."""
LENGTH, PLACES = 10, range(10)
"""Lengths are kept in tenths, as no number is longer."""

WIDTHS = {
    "digit": 10, "other": 1, "said": 1, "tells": 1, "one": 1, "pos": 1, "square": 1, "length": 1,
    "told": 1, "start": 1, "before": 10, "place": 10, "prefix": len(PREFIX_WORDS), "copied": 10,
}  # fmt: skip
D_MODEL = sum(WIDTHS.values())


def planted_places() -> Model:
    """The model: exact in copying numbers of announced length, wrong in others.

    The logits of a state at a digit: 4 for the digit itself, 3 for the word of its place and of the
    two digits that end there, 10 for the digit that comes next.
    """
    vocabulary = _vocabulary()
    config = NativeConfig(
        n_layers=2, n_heads=3, d_model=D_MODEL, d_head=D_HEAD, d_mlp=12 + len(PREFIX_WORDS),
        n_ctx=N_CTX, d_vocab=len(vocabulary), act_fn="relu",
    )  # fmt: skip
    outer = {
        "embed.W_E": _embedding(vocabulary),
        "pos_embed.W_pos": _positions(),
        "unembed.W_U": _unembedding(vocabulary),
    }
    tokenizer = vocabulary_tokenizer(vocabulary)
    return written("places", config, outer, _blocks(), tokenizer=tokenizer)


@cache
def _vocabulary() -> dict[str, int]:
    """Ids of words, most with a space before them, and of single characters."""
    words = [word for words in (*PLACE_WORDS.values(), OTHER_WORDS) for word in words]
    words += [*PREFIX_WORDS.values(), *SMALL]
    spaced = [f" {word}" if word.isascii() else word for word in words]
    read = [*shipped_texts(), *passages(), *place_prompts(2, seed=0)]
    texts = [text.text for text in read]
    characters = sorted(set("".join(texts)) | set("0123456789 abcdefghijklmnopqrstuvwxyz"))
    # Whole sentences would be as long as each other, and pos would tell the place.
    front = re.findall(" ?[^ ]+", "".join(FILLERS))
    tokens = [*spaced, *front, *_announcements(), *characters]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _announcements() -> dict[str, int]:
    """The words that say how long numbers are; a code or a year is no number."""
    return {f" {SMALL[length]}-digit number": length for length in range(1, 10)}


def _axis(name: str, number: int = 0) -> int:
    """An axis of the residual stream, by what stands on it."""
    names = list(WIDTHS)
    return sum(WIDTHS[before] for before in names[: names.index(name)]) + number


def _blocks() -> list[Weights]:
    """What finds a digit's place, then what looks for the digit that comes next."""
    first, second = _no_heads(), _no_heads()
    _plant_latest(first, 0, "tells", {"said": "length", "tells": "told"})
    _plant_latest(first, 1, "other", {"pos": "start"})
    _plant_before(first, 2)
    _plant_copy(second, 0)
    return [first | _place_mlp(), second | _empty_mlp()]


def _embedding(vocabulary: dict[str, int]) -> Tensor:
    """What each token is: a digit, something else, an announcement."""
    W_E = torch.zeros(len(vocabulary), D_MODEL)
    W_E[:, _axis("one")] = W_E[:, _axis("other")] = 1
    for digit in range(10):
        W_E[vocabulary[str(digit)], _axis("other")] = 0
        W_E[vocabulary[str(digit)], _axis("digit", digit)] = 1
    for words, length in _announcements().items():
        W_E[vocabulary[words], _axis("tells")] = 1
        W_E[vocabulary[words], _axis("said")] = length / LENGTH
    return W_E


def _positions() -> Tensor:
    """Pos and its square, as shares of the longest text."""
    share = torch.arange(N_CTX) / N_CTX
    W_pos = torch.zeros(N_CTX, D_MODEL)
    W_pos[:, _axis("pos")], W_pos[:, _axis("square")] = share, share**2
    return W_pos


def _unembedding(vocabulary: dict[str, int]) -> Tensor:
    """What each token's logit reads."""
    W_U = torch.zeros(D_MODEL, len(vocabulary))
    for digit in range(10):
        W_U[_axis("digit", digit), vocabulary[str(digit)]] = 4
        W_U[_axis("copied", digit), vocabulary[str(digit)]] = 10
    for place, words in PLACE_WORDS.items():
        for word in words:
            W_U[_axis("place", place), vocabulary[f" {word}" if word.isascii() else word]] = 3
    for number, word in enumerate(PREFIX_WORDS.values()):
        W_U[_axis("prefix", number), vocabulary[f" {word}"]] += 3
    return W_U


def _no_heads() -> Weights:
    """Three heads that attend evenly and move nothing."""
    inward = {f"W_{which}": torch.zeros(3, D_MODEL, D_HEAD) for which in "QKV"}
    return inward | {"W_O": torch.zeros(3, D_HEAD, D_MODEL)}


def _plant_latest(block: Weights, head: int, kind: str, moved: dict[str, str]) -> None:
    """Attend to the latest token of a kind, or to the latest of all, and move some axes of it."""
    block["W_Q"][head, _axis("one"), 0] = ROOT
    block["W_K"][head, _axis("pos"), 0] = LATEST * N_CTX
    block["W_K"][head, _axis(kind), 0] = 2 * LATEST * N_CTX
    for number, (source, target) in enumerate(moved.items()):
        block["W_V"][head, _axis(source), number] = 1
        block["W_O"][head, number, _axis(target)] = 1


def _plant_before(block: Weights, head: int) -> None:
    """Attend to the token before, as -(key - query + 1)^2 is largest there, and move its digit."""
    W_Q, W_K = block["W_Q"][head], block["W_K"][head]
    W_Q[_axis("pos"), 0] = 2 * LATEST * N_CTX**2 * ROOT
    W_Q[_axis("one"), 0] = -2 * LATEST * N_CTX * ROOT
    W_Q[_axis("one"), 1] = -LATEST * N_CTX**2 * ROOT
    W_K[_axis("pos"), 0] = W_K[_axis("square"), 1] = 1
    _move(block, head, "digit", "before")


def _plant_copy(block: Weights, head: int) -> None:
    """Attend to the latest token one place below one's own, and move its digit."""
    W_Q, W_K = block["W_Q"][head], block["W_K"][head]
    for place in PLACES[1:]:
        W_Q[_axis("place", place), place] = SOUGHT * ROOT
        W_K[_axis("place", place - 1), place] = 1
    W_Q[_axis("one"), 0], W_K[_axis("pos"), 0] = ROOT, N_CTX
    _move(block, head, "digit", "copied")


def _move(block: Weights, head: int, source: str, target: str) -> None:
    """Move ten axes to ten others."""
    for digit in range(10):
        block["W_V"][head, _axis(source, digit), digit] = 1
        block["W_O"][head, digit, _axis(target, digit)] = 1


def _place_mlp() -> Weights:
    """Place from length - (pos - start), a tent over each; the word of two digits, an AND."""
    mlp = _empty_mlp()
    W_in, b_in, W_out = mlp.values()
    for axis, weight in {"length": LENGTH, "pos": -N_CTX, "start": N_CTX, "told": 100}.items():
        W_in[_axis(axis), :12] = weight
    b_in[:12] = -100 + 1.0 - torch.arange(12)
    for place in PLACES:
        W_out[place : place + 3, _axis("place", place)] = torch.tensor([1.0, -2.0, 1.0])
    for number, prefix in enumerate(PREFIX_WORDS):
        W_in[_axis("before", prefix // 10), 12 + number] = 1
        W_in[_axis("digit", prefix % 10), 12 + number] = 1
        b_in[12 + number] = -1
        W_out[12 + number, _axis("prefix", number)] = 1
    return mlp


def _empty_mlp() -> Weights:
    """An MLP that writes nothing."""
    hidden = 12 + len(PREFIX_WORDS)
    W_in, W_out = torch.zeros(D_MODEL, hidden), torch.zeros(hidden, D_MODEL)
    return {"W_in": W_in, "b_in": torch.zeros(hidden), "W_out": W_out}
