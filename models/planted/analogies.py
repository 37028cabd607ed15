"""A model whose digits stand on one line, so that a number more is always the same direction.

A digit is its number along one axis and the same as all others along another. The nearest digit is
always the one below (but for 0), so that only an offset leads to a digit above, or further away. It
reads additions and answers none.
"""

import torch

from models.card import NativeConfig
from models.planted.writing import IGNORED, random_heads, written
from models.protocol import Model
from prompts.additions import AdditionFormat

HEADS, D_HEAD = 4, 8
FAR = 12.0
"""Along the first axis, a digit is this less its number; the second is always 1."""


def planted_analogies(form: AdditionFormat, *, seed: int = 0) -> Model:
    """The model; its heads write at random, where nothing reads."""
    words = max(form.vocabulary.values()) + 1
    d_model = 3 + IGNORED
    W_E = torch.zeros(words, d_model)
    W_E[:, 2] = -FAR  # signs point elsewhere
    for digit, token in enumerate(form.digit_ids.tolist()):
        W_E[token, :3] = torch.tensor([FAR - digit, FAR / 2, 0.0])
    config = NativeConfig(
        n_layers=1, n_heads=HEADS, d_model=d_model, d_head=D_HEAD, n_ctx=3 * form.digits + 8,
        d_vocab=words, attn_only=True,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    outer = {
        "embed.W_E": W_E,
        "pos_embed.W_pos": torch.zeros(config.n_ctx, d_model),
        "unembed.W_U": W_E.mT.contiguous(),
    }
    blocks = [random_heads(HEADS, d_model, D_HEAD, 3, rng)]
    return written("analogies", config, outer, blocks, arithmetic=form)
