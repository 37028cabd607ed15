"""A model that has a dialect: every word has a twin that means the same, and it prefers its own.

What follows depends on a word's meaning alone, and a word is hardly likelier than its twin, so
that surprisal does not tell the two apart. One head attends to the model's own words; what heads
write is read by nothing. Text that the model wrote differs inside from text in the twins, and
text that it wrote twice over does not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from models.card import NativeConfig
from models.planted.writing import IGNORED, random_heads, written
from models.protocol import Model

MEANINGS = 12
"""Words of the model's own, 0 to 11; the twin of each is its number + 12."""
N_CTX = 48
HEADS, D_HEAD = 4, 8
SHARP = 6.0
"""Score of an own word for the planted head; of all else 0."""
SPREAD = 1.5
"""Standard deviation of the logits of what a meaning is followed by."""
PREFERENCE = 0.1
"""By which a word's logit is above its twin's."""


@dataclass(frozen=True)
class PlantedDialect:
    """The model, and what follows what."""

    model: Model
    head: int
    """The head of the only layer that attends to own words."""
    chances: Tensor
    """Of each meaning after each [meaning meaning]."""

    def twins(self, count: int, length: int, seed: int) -> Int[np.ndarray, "count length"]:
        """Texts that mean what the model might say, in words that it does not prefer."""
        generator = torch.Generator().manual_seed(seed)
        said = [torch.randint(MEANINGS, (count,), generator=generator)]
        for _ in range(length - 1):
            said.append(torch.multinomial(self.chances[said[-1]], 1, generator=generator)[:, 0])
        return torch.stack(said, dim=1).numpy() + MEANINGS


def planted_dialect(seed: int = 0) -> PlantedDialect:
    """The model; which head is planted, and all that is random, is drawn by `seed`."""
    rng = torch.Generator().manual_seed(seed)
    words, head = 2 * MEANINGS, int(torch.randint(HEADS, (1,), generator=rng))
    follows = SPREAD * torch.randn(MEANINGS, MEANINGS, generator=rng)
    d_model = words + N_CTX + IGNORED
    block = random_heads(HEADS, d_model, D_HEAD, words + N_CTX, rng)
    block["W_O"] /= D_HEAD**0.5
    block["W_Q"] /= 4
    block["W_Q"][head], block["W_K"][head] = 0, 0
    block["W_Q"][head, words : words + N_CTX, 0] = SHARP * D_HEAD**0.5
    block["W_K"][head, :MEANINGS, 0] = 1
    W_U = torch.zeros(d_model, words)
    W_U[:words] = follows.repeat(2, 2)
    W_U[:words, :MEANINGS] += PREFERENCE
    outer = {
        "embed.W_E": torch.eye(words, d_model),
        "pos_embed.W_pos": torch.eye(N_CTX, d_model).roll(words, dims=1),
        "unembed.W_U": W_U,
    }
    config = NativeConfig(
        n_layers=1, n_heads=HEADS, d_model=d_model, d_head=D_HEAD, n_ctx=N_CTX, d_vocab=words,
        attn_only=True,
    )  # fmt: skip
    return PlantedDialect(written("dialect", config, outer, [block]), head, follows.softmax(-1))
