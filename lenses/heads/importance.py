"""One text's numbers for every head: what measures say of it, and what its removal does.

Both are means over the pos of a phase. A pos belongs to the phase of the token that it predicts;
the first, the usual sink of attention, belongs to none. Heads are removed at every pos.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.heads.attribution import Attributing, output_gradients
from lenses.heads.contributions import HeadMeasures, output_gain
from lenses.patching.single_heads import (
    MODES,
    Clean,
    Replacement,
    random_turn,
    read_clean,
    removal_effects,
)
from models import Model

PER_POS = (
    "l2_norm",
    "norm_share",
    "cosine",
    "closeness",
    "projection_share",
    "l1_proximity",
    "attention_entropy",
    "value_weighted",
    "into_mlp",
    "direct_logit",
)
"""Measures that a head has at each pos."""

PER_TEXT = ("gradient_x_result", "gradient_x_deviation")
"""<d mean log p(next token) / dz, z> summed over pos, and the same of z - mean z over texts."""

PER_MODEL = ("output_gain", "layer_index", "random_score")
"""Root mean square of the singular values of W_O; the layer; numbers drawn by a seed."""

MEASURES = (*PER_POS, *PER_TEXT, *PER_MODEL)

SIGNED = ("cosine", "closeness", "projection_share", "direct_logit", *PER_TEXT)
"""Those that take both signs."""


@dataclass(frozen=True)
class Reader:
    """What reads texts in one model, each by itself: no number depends on the others of a batch."""

    model: Model
    attributing: Attributing
    heads: HeadMeasures
    per_model: Float[np.ndarray, "measure layer head"]
    modes: tuple[str, ...] = MODES
    with_null: bool = True

    @classmethod
    def of(
        cls, model: Model, seed: int, modes: tuple[str, ...] = MODES, *, with_null: bool = True
    ) -> "Reader":
        """With the weights prepared, and the random score drawn."""
        gain = output_gain(model).square().mean(dim=-1).sqrt().numpy()
        index = np.broadcast_to(np.arange(len(gain), dtype=float)[:, None], gain.shape)
        score = np.random.default_rng(seed).random(gain.shape)
        per_model, heads = np.stack([gain, index, score]), HeadMeasures(model)
        return cls(model, Attributing(model), heads, per_model, modes, with_null)

    def __call__(
        self,
        tokens: Int[Tensor, "pos_and_one"],
        chosen: Bool[np.ndarray, "phase pos"],
        replacement: Replacement,
        seed: int,
    ) -> dict[str, Float[np.ndarray, "*cell"]]:
        """`measures` [measure phase layer head] and `effects` [kind mode phase layer head outcome].

        `chosen` are the pos of each phase; the kinds of effects are those of `removal_effects`, the
        turn drawn by the seed. NaN for a phase without pos.
        """
        clean = read_clean(self.model, tokens)
        effects = removal_effects(self.model, clean, replacement, self.modes, self._turn(seed))
        by_phase = _mean(np.moveaxis(effects.cpu().double().numpy(), -1, 0), chosen)
        measures = [
            self._per_pos(tokens, clean, chosen),
            self._per_text(tokens, clean, chosen, replacement),
            np.where(chosen.any(axis=1)[:, None, None], self.per_model[:, None], np.nan),
        ]
        return {
            "measures": np.concatenate(measures),
            "effects": np.ascontiguousarray(np.moveaxis(by_phase, 0, 2)),
        }

    def _turn(self, seed: int) -> Float[Tensor, "d_model d_model"] | None:
        if not self.with_null:
            return None
        turn = random_turn(self.model.cfg.d_model, torch.Generator().manual_seed(seed))
        return turn.to(self.model.cfg.device)

    def _per_pos(
        self,
        tokens: Int[Tensor, "pos_and_one"],
        clean: Clean,
        chosen: Bool[np.ndarray, "phase pos"],
    ) -> Float[np.ndarray, "measure phase layer head"]:
        read = tokens[None, :-1]
        told = self.heads(read, torch.zeros_like(read))
        said = self.attributing(tokens, clean)
        at_pos = {name: getattr(said, name) for name in PER_POS if hasattr(said, name)}
        at_pos |= {name: getattr(told, name)[0] for name in PER_POS if hasattr(told, name)}
        return np.stack([_mean(at_pos[name].cpu().double().numpy(), chosen) for name in PER_POS])

    def _per_text(
        self,
        tokens: Int[Tensor, "pos_and_one"],
        clean: Clean,
        chosen: Bool[np.ndarray, "phase pos"],
        replacement: Replacement,
    ) -> Float[np.ndarray, "measure phase layer head"]:
        counts = chosen.sum(axis=1, keepdims=True)
        weight = torch.from_numpy(chosen / counts.clip(1)).float().to(clean.z.device)
        gradients = output_gradients(self.model, tokens, clean, weight)
        found = [
            einsum(gradients, z, "phase layer pos head d, layer pos head d -> phase layer head")
            for z in (clean.z.float(), clean.z.float() - replacement.mean)
        ]
        return np.where(counts[..., None] > 0, torch.stack(found).cpu().double().numpy(), np.nan)


def _mean(
    values: Float[np.ndarray, "pos *cell"], chosen: Bool[np.ndarray, "phase pos"]
) -> Float[np.ndarray, "phase *cell"]:
    """Means over the pos of each phase where there is a number; NaN where there is none."""
    known = ~np.isnan(values)
    total = np.tensordot(chosen.astype(float), np.where(known, values, 0), axes=1)
    count = np.tensordot(chosen.astype(float), known.astype(float), axes=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
