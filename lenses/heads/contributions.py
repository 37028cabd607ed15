"""How, and how much, each head contributes to what its attention block writes (SCIENCE 1).

One forward pass; from each layer's z, what is kept of a head at a token is a handful of scalars.
With r a head's result (z @ W_O, after the frozen scale of a norm that follows attention) and o the
sum of r over heads, lengths and products come from d_head x d_head Gram matrices:
norm(r)^2 = z (W_O W_O^T) z^T and <r, o> = z . (W_O o). Sums are taken in float64, because
norm(o - r)^2 = norm(o)^2 - 2 <r, o> + norm(r)^2 cancels where one head writes nearly everything.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int, Num

from lenses.statistics.grid import grid
from models import Model
from models.parts import AttentionOut, attention_out, sinks

MEASURES = (
    "l2_norm",
    "cosine",
    "closeness",
    "projection_share",
    "norm_share",
    "l1_proximity",
    "attention_entropy",
)
"""The measures of SCIENCE 1 that need no ablation and no second vector."""

COMPONENTS = ("attention", "b_O", "mlp", "residual")
"""What a block's output is the sum of; `residual` is what entered the block."""

L1_NUMBERS = 2**24
"""Numbers of head results held at d_model width at a time: 64 MB in float32."""


@dataclass(frozen=True)
class Contributions:
    """What a batch says about each head at each token; padded tokens hold meaningless numbers."""

    l2_norm: Float[torch.Tensor, "batch pos layer head"]
    """norm(r)."""
    cosine: Float[torch.Tensor, "batch pos layer head"]
    """cos(r, o); 0 where either is zero."""
    closeness: Float[torch.Tensor, "batch pos layer head"]
    """1 - norm(o - r) / norm(o); 0 where o is zero."""
    projection_share: Float[torch.Tensor, "batch pos layer head"]
    """<r, o> / norm(o)^2, signed; the heads sum to 1 unless o is zero."""
    norm_share: Float[torch.Tensor, "batch pos layer head"]
    """norm(r) / the sum of norm(r) over heads."""
    l1_proximity: Float[torch.Tensor, "batch pos layer head"]
    """max(0, norm1(o) - norm1(o - r)) over its sum over heads (ALTI: Ferrando et al. 2022, 3.1)."""
    l1_proximity_defined: Bool[torch.Tensor, "batch pos layer"]
    """False where that sum is zero; the shares are then 0."""
    attention_entropy: Float[torch.Tensor, "batch pos layer head"]
    """Entropy of the attention row in nats; 0 log 0 = 0."""
    attention_entropy_share: Float[torch.Tensor, "batch pos layer head"]
    """The same as a share of log(number of keys); 0 for a single key."""
    attention_entropy_defined: Bool[torch.Tensor, "batch pos layer"]
    """False where the row has a single key, which leaves attention no choice."""
    attention_sum: Float[torch.Tensor, "batch pos layer head"]
    """Sum of the attention row: 1, for every head on its own."""
    output_error: Float[torch.Tensor, "batch pos layer"]
    """norm(sum of r + b_O - attn_out) / norm(attn_out), against what the model itself wrote."""
    component_share: Float[torch.Tensor, "batch pos layer component"]
    """<part, resid_post> / norm(resid_post)^2 of each of COMPONENTS; they sum to 1."""
    component_norm: Float[torch.Tensor, "batch pos layer component"]
    """norm(part) of each of COMPONENTS."""
    bias_share: Float[torch.Tensor, "batch pos layer"]
    """<b_O, attn_out> / norm(attn_out)^2: the bias's own share of what attention writes."""
    sum_variance: Float[torch.Tensor, "batch group layer"]
    """Variance over the group's tokens of o: mean squared distance from its mean."""
    head_variance: Float[torch.Tensor, "batch group layer head"]
    """The same of each r."""
    surprisal: Float[torch.Tensor, "batch pos"]
    """-log p(token | tokens before it) in nats; NaN where nothing predicts the token."""

    def cpu(self) -> "Contributions":
        """The same on the CPU: one transfer, after the batch."""
        return type(self)(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})

    def prompt(self, number: int, length: int) -> "Contributions":
        """One prompt of the batch by itself [1 pos ...], without its padding."""
        kept = {f.name: getattr(self, f.name)[number : number + 1] for f in fields(self)}
        per_group = {"sum_variance", "head_variance"}
        return type(self)(**{k: v if k in per_group else v[:, :length] for k, v in kept.items()})


