"""The parts of a model that measurements need, the same under TransformerLens 3.9 and 4.x."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.protocol import Model


@dataclass(frozen=True)
class AttentionOut:
    """What turns the heads' z into what attention writes to the residual stream.

    Attention computes `sum_h z[h] @ W_O[h] + b_O`. Without a norm after attention that is what
    enters the residual stream. With one (Gemma 2 and 3) it is `post_gain * sum / rms` with
    `rms = sqrt(mean(sum^2) + post_eps)`.

    Hooks, the same under 3.9 and 4.x: `blocks.{l}.hook_attn_out` [batch pos d_model] is what
    enters the residual stream, after the norm; `blocks.{l}.ln1_post.hook_scale` [batch pos 1] is
    the rms; `blocks.{l}.ln1_post.hook_normalized` is sum / rms. The sum before the norm is
    `blocks.{l}.attn.hook_out` under 4.x; 3.9 has no hook there: compute it from z.
    """

    W_O: Float[Tensor, "layer head d_head d_model"]
    b_O: Float[Tensor, "layer d_model"]
    """Zeros where the model has no such bias."""
    post_gain: Float[Tensor, "layer d_model"] | None
    """What the norm after attention multiplies with (Gemma's 1 + weight); None without a norm."""
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
    """"LN" (centred), "RMS" (not centred) or None (no norm: gain and shift change nothing)."""
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
    attentions = [block.attn for block in model.blocks]
    zeros = torch.zeros(model.cfg.d_model, dtype=model.W_O.dtype, device=model.W_O.device)
    biases = [zeros if (bias := attn.b_O) is None else bias for attn in attentions]
    post = [_gain(model, block.ln1_post) for block in model.blocks if _has(block, "ln1_post")]
    return AttentionOut(
        W_O=model.W_O.detach(),
        b_O=torch.stack(biases).detach(),
        post_gain=torch.stack(post) if post else None,
        post_eps=float(model.cfg.eps),
    )


def final_norm(model: Model) -> FinalNorm:
    """The norm before the unembedding, with its effective gain."""
    hooked: Any = model
    kind = model.cfg.normalization_type
    return _norm(model, "RMS" if kind and model.cfg.final_rms else kind, hooked, "ln_final")


def mlp_norms(model: Model) -> list[FinalNorm]:
    """The norm before the MLP of each layer."""
    return [_norm(model, model.cfg.normalization_type, block, "ln2") for block in model.blocks]


def _norm(model: Model, kind: str | None, home: Any, name: str) -> FinalNorm:
    """A norm of the model's kind, which stands at `home` under `name`, with its effective gain."""
    d_model, device, dtype = model.cfg.d_model, model.W_U.device, model.W_U.dtype
    ones, zeros = torch.ones(d_model).to(device, dtype), torch.zeros(d_model).to(device, dtype)
    if kind is None:
        return FinalNorm(None, ones, zeros, 0.0)
    norm = getattr(home, name)
    is_plain = str(model.cfg.normalization_type).endswith("Pre")
    gain = ones if is_plain else _gain(model, norm)
    shift = _parameter(norm, "b", "bias")
    shift = zeros if shift is None else shift
    return FinalNorm("RMS" if kind.startswith("RMS") else "LN", gain, shift, float(model.cfg.eps))


def is_parallel(model: Model) -> bool:
    """Whether attention and MLP both read the block's input (GPT-J, Pythia)."""
    return not model.cfg.attn_only and "blocks.0.hook_resid_mid" not in model.hook_dict


def _gain(model: Model, norm: nn.Module) -> Float[Tensor, "d_model"]:
    """What a norm multiplies with; the bridge keeps Gemma's weights as distances from one."""
    weight = _parameter(norm, "w", "weight").detach()
    is_offset = getattr(model.cfg, "rmsnorm_uses_offset", False)
    return 1 + weight if is_offset else weight


def _parameter(norm: nn.Module, hooked: str, bridge: str) -> Any:
    """A parameter under its name in HookedTransformer or, wrapped, in transformers; or None."""
    inner = getattr(norm, "original_component", None)
    return getattr(norm, hooked, None) if inner is None else getattr(inner, bridge, None)


def _has(module: nn.Module, name: str) -> bool:
    return name in dict(module.named_children())
