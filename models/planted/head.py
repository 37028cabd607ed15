"""A model in which one head alone matters, among others that write vectors of the same length.

Every token but the first is answered with the name, the token at pos 1: a head of block 0 attends
there and moves it to where the unembedding reads. All other heads attend to one earlier pos each,
drawn at random, and move its token, turned, to where nothing reads. What each head writes has
length 1 at every pos. MLPs read at random and write nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from models.card import NativeConfig
from models.planted.writing import Weights, written
from models.protocol import Model

NAMES = 12
"""Tokens; d_head has room for all of them and for a one-hot pos."""
LENGTH = 16
"""Longest sequence."""
NEURONS = 24
LAYERS = 2
SURE = 240.0
"""Score, before it is divided by 4 (the root of d_head), of the pos a head attends to; else 0."""
LOUD = 6.0
"""Logit of the token that is said; all others have 0."""


@dataclass(frozen=True)
class PlantedHead:
    """The model, and the head that matters."""

    model: Model
    layer: int
    head: int

    def prompts(self, count: int, length: int, seed: int) -> Int[Tensor, "count length"]:
        """Random tokens, each followed by a pos at which the one at pos 1 is to be said."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(NAMES, (count, length), generator=generator)


def planted_head(*, heads: int = 6, seed: int = 0) -> PlantedHead:
    """A model of two blocks of `heads` heads; which one matters, and all else, is drawn by `seed`.

    Raises ValueError for a single head, which has no distractors.
    """
    if heads < 2:
        raise ValueError(f"heads: {heads} are too few, 2 needed: the planted one and another")
    rng = torch.Generator().manual_seed(seed)
    head = int(torch.randint(heads, (1,), generator=rng))
    tokens, pos, said, ignored = (slice(i, i + 16) for i in range(0, 64, 16))
    outer = {
        "embed.W_E": torch.eye(16, 64)[:NAMES],
        "pos_embed.W_pos": torch.eye(16, 64).roll(16, 1)[:LENGTH],
        "unembed.W_U": torch.zeros(64, NAMES),
    }
    outer["unembed.W_U"][said][:NAMES] = LOUD * torch.eye(NAMES)
    blocks = [_distractors(heads, rng, tokens, pos, ignored) for _ in range(LAYERS)]
    _plant(blocks[0], head, pos, said)
    config = NativeConfig(
        n_layers=LAYERS, n_heads=heads, d_model=64, d_head=16, d_mlp=NEURONS, n_ctx=LENGTH,
        d_vocab=NAMES, act_fn="relu",
    )  # fmt: skip
    return PlantedHead(written("head", config, outer, blocks), 0, head)


def _distractors(
    heads: int, rng: torch.Generator, tokens: slice, pos: slice, ignored: slice
) -> Weights:
    """Heads that attend to one random pos each and write the token there, turned, unread."""
    W_Q, W_K, W_V = (torch.zeros(heads, 64, 16) for _ in range(3))
    W_O = torch.zeros(heads, 16, 64)
    for head in range(heads):
        where = (torch.rand(LENGTH, generator=rng) * torch.arange(1, LENGTH + 1)).long()
        W_Q[head, pos] = SURE * torch.eye(16)[where]
        W_K[head, pos] = torch.eye(16)
        W_V[head, tokens] = torch.eye(16)
        W_O[head, :, ignored] = torch.linalg.qr(torch.randn(16, 16, generator=rng))[0]
    return {
        "W_Q": W_Q,
        "W_K": W_K,
        "W_V": W_V,
        "W_O": W_O,
        "W_in": torch.randn(64, NEURONS, generator=rng),
        "W_out": torch.zeros(NEURONS, 64),
    }


def _plant(block: Weights, head: int, pos: slice, said: slice) -> None:
    """Make a head attend to pos 1 from there on, and write the token where it is read."""
    where = torch.arange(LENGTH).clamp(max=1)
    block["W_Q"][head, pos] = SURE * torch.eye(16)[where]
    block["W_O"][head] = torch.eye(16, 64).roll(said.start, 1)
