"""Special passes: taken up at a block, read at few positions, or run to see how far heads look.

Under TransformerLens 3.9 `start_at_layer` does that. Under 4.x it is exact but saves nothing: the
blocks before are computed and what they say is thrown away. Here they are stepped over.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.card import NativeConfig
from models.hooked import HAS_BRIDGE
from models.protocol import Model

Hooks = list[tuple[str | Callable[[str], bool], Callable[..., Any]]]


def run_from(
    model: Model, layer: int, resid_pre: Float[Tensor, "batch pos d_model"], hooks: Hooks
) -> Float[Tensor, "batch pos d_vocab_out"]:
    """Logits of the states that enter block `layer`, with functions called at later hooks.

    Equal to the bit to what a whole pass makes of the same states in a batch of the same shape.
    """
    # TransformerLens' own models take a tuple from each block.
    hand_on = _hand_on_in_tuple if isinstance(model.blueprint, NativeConfig) else _hand_on
    with _stepped_over(list(model.blocks)[:layer] if HAS_BRIDGE else [], hand_on):
        return model.run_with_hooks(
            resid_pre, start_at_layer=layer, return_type="logits", fwd_hooks=hooks
        )


@contextmanager
def _stepped_over(blocks: list[Any], hand_on: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, these blocks hand on what they are given; their hooks are not called."""
    for block in blocks:
        vars(block)["forward"] = hand_on  # plain assignment would reach the module it wraps
    try:
        yield
    finally:
        for block in blocks:
            del vars(block)["forward"]


def _hand_on(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _hand_on_in_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    return (hidden_states,)


@contextmanager
def reading(model: Any, at: Int[Tensor, "row read"]) -> Iterator[None]:
    """While this is open, the model computes logits at these positions only [row read vocab]."""
    with reading_each(model, torch.arange(len(at), device=at.device)[:, None], at):
        yield


@contextmanager
def reading_each(
    model: Any, row: Int[Tensor, "n read"], at: Int[Tensor, "n read"]
) -> Iterator[None]:
    """While this is open, the model computes logits at these rows' positions [n read vocab]."""
    handle = model.unembed.register_forward_pre_hook(
        lambda module, inputs: (inputs[0][row, at], *inputs[1:])
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def before_unembedding(model: Any) -> Iterator[list[Float[Tensor, "batch pos d_model"]]]:
    """While this is open, logits are not computed; the list holds the states to be unembedded."""
    kept: list[Tensor] = []

    def cut(module: Any, inputs: tuple) -> tuple:
        kept[:] = inputs[:1]
        return (inputs[0][:, :0], *inputs[1:])

    handle = model.unembed.register_forward_pre_hook(cut)
    try:
        yield kept
    finally:
        handle.remove()


@torch.inference_mode()
def windows(model: Model, tokens: Int[Tensor, "pos"]) -> list[int | None]:
    """How many tokens each layer can look back at, itself included; None for all of the text.

    Measured: where queries match nothing, every key that a head can see gets its share, and only
    those beyond a window get exactly nothing. A window as long as the text shows none.
    """
    found: list[int | None] = []

    def no_query(query: Tensor, hook: object) -> Tensor:
        return torch.zeros_like(query)

    def reach(pattern: Tensor, hook: object) -> None:
        seen = pattern[0].amax(0) > 0
        query, key = seen.nonzero().unbind(1)
        most = int((query - key).max()) + 1
        found.append(most if most < len(seen) else None)

    at = {"hook_q": no_query, "hook_pattern": reach}
    hooks: Hooks = [
        (f"blocks.{layer}.attn.{name}", do)
        for layer in range(model.cfg.n_layers)
        for name, do in at.items()
    ]
    model.run_with_hooks(tokens[None], return_type=None, fwd_hooks=hooks)
    return found
