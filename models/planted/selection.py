"""A model whose heads select what weights written by code make them select.

One head each in the first layer attends to the previous token, to earlier occurrences of the same
token, to the first token, to keys by their token alone, by their pos alone, and by a sum of the
two. A head of the second layer reads what the previous-token head moved, so that it attends to
tokens that follow an earlier occurrence of the same token, and says them: an induction head
(Elhage et al. 2021). All other heads attend and write at random, and nothing reads them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.card import NativeConfig, find_card
from models.planted.writing import IGNORED, Weights, random_heads, written
from models.protocol import Model

LIKE = "adder_6d_2l"
"""The adder whose texts it reads."""
FIRST = ("previous", "duplicate", "sink", "content", "position", "sum")
"""What heads of the first layer select by."""
HEADS = 8
D_HEAD = 48
SHARP = 30.0
"""Score of what is selected; of all else 0."""
LOGIT = 12.0
"""Of the token that the induction head moves."""


@dataclass(frozen=True)
class PlantedSelection:
    """A model, and which head of it does what."""

    model: Model
    heads: dict[str, tuple[int, int]]
    """(layer, head) of each of FIRST and of `induction`."""
    content: dict[str, Tensor]
    """Score of each token as a key, by the heads `content` and `sum`."""
    position: dict[str, Tensor]
    """Score of each pos as a key, by the heads `position` and `sum`."""


def planted_selection(seed: int = 0) -> PlantedSelection:
    """The model; which head does what, and all that is random, is drawn by `seed`."""
    rng = torch.Generator().manual_seed(seed)
    style = find_card(LIKE).arithmetic
    assert style is not None
    sizes = {"token": len(style.vocabulary), "pos": 22, "before": len(style.vocabulary)}
    sizes |= {"said": len(style.vocabulary), "ignored": IGNORED}
    ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
    axes = {k: slice(end - n, end) for (k, n), end in zip(sizes.items(), ends, strict=True)}
    order = [torch.randperm(HEADS, generator=rng).tolist() for _ in range(2)]
    heads = {name: (0, order[0][i]) for i, name in enumerate(FIRST)} | {
        "induction": (1, order[1][0])
    }
    blocks = [_random_heads(axes, rng) for _ in range(2)]
    content = {name: _effects(sizes["token"], rng) for name in ("content", "sum")}
    position = {name: _effects(sizes["pos"], rng) for name in ("position", "sum")}
    for name, (layer, head) in heads.items():
        one = {which: weight[head].zero_() for which, weight in blocks[layer].items()}
        _plant(name, one, axes, content.get(name), position.get(name), style.vocabulary["<bos>"])
    for block in blocks:
        block["W_Q"] *= D_HEAD**0.5  # by which scores are divided
    config = NativeConfig(
        n_layers=2, n_heads=HEADS, d_model=axes["ignored"].stop, d_head=D_HEAD,
        n_ctx=sizes["pos"], d_vocab=sizes["token"], attn_only=True,
    )  # fmt: skip
    model = written("selection", config, _outer(axes), blocks, arithmetic=style)
    return PlantedSelection(model, heads, content, position)


def _effects(count: int, rng: torch.Generator) -> Tensor:
    return torch.randn(count, generator=rng)


def _plant(
    name: str,
    one: Weights,
    axes: dict[str, slice],
    content: Tensor | None,
    position: Tensor | None,
    bos: int,
) -> None:
    """Write the weights of one head, which are all zero."""
    W_Q, W_K = one["W_Q"], one["W_K"]
    token, pos, before = (axes[key] for key in ("token", "pos", "before"))
    tokens, places = token.stop - token.start, pos.stop - pos.start
    if name == "previous":
        W_Q[pos, :places] = SHARP * torch.eye(places).roll(-1, dims=1)
        W_Q[pos.start, :] = 0
        W_K[pos, :places] = torch.eye(places)
        one["W_V"][token, :tokens] = torch.eye(tokens)
        one["W_O"][:tokens, before] = torch.eye(tokens)
    elif name == "duplicate":
        W_Q[token, :tokens] = SHARP * torch.eye(tokens)
        W_K[token, :tokens] = torch.eye(tokens)
        # The token itself is no earlier occurrence.
        W_Q[pos, tokens : tokens + places] = -SHARP * torch.eye(places)
        W_K[pos, tokens : tokens + places] = torch.eye(places)
    elif name == "induction":
        W_Q[token, :tokens] = SHARP * torch.eye(tokens)
        W_K[before, :tokens] = torch.eye(tokens)
        one["W_V"][token, :tokens] = torch.eye(tokens)
        one["W_O"][:tokens, axes["said"]] = LOGIT * torch.eye(tokens)
    else:
        W_Q[pos, 0] = 1
        if name == "sink":
            W_K[token.start + bos, 0] = SHARP
        if content is not None:
            W_K[token, 0] = content
        if position is not None:
            W_K[pos, 0] = position


def _random_heads(axes: dict[str, slice], rng: torch.Generator) -> Weights:
    """Heads that attend by token and pos and write what is ignored."""
    block = random_heads(HEADS, axes["ignored"].stop, D_HEAD, axes["pos"].stop, rng)
    for name in ("W_Q", "W_K", "W_V"):
        block[name] /= D_HEAD**0.25
    return block


def _outer(axes: dict[str, slice]) -> Weights:
    """Embeddings that tell every token and pos, and what says a token that was moved."""
    d_model = axes["ignored"].stop
    tokens, places = (axes[key].stop - axes[key].start for key in ("token", "pos"))
    W_E, W_pos = torch.zeros(tokens, d_model), torch.zeros(places, d_model)
    W_U = torch.zeros(d_model, tokens)
    W_E[:, axes["token"]], W_pos[:, axes["pos"]] = torch.eye(tokens), torch.eye(places)
    W_U[axes["said"]] = torch.eye(tokens)
    return {"embed.W_E": W_E, "pos_embed.W_pos": W_pos, "unembed.W_U": W_U}