@torch.inference_mode()
def contributions(
    model: Model, tokens: Int[torch.Tensor, "batch pos"], group: Int[torch.Tensor, "batch pos"]
) -> Contributions:
    """Every measure for every (layer, head, token) of a batch, in one forward pass.

    Variances are taken over the tokens of group 0 and of group 1 apart; -1 leaves a token out of
    them (padding, say). Right padding does not reach the tokens before it.
    """
    groups = torch.stack([group == g for g in range(2)], dim=1)
    reading = _Reading(
        attention_out(model), groups.to(tokens.device), sinks(model.blocks) is not None
    )
    logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=reading.hooks())
    return Contributions(
        **{name: torch.stack(parts, dim=2) for name, parts in reading.found.items()},
        surprisal=surprisal(logits, tokens),
    )


def surprisal(
    logits: Float[torch.Tensor, "batch pos vocab"], tokens: Int[torch.Tensor, "batch pos"]
) -> Float[torch.Tensor, "batch pos"]:
    """-log p of each token given those before it, in nats.

    NaN for the first token, which nothing predicts, and for tokens that the model cannot say
    (an adder's signs, where its output knows digits only).
    """
    before, chosen = logits[:, :-1], tokens[:, 1:, None]
    sayable = chosen < logits.shape[-1]
    predicted = before.gather(-1, torch.where(sayable, chosen, 0)).float()
    nats = torch.logsumexp(before.float(), dim=-1, keepdim=True) - predicted
    nats = torch.where(sayable, nats, torch.nan).squeeze(-1)
    return torch.nn.functional.pad(nats, (1, 0), value=torch.nan)


@torch.inference_mode()
def attention_patterns(
    model: Model, tokens: Int[torch.Tensor, "pos"]
) -> Float[torch.Tensor, "layer head query key"]:
    """The attention pattern of every head on one text."""
    layers: list[torch.Tensor] = []
    hooks = [
        (f"blocks.{layer}.attn.hook_pattern", lambda pattern, hook: layers.append(pattern[0]))
        for layer in range(model.cfg.n_layers)
    ]
    model.run_with_hooks(tokens[None], fwd_hooks=hooks)
    return torch.stack(layers).float().cpu()


class _Reading:
    """A forward pass being read: a block's vectors live until the block is done.

    No dataclass: TransformerLens writes out each hook's owner, which would print every weight.
    """

    def __init__(
        self, out: AttentionOut, groups: Bool[torch.Tensor, "batch group pos"], has_sinks: bool
    ) -> None:
        self.out, self.groups, self.has_sinks = out, groups, has_sinks
        self.found: dict[str, list[torch.Tensor]] = {}

    def hooks(self) -> list[tuple[str, Callable[..., None]]]:
        """What to do at each hook, block by block."""
        at = {
            "hook_resid_pre": self._at_resid_pre,
            "attn.hook_pattern": self._at_pattern,
            "attn.hook_z": self._at_z,
            "hook_attn_out": self._at_attn_out,
            "hook_resid_post": self._at_resid_post,
        }
        return [
            (f"blocks.{layer}.{name}", partial(do, layer))
            for layer in range(len(self.out.W_O))
            for name, do in at.items()
        ]

    def _keep(self, **scalars: torch.Tensor) -> None:
        for name, value in scalars.items():
            self.found.setdefault(name, []).append(value)

    def _at_resid_pre(self, layer: int, resid: torch.Tensor, hook: object) -> None:
        self.resid_pre = resid

    def _at_pattern(self, layer: int, pattern: torch.Tensor, hook: object) -> None:
        self._keep(**_attention_scalars(pattern, self.has_sinks))

    def _at_z(self, layer: int, z: torch.Tensor, hook: object) -> None:
        self.written = written = Written.of(z, self.out, layer)
        self._keep(**gram_scalars(written), **_l1_scalars(written))
        self._keep(**_variances(written, self.groups))

    def _at_attn_out(self, layer: int, attn_out: torch.Tensor, hook: object) -> None:
        whole = self.written.heads + self.written.bias
        missing, length = (whole - attn_out).norm(dim=-1), attn_out.to(whole).norm(dim=-1)
        error = torch.where((missing == 0) & (length == 0), 0, missing / length)
        self._keep(output_error=error, bias_share=_share(self.written.bias, whole))

    def _at_resid_post(self, layer: int, resid_post: torch.Tensor, hook: object) -> None:
        whole, before = resid_post.to(self.written.heads), self.resid_pre.to(self.written.heads)
        mlp = whole - before - self.written.heads - self.written.bias
        bias = self.written.bias.expand_as(whole)
        parts = torch.stack([self.written.heads, bias, mlp, before], dim=-2)
        self._keep(
            component_share=_share(parts, whole.unsqueeze(-2)), component_norm=parts.norm(dim=-1)
        )


