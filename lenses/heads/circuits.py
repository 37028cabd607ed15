"""What a head matches and what it writes, as matrices over pairs of tokens.

The QK circuit scores a query token against a key token; the OV circuit says which tokens' logits a
token raises when it is attended to (Elhage et al. 2021, "A Mathematical Framework for Transformer
Circuits"). Tokens enter the first block as they are embedded. Later blocks never see a bare
embedding: there a token is its *effective embedding*, the state after the first block at pos 1 of
the text [first token] token. Norms, rotation, biases and shared keys and values are the model's
own, since it is the model that makes queries, keys and values of these states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor

from models import Model
from models.parts import attention_out
from models.readout import unembedding

Read = TypeVar("Read")

CIRCUITS = ("QK, same pos", "QK, next pos", "OV")
"""Query and key at one pos; the query one pos after the key; what is written."""


@dataclass(frozen=True)
class TokenPairs:
    """One circuit of one layer's heads. A row may be shifted as a whole at no effect, in attention
    and in logits: rows have mean zero."""

    circuit: str
    scores: Float[Tensor, "head row column"]
    """Query x key token, or token attended to x token written; standard deviation 1 a head."""

    @property
    def favourites(self) -> Float[Tensor, "head column"]:
        """What a column gets from rows in general: keys that any query likes, words always said."""
        return self.scores.mean(1)

    @property
    def special(self) -> Float[Tensor, "head row column"]:
        """What is left of a pair when its column's favour is taken off."""
        return self.scores - self.scores.mean(1, keepdim=True)

    def own(self) -> Float[Tensor, "head row"]:
        """For each token, the share of other columns whose special score is below its own's.

        Above .5, a head attends to the same token, or writes the one it reads.
        """
        special = self.special
        diagonal = special.diagonal(dim1=-2, dim2=-1)[..., None]
        below = (special < diagonal).sum(-1) + ((special == diagonal).sum(-1) - 1) / 2
        return below / (special.shape[-1] - 1)

    def top_pairs(
        self, count: int
    ) -> tuple[Int[Tensor, "head pair 2"], Float[Tensor, "head pair"]]:
        """The pairs with the highest special scores, and these."""
        score, flat = self.special.flatten(1).topk(count)
        columns = self.scores.shape[-1]
        return torch.stack([flat // columns, flat % columns], dim=-1), score


@torch.inference_mode()
def circuits(
    model: Model,
    tokens: Int[Tensor, "token"],
    first: int,
    read: Callable[[list[TokenPairs]], Read],
) -> list[Read]:
    """What `read` makes of the CIRCUITS of each layer, over pairs of `tokens`.

    All of these can also be said. Circuits are made layer by layer and not kept: each head of a
    layer takes three matrices of the number of tokens squared. `first` begins the texts from which
    effective embeddings are taken.
    """
    name, last = "blocks.0.hook_resid_post", model.cfg.n_layers
    texts = torch.stack([torch.full_like(tokens, first), tokens], dim=1)
    _, cache = model.run_with_cache(texts, names_filter=[name], stop_at_layer=1)
    reading = _Reading(model, tokens, cache[name][:, 1:])
    found: list[Read] = []
    hooks = [hook for layer in range(last) for hook in reading.hooks(layer, read, found)]
    model.run_with_hooks(texts[:, [1, 1]], stop_at_layer=last, fwd_hooks=hooks)
    return found


def _standard(scores: Float[Tensor, "head row column"]) -> Float[Tensor, "head row column"]:
    """Rows less their means, over the head's standard deviation (0 stays 0)."""
    centred = scores - scores.mean(-1, keepdim=True)
    spread = centred.std((-2, -1), keepdim=True)
    return centred / torch.where(spread > 0, spread, 1)


class _Reading:
    """A pass over texts of twice the same token, in which every block is given that token anew."""

    def __init__(
        self,
        model: Model,
        tokens: Int[Tensor, "token"],
        effective: Float[Tensor, "token 1 d_model"],
    ) -> None:
        self.model, self.tokens, self.effective = model, tokens, effective
        self.seen: dict[str, Tensor] = {}

    def hooks(
        self, layer: int, read: Callable[[list[TokenPairs]], Read], found: list[Read]
    ) -> list[tuple[str, Callable]]:
        """Give a block the tokens, see its queries, keys and values, and read its circuits."""
        rotated = f"blocks.{layer}.attn.hook_rot_q" in self.model.hook_dict
        q, k = ("hook_rot_q", "hook_rot_k") if rotated else ("hook_q", "hook_k")
        at = {name: partial(self._see, key) for name, key in ((q, "q"), (k, "k"), ("hook_v", "v"))}
        # The first block is given its embeddings as they are.
        given = [(f"blocks.{layer}.hook_resid_pre", self._put)] if layer else []
        return [
            *given,
            *((f"blocks.{layer}.attn.{name}", do) for name, do in at.items()),
            (f"blocks.{layer}.attn.hook_z", lambda z, hook: found.append(read(self._pairs(layer)))),
        ]

    def _put(self, resid: Tensor, hook: object) -> Tensor:
        return self.effective.expand_as(resid).to(resid)

    def _see(self, key: str, value: Tensor, hook: object) -> None:
        self.seen[key] = value.float()

    def _pairs(self, layer: int) -> list[TokenPairs]:
        """Queries at pos 1, keys at pos 1 and 0, values at pos 1."""
        q = self.seen["q"][:, 1]
        k, v = (_each_head(self.seen[name], q.shape[1]) for name in "kv")
        said = _to_logits(self.model, layer, self.tokens)
        scores = [
            einsum(q, k[:, 1], "row head d_head, column head d_head -> head row column"),
            einsum(q, k[:, 0], "row head d_head, column head d_head -> head row column"),
            einsum(v[:, 1], said, "row head d_head, head d_head column -> head row column"),
        ]
        return [TokenPairs(name, _standard(x)) for name, x in zip(CIRCUITS, scores, strict=True)]


def _each_head(
    shared: Float[Tensor, "token pos kv d_head"], heads: int
) -> Float[Tensor, "token pos head d_head"]:
    """Keys or values of each query head: head h reads number h // (heads / kv)."""
    group = heads // shared.shape[2]
    return repeat(shared, "token pos kv d_head -> token pos (kv group) d_head", group=group)


def _to_logits(
    model: Model, layer: int, tokens: Int[Tensor, "token"]
) -> Float[Tensor, "head d_head token"]:
    """From a layer's values to logits, along the direct path and up to the scales of norms."""
    W_O, said = attention_out(model).gained(layer), unembedding(model).directions(tokens)
    return einsum(W_O, said, "head d_head d_model, token d_model -> head d_head token")
