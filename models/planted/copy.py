"""A model whose weights are written by code and which answers with a word of its prompt.

One head, the same at every pos, attends to the words that are keys and moves them to where the
unembedding reads (the idea of Tracr: Lindner et al. 2023, section 1); nothing else is read. All
other heads attend and move at random, what they write is as long as what the copying head writes,
and nothing reads it. What an answer depends on is therefore known beforehand.
"""

import re
from collections.abc import Iterable

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from models.card import NativeConfig
from models.native import vocabulary_tokenizer
from models.planted.writing import IGNORED, Weights, random_heads, written
from models.protocol import Model

N_CTX = 64
SHARP = 16.0
"""Score of a key; of all else 0."""
LOGIT = 12.0
"""Of the key that is said; all else has 0."""
LEAST = 8
"""Width of a head, unless there are more keys to be moved."""


def planted_copy(
    texts: Iterable[str],
    keys: Iterable[str],
    *,
    layer: int = 0,
    layers: int = 2,
    heads: int = 6,
    loud: float = 1.0,
    seed: int = 0,
) -> tuple[Model, int]:
    """A model that continues any of `texts` with the key in it, and the number of its copying head.

    It reads the words of the texts, each with the space before it. Which head copies, and what all
    others do, is drawn by `seed`. What the copying head writes is `loud` times as long as what each
    other head writes.
    """
    words = sorted({word for text in texts for word in re.findall(r" ?\w+|[^\w\s]", text)})
    vocabulary = {word: number for number, word in enumerate([*"0123456789", *words])}
    chosen = sorted({vocabulary[w] for key in keys for w in (key, f" {key}") if w in vocabulary})
    rng = torch.Generator().manual_seed(seed)
    copying = int(torch.randint(heads, (1,), generator=rng))
    blocks = [_random_heads(len(vocabulary), len(chosen), heads, rng) for _ in range(layers)]
    _plant(blocks[layer], copying, len(vocabulary), chosen, loud)
    _, d_model, d_head = blocks[0]["W_Q"].shape
    config = NativeConfig(
        n_layers=layers, n_heads=heads, d_model=d_model, d_head=d_head, n_ctx=N_CTX,
        d_vocab=len(vocabulary), attn_only=True,
    )  # fmt: skip
    model = written(
        "copy", config, _outer(len(vocabulary), chosen, LOGIT / loud), blocks,
        tokenizer=vocabulary_tokenizer(vocabulary),
    )  # fmt: skip
    return model, copying


def _outer(words: int, keys: list[int], logit: float) -> Weights:
    """Embeddings that tell every word and pos, and what says a key that was moved."""
    d_model = words + N_CTX + len(keys) + IGNORED
    W_E, W_pos, W_U = (torch.zeros(n, d_model) for n in (words, N_CTX, words))
    W_E[:, :words] = torch.eye(words)
    W_pos[:, words : words + N_CTX] = torch.eye(N_CTX)
    for number, key in enumerate(keys):
        W_U[key, words + N_CTX + number] = logit
    return {"embed.W_E": W_E, "pos_embed.W_pos": W_pos, "unembed.W_U": W_U.mT.contiguous()}


def _random_heads(words: int, keys: int, heads: int, rng: torch.Generator) -> Weights:
    """Heads that attend by word and pos and write vectors of length about 1 to ignored axes."""
    told, d_head = words + N_CTX, max(keys, LEAST)
    block = random_heads(heads, told + keys + IGNORED, d_head, told, rng)
    block["W_O"] *= _to_unit_length(block["W_V"][:, :told], block["W_O"])
    # Scores, divided by sqrt(d_head), would spread by 2: by a half, a head attends widely.
    block["W_Q"] /= 4
    return block


def _to_unit_length(
    W_V: Float[Tensor, "head told d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "head 1 1"]:
    """What makes a word, moved by each head, one long in the mean."""
    moved = einsum(W_V, W_O, "head told d_head, head d_head d_model -> head told d_model")
    return 1 / moved.norm(dim=-1).mean(-1)[:, None, None]


def _plant(block: Weights, head: int, words: int, keys: list[int], loud: float) -> None:
    """Make a head attend from everywhere to keys, and move each to an axis of its own."""
    for weight in block.values():
        weight[head] = 0
    block["W_Q"][head, words : words + N_CTX, 0] = SHARP * block["W_Q"].shape[-1] ** 0.5
    for number, key in enumerate(keys):
        block["W_K"][head, key, 0] = 1
        block["W_V"][head, key, number] = 1
        block["W_O"][head, number, words + N_CTX + number] = loud
