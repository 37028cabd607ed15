"""The parts of a model that measurements need, the same under TransformerLens 3.9 and 4.x."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.card import ModelError
from models.protocol import Model

BIG, SMALL = 2.0**10, 2.0**-10
"""Sizes of the vectors on which norms are measured: far above and near what is added in them."""


@dataclass(frozen=True)
class AttentionOut:
    """What turns the heads' z into what attention writes to the residual stream.

    Attention computes `sum_h z[h] @ W_O[h] + b_O`. Without a norm after attention that is what
    enters the residual stream; a factor on it (Granite's residual_multiplier) is part of W_O and
    b_O here. With a norm (Gemma 2 and 3, OLMo 2) `post_gain * sum / rms` enters, with
    `rms = sqrt(mean(sum^2) + post_eps)`.

    Hooks, the same under 3.9 and 4.x: `blocks.{l}.hook_attn_out` [batch pos d_model] is what
    enters the residual stream, after the norm; `blocks.{l}.ln1_post.hook_scale` [batch pos 1] is
    the rms; `blocks.{l}.ln1_post.hook_normalized` is sum / rms. The sum before the norm is
    `blocks.{l}.attn.hook_out` under 4.x; 3.9 has no hook there: compute it from z.
    """

    W_O: Sequence[Float[Tensor, "head d_head d_model"]]
    """Of each layer: the model's own numbers, not copied but where attention adds a factor times
    what it computes; times that factor."""
    b_O: Float[Tensor, "layer d_model"]
    """Zeros where the model has no such bias."""
    post_gain: Float[Tensor, "layer d_model"] | None
    """What the norm after attention multiplies with; None without a norm."""
    post_eps: float
    """Added to the mean square in that norm."""

    def gained(
        self, layer: int, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "head d_head d_model"]:
        """A layer's W_O, times the gain of the norm after attention where there is one."""
        W_O = self.W_O[layer].to(dtype)
        return W_O if self.post_gain is None else W_O * self.post_gain[layer].to(dtype)


@dataclass(frozen=True)
class FinalNorm:
    """A norm, as that before the unembedding: `gain * (x - mean) / scale + shift`."""

    kind: str | None
    """"LN" (centred), "RMS" (not centred) or None (nothing is divided by)."""
    gain: Float[Tensor, "d_model"]
    shift: Float[Tensor, "d_model"]
    eps: float

    def scale(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... 1"]:
        """What states are divided by; 1 where there is no norm."""
        if self.kind is None:
            return torch.ones_like(x[..., :1])
        return (self.centred(x).pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def centred(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """States less their mean over d_model, where the norm takes that off."""
        return x - x.mean(-1, keepdim=True) if self.kind == "LN" else x

    def __call__(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The norm of any states, computed in float32 and returned in the dtype of `x`."""
        wide = x.float()
        if self.kind == "LN":
            wide = wide - wide.mean(-1, keepdim=True)
        if self.kind is not None:
            wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.gain.float() + self.shift.float()).to(x.dtype)


def attention_out(model: Model) -> AttentionOut:
    """The weights behind a model's heads, and the norm after attention where there is one."""
    factors = [float(getattr(block, "residual_contribution_scale", 1)) for block in model.blocks]
    W_O, b_O = [block.attn.W_O.detach() for block in model.blocks], _output_biases(model)
    if any(factor != 1 for factor in factors):
        W_O = [weight * factor for weight, factor in zip(W_O, factors, strict=True)]
        b_O = b_O * torch.tensor(factors).to(b_O)[:, None]
    post = [
        _norm(model, block, "ln1_post") for block in model.blocks if has_child(block, "ln1_post")
    ]
    if any(norm.kind != "RMS" or norm.shift.any() for norm in post):
        raise ModelError(f"{model.card.name}: the norm after attention is no RMS norm")
    return AttentionOut(
        W_O=W_O,
        b_O=b_O,
        post_gain=torch.stack([norm.gain for norm in post]) if post else None,
        post_eps=post[0].eps if post else 0.0,
    )


def _output_biases(model: Model) -> Float[Tensor, "layer d_model"]:
    """What each layer's attention adds besides its heads; zeros where there is no such bias."""
    zeros = torch.zeros(model.cfg.d_model, dtype=model.W_E.dtype, device=model.W_E.device)
    biases = [block.attn.b_O for block in model.blocks]
    return torch.stack([zeros if bias is None else bias for bias in biases]).detach()


def final_norm(model: Model) -> FinalNorm:
    """The norm before the unembedding, with its effective gain."""
    return _norm(model, model, "ln_final")


def mlp_norms(model: Model) -> list[FinalNorm]:
    """The norm before the MLP of each layer."""
    return [_norm(model, block, "ln2") for block in model.blocks]


def _norm(model: Model, home: Any, name: str) -> FinalNorm:
    """The norm that stands at `home` under `name`; one that changes nothing where none stands."""
    norm = getattr(home, name) if has_child(home, name) else nn.Identity()
    return measured_norm(norm, torch.zeros(model.cfg.d_model).to(model.W_U))


@torch.no_grad()
def measured_norm(norm: nn.Module, zeros: Float[Tensor, "d_model"]) -> FinalNorm:
    """What a norm does, found on vectors for which the answer tells: names of weights differ.

    A norm without weights has gain 1; that of a norm which stores it as a distance from one is
    the whole of it. Of equal numbers a norm that takes their mean off leaves nothing.
    """
    signs = 1 - 2 * (torch.arange(len(zeros), device=zeros.device) % 2).to(zeros)
    probes = [zeros, BIG * signs, 2 * BIG * signs, BIG * torch.ones_like(zeros), SMALL * signs]
    shift, big, twice, level, small = norm(torch.stack(probes)[None])[0].float().unbind()
    big, twice, level, small = (found - shift for found in (big, twice, level, small))
    if torch.allclose(twice, 2 * big, rtol=1e-2):
        return FinalNorm(None, (big / (BIG * signs)).to(zeros), shift.to(zeros), 0.0)
    kind = "LN" if level.norm() < 1e-2 * big.norm() else "RMS"
    probe = signs.float() - signs.float().mean() if kind == "LN" else signs.float()
    mean_square = probe.pow(2).mean()
    gain = big * mean_square.sqrt() / probe
    shrunk = (small.norm() / big.norm()).nan_to_num(1.0).pow(2)
    eps = (SMALL**2 * mean_square * (1 / shrunk - 1)).clamp(min=0).item()
    return FinalNorm(kind, gain.to(zeros), shift.to(zeros), float(f"{eps:.2g}"))


def sinks(blocks: Any) -> list[Float[Tensor, "head"]] | None:
    """The logit of each layer's heads to attend to nothing (gpt-oss); None for models without.

    Rows of attention sum to 1 less what goes there.
    """
    found = [_sink(block.attn) for block in blocks]
    return None if all(sink is None for sink in found) else [_or_never(sink) for sink in found]


def _sink(attention: nn.Module) -> Tensor | None:
    inner = getattr(attention, "original_component", None) or attention
    named = inner.named_parameters(recurse=False)
    return next((weight.detach().flatten() for name, weight in named if "sink" in name), None)


def _or_never(sink: Tensor | None) -> Tensor:
    """A layer without a sink gives it nothing."""
    return torch.tensor([-torch.inf]) if sink is None else sink


def is_parallel(model: Model) -> bool:
    """Whether attention and MLP both read the block's input (GPT-J, Pythia)."""
    return not model.cfg.attn_only and "blocks.0.hook_resid_mid" not in model.hook_dict


def has_child(module: Any, name: str) -> bool:
    """Whether a model or block has a part of that name."""
    return name in dict(module.named_children())
