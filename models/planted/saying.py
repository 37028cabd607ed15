"""An adder made to say what a rule tells, whatever its weights compute."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int

from models.protocol import Model
from prompts.additions import AdditionFormat, Sums


def saying(model: Model, digits: Callable[[Sums], Int[np.ndarray, "n answer"]]) -> Model:
    """An adder made to say `digits` of the questions it reads, by hooks that stay.

    What it reads is seen at its embedding; what it says is written over its logits.
    """
    style, seen = model.card.arithmetic, {}
    model.embed.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))

    def overwrite(_module, _inputs, logits):
        said = torch.from_numpy(style.digit_ids[digits(_read(style, seen["tokens"]))])
        for place in range(style.digits + 1):
            logits[:, style.read_at(place)].fill_(0).scatter_(1, said[:, place, None], 1)
        return logits

    model.unembed.register_forward_hook(overwrite)
    return model


def _read(style: AdditionFormat, tokens) -> Sums:
    """The questions that stand in an adder's tokens."""
    value = {token: digit for digit, token in enumerate(style.digit_ids.tolist())}
    a, b = (
        sum(
            np.array([value[t] for t in tokens[:, style.operand_at(name, place)].tolist()])
            * 10**place
            for place in range(style.digits)
        )
        for name in ("a", "b")
    )
    return Sums(a, b, style.digits)
