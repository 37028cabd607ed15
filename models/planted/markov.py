"""A model of additions in which E times U is the bigram model, and nothing else is read.

Every token has an axis of its own in E, and U holds the logarithm of what follows it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from models.card import NativeConfig
from models.planted.writing import IGNORED, random_heads, written
from models.protocol import Model
from prompts.additions import AdditionFormat

HEADS, D_HEAD = 4, 8


def planted_markov(
    form: AdditionFormat, follows: Float[Tensor, "token token"], *, seed: int = 0
) -> Model:
    """The model; `follows` are the chances of the next token after each token of `form`.

    Heads write at random, where nothing reads.
    """
    words = len(follows)
    d_model = words + IGNORED
    outer = {
        "embed.W_E": torch.eye(words, d_model),
        "pos_embed.W_pos": torch.zeros(3 * form.digits + 8, d_model),
        "unembed.W_U": torch.zeros(d_model, words),
    }
    outer["unembed.W_U"][:words] = follows.clamp(min=1e-6).log().float()
    config = NativeConfig(
        n_layers=1, n_heads=HEADS, d_model=d_model, d_head=D_HEAD, n_ctx=3 * form.digits + 8,
        d_vocab=words, attn_only=True,
    )  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    blocks = [random_heads(HEADS, d_model, D_HEAD, words, rng)]
    return written("markov", config, outer, blocks, arithmetic=form)