@dataclass(frozen=True)
class Written:
    """What a layer's heads write: r = scale * z @ W for each, `heads` the sum of r."""

    z: Float[torch.Tensor, "batch pos head d_head"]
    W: Float[torch.Tensor, "head d_head d_model"]
    """W_O, times the gain of a norm after attention."""
    scale: Float[torch.Tensor, "batch pos 1"]
    """1 / rms of the block's output where a norm follows attention, else 1."""
    heads: Float[torch.Tensor, "batch pos d_model"]
    bias: Float[torch.Tensor, "*batch_pos d_model"]

    @classmethod
    def of(
        cls, z: Float[torch.Tensor, "batch pos head d_head"], out: AttentionOut, layer: int
    ) -> "Written":
        """From a layer's z and weights, in float64 (float32 on Apple's GPUs, which lack it)."""
        exact = torch.float32 if z.device.type == "mps" else torch.float64
        z, W_O, bias = z.to(exact), out.W_O[layer].to(exact), out.b_O[layer].to(exact)
        raw = einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model")
        if out.post_gain is None:
            return cls(z, W_O, torch.ones_like(raw[..., :1]), raw, bias)
        gain = out.post_gain[layer].to(exact)
        power = (raw + bias).square().mean(dim=-1, keepdim=True)
        scale = torch.rsqrt(power + out.post_eps)
        return cls(z, W_O * gain, scale, raw * gain * scale, bias * gain * scale)

    @property
    def gram(self) -> Float[torch.Tensor, "head row col"]:
        """W W^T of each head."""
        return einsum(self.W, self.W, "head row d_model, head col d_model -> head row col")


def gram_scalars(written: Written) -> dict[str, Float[torch.Tensor, "batch pos head"]]:
    """The measures that follow from norm(r), norm(o) and <r, o>."""
    z, o = written.z, written.heads
    l2_norm = _quadratic(z, written.gram).clamp(min=0).sqrt() * written.scale
    back = einsum(o, written.W, "batch pos d_model, head d_head d_model -> batch pos head d_head")
    product = (z * back).sum(dim=-1) * written.scale
    whole = o.norm(dim=-1, keepdim=True)
    distance = (whole**2 - 2 * product + l2_norm**2).clamp(min=0).sqrt()
    cosine = _ratio(product, l2_norm * whole).clamp(-1, 1)
    return {
        "l2_norm": l2_norm,
        "cosine": cosine,
        "closeness": _ratio(whole - distance, whole),
        "projection_share": _ratio(product, whole**2),
        "norm_share": _ratio(l2_norm, l2_norm.sum(dim=-1, keepdim=True)),
    }


