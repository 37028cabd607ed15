"""Numbers that are no longer finite: found in the first batch that has them, and named."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.card import ModelError
from models.protocol import Model

SEEN = ("attn.hook_v", "attn.hook_z", "hook_resid_post")
"""What is looked at in each block, in the order in which it is computed."""
SHOWN = 40
"""Characters of a text that are quoted."""


def watch(model: Any) -> None:
    """From now on refuse every pass that ends in NaN or infinity (ModelError)."""
    if getattr(model, "is_watched", False):
        return
    model.is_watched, last = True, {"tokens": None, "is_looked_at": False}

    def read(_: object, inputs: tuple[Tensor, ...]) -> None:
        last["tokens"] = inputs[0] if inputs else None

    def check(_: object, inputs: tuple[Tensor, ...]) -> None:
        if not last["is_looked_at"] and inputs and not torch.isfinite(inputs[0]).all():
            last["is_looked_at"] = True
            try:
                _refuse(model, last["tokens"], inputs[0])
            finally:
                last["is_looked_at"] = False

    model.embed.register_forward_pre_hook(read)
    model.unembed.register_forward_pre_hook(check)


def _refuse(
    model: Model, tokens: Tensor | None, states: Float[Tensor, "batch pos d_model"]
) -> None:
    """Raise ModelError where the last states of a text are not finite, and say where that began."""
    wrong = ~torch.isfinite(states).all(-1)
    known = tokens is not None and tokens.shape == wrong.shape
    if known:
        wrong &= ~_filling(tokens)
    if not wrong.any():
        return
    row = int(wrong.any(1).nonzero()[0])
    where = (
        _began(model, tokens[row : row + 1]) if known else "what it was given in place of a state"
    )
    text = f" of {_quoted(model, tokens[row])}" if known else ""
    dtype = str(model.cfg.dtype).removeprefix("torch.")
    advice = "leave this text out, or use another model"
    if dtype == "float16":
        advice = "use --dtype float32 or bfloat16"
    raise ModelError(
        f"{model.card.name}: prompt {row} of a batch: {where}{text} is NaN or infinite in {dtype}; "
        f"{advice}"
    )


def _filling(tokens: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """Zeros up to the end of a row: it is filled up with them, and nothing reads what they give."""
    return (tokens != 0).flip(1).cumsum(1).flip(1) == 0


@torch.no_grad()
def _began(model: Model, tokens: Int[Tensor, "1 pos"]) -> str:
    """The first layer, head and token of a text that are not finite."""
    _, kept = model.run_with_cache(tokens, names_filter=lambda name: name.endswith(SEEN))
    for layer in range(model.cfg.n_layers):
        for name in SEEN:
            wrong = ~torch.isfinite(kept[f"blocks.{layer}.{name}"][0]).all(-1)
            if wrong.any():
                return _place(model, tokens[0], layer, name, wrong)
    return "an edited state"


def _place(
    model: Model, tokens: Tensor, layer: int, name: str, wrong: Bool[Tensor, "pos *head"]
) -> str:
    first = wrong.nonzero()[0].tolist()
    of = "" if len(first) < 2 else f", head {first[1]}"
    part = {"attn.hook_v": "values", "attn.hook_z": "attention", "hook_resid_post": "state"}[name]
    at = "" if wrong.all() else f" at token {first[0]} ({_quoted(model, tokens[first[:1]])})"
    return f"layer {layer}{of}, {part}{at}"


def _quoted(model: Model, tokens: Tensor) -> str:
    """Tokens as text; as numbers for a model without tokenizer."""
    if model.tokenizer is None:
        return str(tokens.tolist()[:8])
    return repr(model.tokenizer.decode(tokens.tolist())[:SHOWN])
