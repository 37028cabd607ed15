"""What a model says without some of its heads, many sets of heads in one batch (SCIENCE 2, 6)."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.passes import Hooks, reading

Mode = Literal["zero", "mean", "resample"]
MODES: tuple[Mode, ...] = ("zero", "mean", "resample")
"""What a head's z becomes: nothing; its mean at that pos over a reference set; its z at that pos
for another prompt of that set. Zero and mean can contradict each other, so both are reported."""


def stand_in(
    mode: Mode, z: Sequence[Float[Tensor, "n pos head d_head"]], rng: np.random.Generator, rows: int
) -> list[Float[Tensor, "n_or_1 pos head d_head"]]:
    """What takes the place of each layer's z in `rows` prompts, from the z of a reference set."""
    if mode == "zero":
        return [torch.zeros_like(act[:1]) for act in z]
    if mode == "mean":
        return [act.mean(0, keepdim=True) for act in z]
    drawn = torch.from_numpy(rng.integers(len(z[0]), size=rows)).to(z[0].device)
    return [act[drawn] for act in z]


@torch.inference_mode()
def ablated(
    model: Model,
    tokens: Int[np.ndarray, "n pos"],
    sets: Bool[np.ndarray, "set layer pos_or_1 head"],
    instead: Sequence[Float[Tensor, "n_or_1 pos head d_head"]],
    at: Int[np.ndarray, "n read"],
    batch_size: int,
) -> Int[np.ndarray, "set n read"]:
    """The token said at each pos in `at` when the heads of each set are ablated.

    A set says for each layer, pos (or all of them at once) and head whether it is ablated.
    """
    number, row = (axis.ravel() for axis in np.indices((len(sets), len(tokens))))
    said = []
    for start in range(0, len(number), batch_size):
        chunk = slice(start, start + batch_size)
        batch, reads = (
            torch.from_numpy(np.ascontiguousarray(array[row[chunk]])).to(model.cfg.device)
            for array in (tokens, at)
        )
        hooks = _hooks(sets, number[chunk], row[chunk], instead)
        with reading(model, reads):
            said.append(model.run_with_hooks(batch, fwd_hooks=hooks).argmax(-1))
    return torch.cat(said).cpu().numpy().reshape(len(sets), *at.shape)


def _hooks(
    sets: Bool[np.ndarray, "set layer pos_or_1 head"],
    number: Int[np.ndarray, "row"],
    row: Int[np.ndarray, "row"],
    instead: Sequence[Float[Tensor, "n_or_1 pos head d_head"]],
) -> Hooks:
    """A hook for every layer of which any row loses a head."""
    hooks: Hooks = []
    chosen = sets[number]
    for layer in np.flatnonzero(chosen.any((0, 2, 3))):
        new = instead[layer]
        if len(new) > 1:
            new = new[torch.from_numpy(row).to(new.device)]
        gone = torch.from_numpy(chosen[:, layer]).to(new.device)
        hooks.append((f"blocks.{layer}.attn.hook_z", partial(_ablate, gone, new)))
    return hooks


def _ablate(
    gone: Bool[Tensor, "batch pos_or_1 head"],
    new: Float[Tensor, "n_or_1 pos head d_head"],
    z: Float[Tensor, "batch pos head d_head"],
    hook: object,
) -> Float[Tensor, "batch pos head d_head"]:
    return torch.where(gone[..., None], new.to(z.dtype), z)
