"""What a head contributes to the answer, to the MLP, and from each source (SCIENCE 1).

With r a head's result after the frozen scale of a norm that follows attention, products with and
lengths of r come from d_head-wide forms: <r, u> = z . (W_O u) and norm(r A)^2 = z (W A A^T W^T) z.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor

from lenses.heads.contributions import Written
from lenses.patching.single_heads import Clean
from models import Model
from models.parts import (
    AttentionOut,
    FinalNorm,
    attention_out,
    is_parallel,
    mlp_norms,
)
from models.readout import unembedding


@dataclass(frozen=True)
class Attribution:
    """What is said of each head at each pos of one text."""

    value_weighted: Float[Tensor, "pos layer head"]
    """Sum over sources j of norm(alpha_ij v_j W_O), the length of what is moved from each; never
    less than norm(r). (Kobayashi et al. 2020, section 3.)"""
    direct_logit: Float[Tensor, "pos layer head"]
    """<r, U[true] - U[rival]> through the frozen final norm; NaN where the true token cannot be
    said. (Direct logit attribution: Elhage et al. 2021.)"""
    into_mlp: Float[Tensor, "pos layer head"]
    """norm(r W_in) through the frozen norm before the MLP over the norm of all that enters its
    neurons but their bias; NaN where no MLP reads what the block's heads write."""


class Attributing:
    """Attribution in one model, whose weights are prepared once."""

    def __init__(self, model: Model) -> None:
        self.model, self.out, self.head = model, attention_out(model), unembedding(model)
        self.reads = not (model.cfg.attn_only or is_parallel(model))
        self.norms = mlp_norms(model) if self.reads else []
        self.grams = [_mlp_gram(model, self.out, n, i) for i, n in enumerate(self.norms)]

    @torch.inference_mode()
    def __call__(self, tokens: Int[Tensor, "pos_and_one"], clean: Clean) -> Attribution:
        """What one text's heads contribute, in one more pass over it."""
        reading = _Reading(self.model.cfg.n_layers)
        self.model.run_with_hooks(tokens[None, :-1], fwd_hooks=reading.hooks(self.reads))
        answer = self._answer(reading.last, clean)
        found: dict[str, list[Tensor]] = {f.name: [] for f in fields(Attribution)}
        for layer, (z, moved) in enumerate(zip(clean.z, reading.moved, strict=True)):
            written = Written.of(z[None], self.out, layer)
            found["value_weighted"].append(_value_weighted(*moved, written))
            found["direct_logit"].append(_product(written, answer))
            found["into_mlp"].append(self._into_mlp(written, layer, reading.mid))
        return Attribution(**{name: torch.stack(x, dim=1) for name, x in found.items()})

    def _answer(
        self, last: Float[Tensor, "pos d_model"], clean: Clean
    ) -> Float[Tensor, "pos d_model"]:
        """The direction of the residual stream that raises the true token over its rival."""
        apart = self.head.directions(clean.true) - self.head.directions(clean.rival)
        direction = apart.to(last) / self.head.norm.scale(last)
        return torch.where(clean.sayable[:, None], direction, torch.nan)

    def _into_mlp(
        self, written: Written, layer: int, mid: list[Float[Tensor, "pos d_model"]]
    ) -> Float[Tensor, "pos head"]:
        z = (written.z * written.scale[..., None])[0]
        if not self.reads:
            return torch.full(z.shape[:2], torch.nan, device=z.device)
        norm, gram = self.norms[layer], self.grams[layer].to(z)
        squared = einsum(z, gram, z, "pos head row, head row col, pos head col -> pos head")
        entering = norm(mid[layer]) @ _read_by_mlp(self.model, layer).to(mid[layer])
        length = (norm.scale(mid[layer]) * entering.norm(dim=-1, keepdim=True)).to(z)
        return torch.where(length > 0, squared.clamp(min=0).sqrt() / length, 0)


