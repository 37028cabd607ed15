"""A model whose states are sums of the embeddings of three tokens.

Two heads of its only layer attend to the token before and to the one before that, and add the
embedding of what stands there as it is. All other heads write at random, a little, where nothing
reads. It reads additions and answers none.
"""

import torch

from models.card import NativeConfig
from models.planted.writing import IGNORED, random_heads, written
from models.protocol import Model
from prompts.additions import AdditionFormat

HEADS = 4
BACK = (1, 2)
"""How far back the first heads look."""
SHARP = 400.0
"""Score of the token they attend to, before it is divided by the root of d_head; of others 0."""
POSITION = 0.1
"""Length of the part of a state that tells its position; a token's is 1."""
LOUD = 0.02
"""By which what random heads write is made smaller."""


def planted_concepts(form: AdditionFormat, *, seed: int = 0) -> Model:
    """The model; what its other heads do is drawn by `seed`."""
    words, n_ctx = max(form.vocabulary.values()) + 1, 3 * form.digits + 8
    told, d_head = words + n_ctx, max(words, n_ctx)
    d_model = told + IGNORED
    block = random_heads(HEADS, d_model, d_head, told, torch.Generator().manual_seed(seed))
    block["W_O"] *= LOUD
    for head, back in enumerate(BACK):
        for weight in block.values():
            weight[head] = 0
        # Position n asks for n - back; scores are of two states that are POSITION long.
        block["W_Q"][head, words:told, :n_ctx] = torch.eye(n_ctx).roll(-back, 1)
        block["W_K"][head, words:told, :n_ctx] = SHARP / POSITION**2 * torch.eye(n_ctx)
        block["W_V"][head, :words, :words] = torch.eye(words)
        block["W_O"][head, :words, :words] = torch.eye(words)
    outer = {
        "embed.W_E": torch.eye(words, d_model),
        "pos_embed.W_pos": POSITION * torch.eye(n_ctx, d_model).roll(words, 1),
        "unembed.W_U": torch.eye(d_model, words),
    }
    config = NativeConfig(
        n_layers=1, n_heads=HEADS, d_model=d_model, d_head=d_head, n_ctx=n_ctx, d_vocab=words,
        attn_only=True,
    )  # fmt: skip
    return written("concepts", config, outer, [block], arithmetic=form)
