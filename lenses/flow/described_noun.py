"""A noun before and after attention to its adjectives, read in a language model (SCIENCE 10).

The example is that of 3Blue1Brown's talk on attention: "a fluffy blue creature roamed the verdant
forest". A noun's state begins as that of any creature; what the adjectives say reaches it by
attention only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from einops import einsum, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.flow.spelled import cells
from lenses.heads.contributions import Written
from lenses.patching.knock_out import without
from models import Model
from models.parts import attention_out, sinks
from models.passes import Hooks
from models.readout import unembedding
from models.text import token_strings, tokenize

SENTENCE = "a fluffy blue creature roamed the verdant forest"
ADJECTIVES, NOUN = ("fluffy", "blue"), "creature"
NAMED = 5
"""Likeliest next words that are shown, of the noun with its adjectives and without."""
KEPT = ("attn.hook_v", "attn.hook_pattern", "attn.hook_z", "hook_resid_pre", "hook_attn_out")
NOUN_STEPS = {
    "Attention": f"How much of its attention “{NOUN}” gives to each word, mean over the heads of "
    "a layer. The first one gets what a head has no other use for.",
    "Turn": "By how many degrees the noun's state turns when a layer's attention adds what it "
    "moves from a word; in the last column, from all of them.",
    "Next word": f"What the model says comes after “{NOUN}”: when the noun attends to its "
    "adjectives, and when it does so in no layer.",
}
"""What is shown at each step."""


@dataclass(frozen=True)
class Sentence:
    """The sentence up to its noun, as a model reads it."""

    ids: Int[Tensor, "pos"]
    words: list[str]
    word_of: Int[Tensor, "pos"]
    """Which word each token is of."""

    def tokens_of(self, *words: str) -> Bool[Tensor, "pos"]:
        """Which tokens are of these words."""
        asked = torch.tensor([self.words.index(word) for word in words])
        return torch.isin(self.word_of, asked.to(self.word_of))


def up_to_noun(model: Model, sentence: str = SENTENCE) -> Sentence:
    """A sentence up to its noun; raises ModelError for a model that reads no such text."""
    ids = tokenize(model, sentence)
    ends = np.cumsum([len(word) + 1 for word in sentence.split()])
    spans = np.array(model.tokenizer(sentence, return_offsets_mapping=True)["offset_mapping"])
    word = np.searchsorted(ends, spans[: len(ids), 1])
    word[spans[: len(ids), 1] == 0] = -1  # a token that begins every text
    words = sentence.split()[: sentence.split().index(NOUN) + 1]
    inside, shift = word < len(words), int(word[0] < 0)
    device = model.cfg.device
    return Sentence(
        torch.tensor(ids, device=device)[torch.from_numpy(inside).to(device)],
        ["start"] * shift + words,
        torch.from_numpy(word[inside] + shift).to(device),
    )


@dataclass(frozen=True)
class NounRead:
    """A noun at its last token, in every layer, on the CPU; words are those up to the noun."""

    words: list[str]
    attention: Float[Tensor, "layer head word"]
    before: Float[Tensor, "layer d_model"]
    """The noun's state as it enters a layer."""
    moved: Float[Tensor, "layer word d_model"]
    """What attention moves from each word to the noun."""
    written: Float[Tensor, "layer d_model"]
    """All that attention adds to the noun: moved from all words, and a bias where there is one."""


@torch.inference_mode()
def read_noun(model: Model, said: Sentence) -> NounRead:
    """What attention moves to a noun from each word before it, and from the noun itself."""
    kept: dict[str, list[Tensor]] = {name: [] for name in KEPT}
    hooks: Hooks = [
        (f"blocks.{layer}.{name}", partial(_keep, into))
        for layer in range(model.cfg.n_layers)
        for name, into in kept.items()
    ]
    model.run_with_hooks(said.ids[None], return_type=None, fwd_hooks=hooks)
    v, patterns, z, before, written = kept.values()
    out, member = attention_out(model), torch.nn.functional.one_hot(said.word_of).double()
    moved = []
    for layer, pattern in enumerate(patterns):
        parts = Written.of(z[layer][:, -1:], out, layer)
        alpha = pattern[0, :, -1].to(parts.heads)
        values = repeat(
            v[layer][0].to(alpha), "s kv d -> s (kv n) d", n=len(alpha) // v[layer].shape[2]
        )
        by_token = einsum(alpha, values, parts.W, "h s, s h d, h d m -> s m") * parts.scale[0, 0]
        moved.append((member.to(alpha).T @ by_token).cpu())
    attention = torch.stack([pattern[0, :, -1].double() @ member for pattern in patterns])
    last = [torch.stack([state[0, -1] for state in kind]).double() for kind in (before, written)]
    return NounRead(said.words, attention.cpu(), last[0].cpu(), torch.stack(moved), last[1].cpu())