class _Reading:
    """What is kept of a pass: values and patterns, the state before each MLP, the last state."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.values: list[Tensor] = []
        self.patterns: list[Tensor] = []
        self.mid: list[Tensor] = []

    @property
    def moved(self) -> list[tuple[Tensor, Tensor]]:
        """Each layer's pattern and values."""
        return list(zip(self.patterns, self.values, strict=True))

    def hooks(self, with_mid: bool) -> list[tuple[str, Callable[..., None]]]:
        """What to do at each hook."""
        kept = {"attn.hook_v": self.values, "attn.hook_pattern": self.patterns}
        if with_mid:
            kept["hook_resid_mid"] = self.mid
        hooks = [
            (f"blocks.{layer}.{name}", partial(_keep, into))
            for layer in range(self.layers)
            for name, into in kept.items()
        ]
        return [*hooks, (f"blocks.{self.layers - 1}.hook_resid_post", self._keep_last)]

    def _keep_last(self, resid: Tensor, hook: object) -> None:
        self.last = resid[0].float()


def _keep(into: list[Tensor], value: Tensor, hook: object) -> None:
    into.append(value[0].float())


def _value_weighted(
    pattern: Float[Tensor, "head query key"], v: Float[Tensor, "pos kv d_head"], written: Written
) -> Float[Tensor, "pos head"]:
    """Sum over sources of the length of what each head moves from there."""
    heads = len(pattern)
    v = repeat(v, "pos kv d_head -> pos (kv group) d_head", group=heads // v.shape[1])
    v, gram = v.to(written.z), written.gram
    squared = einsum(v, gram, v, "pos head row, head row col, pos head col -> pos head")
    lengths = squared.clamp(min=0).sqrt()
    moved = einsum(pattern.to(lengths), lengths, "head query key, key head -> query head")
    return moved * written.scale[0]


def _product(
    written: Written, direction: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "pos head"]:
    """<r, direction> of each head."""
    back = einsum(
        direction.to(written.W), written.W, "pos d_model, head d_head d_model -> pos head d_head"
    )
    return (written.z[0] * back).sum(dim=-1) * written.scale[0]


def _mlp_gram(
    model: Model, out: AttentionOut, norm: FinalNorm, layer: int
) -> Float[Tensor, "head row col"]:
    """W A A^T W^T of each head, where A is the norm's gain and the weights of the neurons."""
    read = norm.gain.float()[:, None] * _read_by_mlp(model, layer).float()
    W = norm.centred(out.gained(layer))
    entering = einsum(W, read, "head d_head d_model, d_model n -> head d_head n")
    return einsum(entering, entering, "head row n, head col n -> head row col")


def _read_by_mlp(model: Model, layer: int) -> Float[Tensor, "d_model neuron"]:
    """What the neurons read with: W_in, beside it W_gate where there is one."""
    mlp: Any = model.blocks[layer].mlp  # the model's own W_in is a new stack of all layers'
    both = [mlp.W_gate] if model.cfg.gated_mlp else []
    return torch.cat([*both, mlp.W_in], dim=-1)


def output_gradients(
    model: Model,
    tokens: Int[Tensor, "pos_and_one"],
    clean: Clean,
    weight: Float[Tensor, "objective pos"],
) -> Float[Tensor, "objective layer pos head d_head"]:
    """Gradient by every z of weighted sums of log p(next token), a backward pass for each.

    <gradient, z> is what zero ablation takes from the sum, to first order; <gradient, z - mean z>
    what mean ablation does. (Attribution patching: Nanda 2023; Syed et al. 2023.)
    """
    seen: list[Tensor] = []
    hooks = [("blocks.0.hook_resid_pre", _begin)]
    hooks += [
        (f"blocks.{layer}.attn.hook_z", partial(_see, seen)) for layer in range(model.cfg.n_layers)
    ]
    with torch.inference_mode(False), torch.enable_grad():
        # What was made in inference mode is copied: autograd keeps no such tensors.
        given, true, weight = tokens[None, :-1].clone(), clean.true.clone(), weight * clean.sayable
        logits = model.run_with_hooks(given, return_type="logits", fwd_hooks=hooks)
        log_p = logits[0].float().log_softmax(dim=-1).gather(-1, true[:, None])[:, 0]
        found = [torch.autograd.grad(log_p @ row, seen, retain_graph=True) for row in weight]
    return torch.stack([torch.cat(gradients) for gradients in found]).detach().float()


def _begin(resid: Tensor, hook: object) -> Tensor:
    return resid.detach().requires_grad_(True)


def _see(seen: list[Tensor], z: Tensor, hook: object) -> Tensor:
    seen.append(z)
    return z  # the bridge shows a hook another view of z than the one that goes on
