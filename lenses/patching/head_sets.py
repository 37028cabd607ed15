"""What a model says without some of its heads, many sets of heads in one batch (SCIENCE 2, 6)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.patching.resumed import Change, Resumable, alike
from models import Model

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
    instead: Sequence[Float[Tensor, "n_or_1 pos_or_1 head d_head"]],
    at: Int[np.ndarray, "n read"],
    batch_size: int,
) -> Int[np.ndarray, "set n read"]:
    """The token said at each pos in `at` when the heads of each set are ablated.

    A set says for each layer, pos (or all of them at once) and head whether it is ablated.
    """
    number, row = (axis.ravel() for axis in np.indices((len(sets), len(tokens))))
    clean = Resumable(model, tokens, at, batch_size)
    layer, start = (sets.any(over).argmax(1)[number] for over in ((2, 3), (1, 3)))
    said, order = [], []
    for which in alike(np.stack([layer, start]), batch_size):
        first = int(layer[which[0]]), range(int(start[which[0]]), tokens.shape[1])
        edit = _Ablation(sets[number[which]], row[which], instead)
        said.append(clean.changed(Change(row[which], *first, edit)).argmax(-1))
        order.append(which)
    back = np.argsort(np.concatenate(order))
    return torch.cat(said).cpu().numpy()[back].reshape(len(sets), *at.shape)


class _Ablation:
    """Puts what stands in for them in the place of the heads that each row of a batch loses.

    No dataclass: TransformerLens writes out each hook's owner, which would print every number.
    """

    def __init__(
        self,
        gone: Bool[np.ndarray, "row layer pos_or_1 head"],
        row: Int[np.ndarray, "row"],
        instead: Sequence[Float[Tensor, "n_or_1 pos_or_1 head d_head"]],
    ) -> None:
        self.gone, self.row, self.instead = gone, row, instead

    def __call__(
        self, kind: str, layer: int, act: Float[Tensor, "row pos *act"], pos: np.ndarray
    ) -> Float[Tensor, "row pos *act"]:
        """z without the heads that are gone."""
        if kind != "z" or not self.gone[:, layer].any():
            return act
        gone, new = self.gone[:, layer], self.instead[layer]
        gone = torch.from_numpy(gone[:, pos] if gone.shape[1] > 1 else gone).to(act.device)
        if new.shape[1] > 1:
            new = new[:, torch.from_numpy(pos).to(act.device)]
        if len(new) > 1:
            new = new[torch.from_numpy(self.row).to(act.device)]
        return torch.where(gone[..., None], new.to(act.dtype), act)