def _l1_scalars(written: Written) -> dict[str, Num[torch.Tensor, "batch pos *head"]]:
    """The one measure without a Gram form: results at d_model width, some tokens at a time."""
    flat = "batch pos ... -> (batch pos) ..."
    W, z = written.W.float(), rearrange(written.z.float(), flat)
    o, scale = (rearrange(x.float(), flat) for x in (written.heads, written.scale))
    tokens = max(1, L1_NUMBERS // (W.shape[0] * W.shape[2]))
    nearer = torch.cat(
        [_nearer(*part, W) for part in zip(*(x.split(tokens) for x in (z, o, scale)), strict=True)]
    )
    total = nearer.sum(dim=-1, keepdim=True)
    shape = written.z.shape[:2]
    return {
        "l1_proximity": _ratio(nearer, total).unflatten(0, shape),
        "l1_proximity_defined": (total.squeeze(-1) > 0).unflatten(0, shape),
    }


def _nearer(
    z: Float[torch.Tensor, "token head d_head"],
    o: Float[torch.Tensor, "token d_model"],
    scale: Float[torch.Tensor, "token 1"],
    W: Float[torch.Tensor, "head d_head d_model"],
) -> Float[torch.Tensor, "token head"]:
    """max(0, norm1(o) - norm1(o - r)): how much nearer a head alone brings to the output."""
    result = einsum(
        z * scale[..., None], W, "token head d_head, head d_head d_model -> head token d_model"
    )
    missing = rearrange(result.sub_(o).abs_().sum(dim=-1), "head token -> token head")
    return (o.abs().sum(dim=-1, keepdim=True) - missing).clamp(min=0)


def _attention_scalars(
    pattern: Float[torch.Tensor, "batch head query key"], has_sinks: bool
) -> dict[str, Num[torch.Tensor, "batch pos *head"]]:
    """Entropy of each attention row, and its sum.

    With learned sinks rows sum to 1 less the sink: the entropy is that of the row renormalised.
    A key is within a query's reach where any head of the layer gives it weight in any text of the
    batch; a single head's row may round a weight down to nothing.
    """
    rows = rearrange(pattern.float(), "batch head query key -> batch query head key")
    total = rows.sum(dim=-1)
    shares = _ratio(rows, total[..., None]) if has_sinks else rows
    entropy = torch.special.entr(shares).sum(dim=-1)
    keys = (rows > 0).any(dim=2).any(dim=0).sum(dim=-1).expand(rows.shape[:2])
    defined = keys > 1
    most = torch.where(defined, keys, 2).log()[..., None]
    return {
        "attention_entropy": torch.where(defined[..., None], entropy, 0),
        "attention_entropy_share": torch.where(defined[..., None], entropy / most, 0),
        "attention_entropy_defined": defined,
        "attention_sum": total,
    }


def _variances(
    written: Written, groups: Bool[torch.Tensor, "batch group pos"]
) -> dict[str, Float[torch.Tensor, "batch group *head"]]:
    """Mean squared distance from the mean, over each group's tokens, of o and of each r.

    Var(r) = mean norm(r)^2 - norm(mean r)^2, where mean r = (mean of scale * z) W needs no r.
    """
    weight = groups.to(written.z)
    weight = weight / weight.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = "batch group pos, batch pos ... -> batch group ..."
    z, o = written.z * written.scale[..., None], written.heads
    o_power, o_mean = o.square().sum(dim=-1), einsum(weight, o, mean)
    r_power, z_mean = _quadratic(z, written.gram), einsum(weight, z, mean)
    return {
        "sum_variance": einsum(weight, o_power, mean) - o_mean.square().sum(dim=-1),
        "head_variance": einsum(weight, r_power, mean) - _quadratic(z_mean, written.gram),
    }


def _quadratic(
    z: Float[torch.Tensor, "*batch head d_head"], gram: Float[torch.Tensor, "head d_head d_head"]
) -> Float[torch.Tensor, "*batch head"]:
    """z gram z^T of each head."""
    turned = einsum(z, gram, "... head row, head row col -> ... head col")
    return (turned * z).sum(dim=-1)


def _ratio(
    part: Float[torch.Tensor, "*cell"], whole: Float[torch.Tensor, "*cell_or_one"]
) -> Float[torch.Tensor, "*cell"]:
    """part / whole, and 0 where there is nothing to have a part of."""
    return torch.where(whole > 0, part / whole, 0)


def _share(
    part: Float[torch.Tensor, "*#cell d_model"], whole: Float[torch.Tensor, "*#cell d_model"]
) -> Float[torch.Tensor, "*#cell"]:
    """<part, whole> / norm(whole)^2: parts of a sum have shares that sum to 1."""
    return _ratio((part * whole).sum(dim=-1), whole.square().sum(dim=-1))


def output_gain(model: Model) -> Float[torch.Tensor, "layer head singular"]:
    """Singular values of each head's W_O (times the gain of a norm after attention), descending.

    Read off the Gram matrix; values below 1e-7 of the largest are rounding.
    """
    out = attention_out(model)
    W = out.W_O if out.post_gain is None else out.W_O * out.post_gain[:, None, None, :]
    W = W.detach().cpu().double()
    gram = einsum(W, W, "layer head row d_model, layer head col d_model -> layer head row col")
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(-1)


def gain_rows(model: Model) -> pd.DataFrame:
    """Largest, root mean square and smallest singular value of each head's W_O."""
    gain = output_gain(model).numpy()
    middle = np.sqrt((gain**2).mean(axis=-1))
    axes = {"layer": gain.shape[0], "head": gain.shape[1]}
    return grid(axes, largest=gain[..., 0], root_mean_square=middle, smallest=gain[..., -1])