def _keep(into: list[Tensor], value: Tensor, hook: object) -> Tensor:
    into.append(value)
    return value


@torch.inference_mode()
def next_after_noun(model: Model, said: Sentence) -> Float[Tensor, "reading token"]:
    """Probabilities of what follows the noun: as it is, and attending to no adjective of its own.

    The edges from the noun's tokens to those of the adjectives are cut in every layer, and what is
    left of each row grows as if the softmax knew.
    """
    gone = said.tokens_of(NOUN)[:, None] & said.tokens_of(*ADJECTIVES)
    has_sinks = sinks(model.blocks) is not None

    def cut(pattern: Float[Tensor, "batch head query key"], hook: object) -> Tensor:
        return torch.cat([pattern[:1], without(pattern[1:], gone, has_sinks)])

    hooks: Hooks = [
        (f"blocks.{layer}.attn.hook_pattern", cut) for layer in range(model.cfg.n_layers)
    ]
    logits = model.run_with_hooks(said.ids.expand(2, -1), return_type="logits", fwd_hooks=hooks)
    return logits[:, -1].float().softmax(-1).cpu()


def noun_rows(model: Model | None) -> list[pd.DataFrame]:
    """What a model makes of the noun of SENTENCE, as the example `noun`; nothing without a model.

    A row is a cell of a matrix of NOUN_STEPS: step, row, column, value, and how it came about.
    Raises ModelError for a model that does not read the sentence.
    """
    if model is None:
        return []
    said = up_to_noun(model)
    read, layers = read_noun(model, said), [f"layer {n}" for n in range(model.cfg.n_layers)]
    most = read.attention.max(1)
    turned, decoded = _turns(read), _decoded(model, read)
    parts = [
        cells("Attention", layers, read.words, read.attention.mean(1).numpy(),
              lambda row, word: f"most by L{row}H{most.indices[row, word]}: "
              f"{most.values[row, word]:.2f}"),
        cells("Turn", layers, [*read.words, "all words"], turned.numpy(),
              lambda row, word: decoded[row]),
        _next_cells(model, next_after_noun(model, said)),
    ]  # fmt: skip
    return [part.assign(example="noun") for part in parts]


def _turns(read: NounRead) -> Float[Tensor, "layer word_and_all"]:
    """Degrees between the state before attention and that with a word's part of it, or with all."""
    added = torch.cat([read.moved, read.written[:, None]], dim=1)
    before = read.before[:, None]
    cosine = torch.nn.functional.cosine_similarity(before, before + added, dim=-1)
    return cosine.clamp(-1, 1).arccos().rad2deg()


@torch.inference_mode()
def _decoded(model: Model, read: NounRead) -> list[str]:
    """The token that each layer's state decodes to before attention and after it (logit lens)."""
    states = torch.stack([read.before, read.before + read.written]).float().to(model.cfg.device)
    said = unembedding(model)(states).argmax(-1).cpu()
    before, after = (token_strings(model, row.tolist()) for row in said)
    pairs = zip(before, after, strict=True)
    return [f"decodes to “{one}” before, “{two}” after" for one, two in pairs]


def _next_cells(model: Model, chances: Float[Tensor, "reading token"]) -> pd.DataFrame:
    likeliest: Sequence[int] = chances.topk(NAMED).indices.flatten().unique().tolist()
    order = sorted(likeliest, key=lambda token: -float(chances[0, token]))
    rows = ["with them", "without them"]
    return cells("Next word", rows, token_strings(model, order), chances[:, order].double().numpy())
