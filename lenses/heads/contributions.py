"""How, and how much, each head contributes to what its layer's attention writes (SCIENCE 1).

One forward pass without logits; from each layer's z, what is kept of a head at a token is a few
scalars. With r a head's result (z @ W_O, after the frozen scale of a norm that follows attention)
and o the sum of r over heads, r is built for a few tokens at a time, which stay in the processor's
cache: one product as large as the block's own, and all measures are sums over numbers at hand.

Where only lengths are wanted, d_head x d_head Gram matrices give them without r:
norm(r)^2 = z (W_O W_O^T) z^T and <r, o> = z . (W_O o), in float64, because
norm(o - r)^2 = norm(o)^2 - 2 <r, o> + norm(r)^2 cancels where one head writes nearly everything.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pandas as pd
import torch
from einops import einsum
from jaxtyping import Bool, Float, Int, Num

from lenses.statistics.grid import grid
from models import Model
from models.parts import AttentionOut, attention_out, sinks
from models.passes import before_unembedding
from models.readout import Unembedding, unembedding

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
"""What a layer's output is the sum of; `residual` is what entered the layer."""

AT_ONCE = {"cpu": 2**20}
"""Numbers held at a time: what fits a core's cache (4 MB in float32)."""
AT_ONCE_ELSEWHERE = 2**26
"""The same on an accelerator, which waits for nothing but its orders."""
FEWEST_TOKENS = 64
"""Tokens whose results are built together in a model of any width: enough for a fast product."""
LOGITS = 2**22
"""Logits held at a time for surprisal: 16 MB in float32."""
LEAST = 1e-30
"""Under it a share of attention counts as this much in a logarithm: p log p is 0 there anyway."""


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

    def cpu(self) -> "Contributions":
        """The same on the CPU: one transfer, after the batch."""
        return type(self)(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})

    def prompt(self, number: int, length: int) -> "Contributions":
        """One prompt of the batch by itself [1 pos ...], without its padding."""
        kept = {f.name: getattr(self, f.name)[number : number + 1] for f in fields(self)}
        per_group = {"sum_variance", "head_variance"}
        return type(self)(**{k: v if k in per_group else v[:, :length] for k, v in kept.items()})


class HeadMeasures:
    """Every measure of every head of one model, whose weights are prepared once."""

    def __init__(self, model: Model) -> None:
        self.model, self.head = model, unembedding(model)
        out = attention_out(model)
        self.layers = [Layer.of(out, layer) for layer in range(model.cfg.n_layers)]
        self.has_sinks = sinks(model.blocks) is not None

    def __call__(
        self, tokens: Int[torch.Tensor, "batch pos"], group: Int[torch.Tensor, "batch pos"]
    ) -> Contributions:
        """Every measure for every (layer, head, token) of a batch, in one pass without logits.

        Variances are taken over the tokens of group 0 and of group 1 apart; -1 leaves a token out
        of them (padding, say). Right padding does not reach the tokens before it.
        """
        return self._read(tokens, group)[0]

    def with_surprisal(
        self, tokens: Int[torch.Tensor, "batch pos"], group: Int[torch.Tensor, "batch pos"]
    ) -> tuple[Contributions, Float[torch.Tensor, "batch pos"]]:
        """The same, and -log p of each token; logits are made for some positions at a time."""
        found, normed = self._read(tokens, group)
        return found, surprisal(self.head, normed, tokens)

    @torch.inference_mode()
    def _read(
        self, tokens: Int[torch.Tensor, "batch pos"], group: Int[torch.Tensor, "batch pos"]
    ) -> tuple[Contributions, Float[torch.Tensor, "batch pos d_model"]]:
        reading = _Reading(self.layers, group.to(tokens.device), self.has_sinks)
        with before_unembedding(self.model) as normed:
            self.model.run_with_hooks(tokens, return_type=None, fwd_hooks=reading.hooks())
        found = {name: torch.stack(parts, dim=2) for name, parts in reading.found.items()}
        return Contributions(**found), normed[0]


def contributions(
    model: Model, tokens: Int[torch.Tensor, "batch pos"], group: Int[torch.Tensor, "batch pos"]
) -> Contributions:
    """`HeadMeasures` of one batch."""
    return HeadMeasures(model)(tokens, group)


@torch.inference_mode()
def surprisal(
    head: Unembedding,
    normed: Float[torch.Tensor, "batch pos d_model"],
    tokens: Int[torch.Tensor, "batch pos"],
) -> Float[torch.Tensor, "batch pos"]:
    """-log p of each token given those before it in nats, from the states that are unembedded.

    NaN for the first token, which nothing predicts, and for tokens that the model cannot say
    (an adder's signs, where its output knows digits only).
    """
    before, chosen = normed[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    size = max(1, LOGITS // head.W_U.shape[1])
    parts = zip(before.split(size), chosen.split(size), strict=True)
    nats = torch.cat([_nats(head.logits(states), ids) for states, ids in parts])
    return torch.nn.functional.pad(nats.unflatten(0, (len(tokens), -1)), (1, 0), value=torch.nan)


def _nats(
    logits: Float[torch.Tensor, "token vocab"], chosen: Int[torch.Tensor, "token"]
) -> Float[torch.Tensor, "token"]:
    sayable = chosen < logits.shape[-1]
    predicted = logits.gather(-1, torch.where(sayable, chosen, 0)[:, None])[:, 0]
    return torch.where(sayable, torch.logsumexp(logits, dim=-1) - predicted, torch.nan)


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


@dataclass(frozen=True, repr=False)
class Layer:
    """What a layer's heads write with, and the Gram matrices of it."""

    W_O: Float[torch.Tensor, "head d_head d_model"]
    bias: Float[torch.Tensor, "d_model"]
    gain: Float[torch.Tensor, "d_model"] | None
    """Of a norm after attention."""
    eps: float
    gram: Float[torch.Tensor, "head row col"]
    """W W^T, where W is W_O times the gain."""

    @classmethod
    def of(cls, out: AttentionOut, layer: int) -> "Layer":
        """The heads of one layer, from what all of them write with."""
        gain = None if out.post_gain is None else out.post_gain[layer].float()
        W = out.gained(layer)
        return cls(out.W_O[layer], out.b_O[layer].float(), gain, out.post_eps, W @ W.mT)

    def results(
        self, z: Float[torch.Tensor, "token head d_head"]
    ) -> tuple[Float[torch.Tensor, "head token d_model"], Float[torch.Tensor, "token 1"]]:
        """What each head adds to the residual stream, and 1 / rms of the norm after attention."""
        r = torch.bmm(z.transpose(0, 1), self.W_O.float())
        if self.gain is None:
            return r, r.new_ones(len(z), 1)
        power = (r.sum(dim=0) + self.bias).square().mean(dim=-1, keepdim=True)
        scale = torch.rsqrt(power + self.eps)
        return r.mul_(self.gain * scale), scale

    def bias_at(self, scale: Float[torch.Tensor, "*token 1"]) -> Float[torch.Tensor, "*token d"]:
        """What the output bias adds, the same at every token where no norm follows."""
        return self.bias if self.gain is None else self.bias * self.gain * scale


class _Reading:
    """A forward pass being read: a block's vectors live until the block is done.

    No dataclass: TransformerLens writes out each hook's owner, which would print every weight.
    """

    def __init__(
        self, layers: list[Layer], group: Int[torch.Tensor, "batch pos"], has_sinks: bool
    ) -> None:
        self.layers, self.has_sinks, self.group = layers, has_sinks, group
        self.weight = _mean_weights(group)
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
            for layer in range(len(self.layers))
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
        own, shape, flat = self.layers[layer], z.shape[:2], z.float().flatten(0, 1)
        found = head_scalars(own, flat)
        self._keep(**{name: value.unflatten(0, shape) for name, value in found.scalars.items()})
        self.heads, scale = (x.unflatten(0, shape) for x in (found.heads, found.scale))
        self.bias = own.bias_at(scale)
        self._keep(**self._variances(flat.unflatten(0, shape) * scale[..., None], own.gram))

    def _variances(
        self, z: Float[torch.Tensor, "batch pos head d_head"], gram: torch.Tensor
    ) -> dict[str, Float[torch.Tensor, "batch group *head"]]:
        """Mean squared distance from the mean, over each group's tokens, of o and of each r.

        The mean is taken off first: mean norm(r)^2 - norm(mean r)^2 cancels where r hardly varies.
        """
        o = self._less_mean(self.heads).square().sum(dim=-1)
        r = _quadratic(self._less_mean(z), gram)
        mean = "batch group pos, batch pos ... -> batch group ..."
        weight = self.weight.to(_exact(z))
        return {
            "sum_variance": einsum(weight, o.to(weight), mean),
            "head_variance": einsum(weight, r.to(weight), mean),
        }

    def _less_mean(
        self, values: Float[torch.Tensor, "batch pos *cell"]
    ) -> Float[torch.Tensor, "batch pos *cell"]:
        """Values less the mean of their group's tokens; of tokens without a group, of group 0's."""
        flat = values.flatten(2)
        row = torch.arange(len(flat), device=flat.device)[:, None]
        mean = (self.weight.to(flat) @ flat)[row, self.group.clamp(min=0)]
        return mean.neg_().add_(flat).view_as(values)

    def _at_attn_out(self, layer: int, attn_out: torch.Tensor, hook: object) -> None:
        whole = self.heads + self.bias
        bias_share = _share(self.bias, whole)
        missing, length = whole.sub_(attn_out).norm(dim=-1), attn_out.float().norm(dim=-1)
        error = torch.where((missing == 0) & (length == 0), 0, missing / length)
        self._keep(output_error=error, bias_share=bias_share)

    def _at_resid_post(self, layer: int, resid_post: torch.Tensor, hook: object) -> None:
        whole, before = resid_post.float(), self.resid_pre.float()
        mlp = (whole - before).sub_(self.heads).sub_(self.bias)
        parts = [self.heads, self.bias.expand_as(whole), mlp, before]
        self._keep(
            component_share=torch.stack([_share(part, whole) for part in parts], dim=-1),
            component_norm=torch.stack([part.norm(dim=-1) for part in parts], dim=-1),
        )


def _mean_weights(group: Int[torch.Tensor, "batch pos"]) -> Float[torch.Tensor, "batch group pos"]:
    """What a group's tokens are multiplied with, so that the sum is their mean."""
    chosen = torch.stack([group == number for number in range(2)], dim=1).float()
    return chosen / chosen.sum(dim=-1, keepdim=True).clamp(min=1)


def _exact(values: torch.Tensor) -> torch.dtype:
    """The dtype of sums: float64, but for Apple's GPUs, which lack it."""
    return torch.float32 if values.device.type == "mps" else torch.float64


def _numbers(device: torch.device) -> int:
    return AT_ONCE.get(device.type, AT_ONCE_ELSEWHERE)


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
    return _measures(l2_norm, product, distance, whole)


def _measures(
    l2_norm: Float[torch.Tensor, "*token head"],
    product: Float[torch.Tensor, "*token head"],
    distance: Float[torch.Tensor, "*token head"],
    whole: Float[torch.Tensor, "*token 1"],
) -> dict[str, Float[torch.Tensor, "*token head"]]:
    """What norm(r), <r, o>, norm(o - r) and norm(o) say."""
    return {
        "l2_norm": l2_norm,
        "cosine": _ratio(product, l2_norm * whole).clamp(-1, 1),
        "closeness": _ratio(whole - distance, whole),
        "projection_share": _ratio(product, whole**2),
        "norm_share": _ratio(l2_norm, l2_norm.sum(dim=-1, keepdim=True)),
    }


@dataclass(frozen=True)
class Heads:
    """What is kept of a layer's results."""

    heads: Float[torch.Tensor, "token d_model"]
    """Their sum, o."""
    scale: Float[torch.Tensor, "token 1"]
    """1 / rms of the block's output where a norm follows attention, else 1."""
    scalars: dict[str, Num[torch.Tensor, "token *head"]]
    """The measures of each head."""


def head_scalars(layer: Layer, z: Float[torch.Tensor, "token head d_head"]) -> Heads:
    """The measures of a layer's heads, from results that are built for some tokens at a time."""
    size = max(FEWEST_TOKENS, _numbers(z.device) // layer.W_O[:, 0].numel())
    heads, scales, numbers = [], [], []
    for some in z.split(size):
        r, scale = layer.results(some)
        heads.append(r.sum(dim=0))
        scales.append(scale)
        numbers.append(_distances(r, heads[-1]))
    o = torch.cat(heads)
    l2_norm, product, distance, nearer = torch.cat(numbers, dim=-1).to(_exact(z)).mT
    whole = torch.linalg.vector_norm(o, dim=-1, keepdim=True).to(l2_norm)
    total = nearer.sum(dim=-1, keepdim=True)
    scalars = _measures(l2_norm, product, distance, whole)
    scalars |= {"l1_proximity": _ratio(nearer, total), "l1_proximity_defined": total[:, 0] > 0}
    return Heads(o, torch.cat(scales), scalars)


def _distances(
    r: Float[torch.Tensor, "head token d_model"], o: Float[torch.Tensor, "token d_model"]
) -> Float[torch.Tensor, "number head token"]:
    """norm(r), <r, o>, norm(o - r), and max(0, norm1(o) - norm1(o - r)): how much nearer a head
    alone brings to the output. `r` is overwritten.
    """
    l2_norm, product = torch.linalg.vector_norm(r, dim=-1), (r * o).sum(dim=-1)
    distance = torch.linalg.vector_norm(r.sub_(o), dim=-1)
    nearer = (o.abs().sum(dim=-1) - r.abs_().sum(dim=-1)).clamp(min=0)
    return torch.stack([l2_norm, product, distance, nearer])


def _attention_scalars(
    pattern: Float[torch.Tensor, "batch head query key"], has_sinks: bool
) -> dict[str, Num[torch.Tensor, "batch pos *head"]]:
    """Entropy of each attention row, and its sum.

    With learned sinks rows sum to 1 less the sink: the entropy is that of the row renormalised.
    A key is within a query's reach where any head of the layer gives it weight in any text of the
    batch; a single head's row may round a weight down to nothing.
    """
    size = max(1, _numbers(pattern.device) // pattern[:, :, 0].numel())
    starts = range(0, pattern.shape[2], size)
    # No query looks at keys after it.
    parts = [_rows(pattern[:, :, at : at + size, : at + size], has_sinks) for at in starts]
    total, entropy, keys = (torch.cat(kind, dim=-1) for kind in zip(*parts, strict=True))
    defined = (keys > 1).expand(len(pattern), -1)
    most = torch.where(keys > 1, keys, 2).log()[:, None]
    entropy = torch.where(defined[..., None], entropy.mT, 0)
    return {
        "attention_entropy": entropy,
        "attention_entropy_share": entropy / most,
        "attention_entropy_defined": defined,
        "attention_sum": total.mT,
    }


def _rows(
    pattern: Float[torch.Tensor, "batch head query key"], has_sinks: bool
) -> tuple[
    Float[torch.Tensor, "batch head query"],
    Float[torch.Tensor, "batch head query"],
    Int[torch.Tensor, "query"],
]:
    """Sum and entropy of some rows, and how many keys each query reaches."""
    rows = pattern.float()
    total, keys = rows.sum(dim=-1), (rows.amax(dim=(0, 1)) > 0).sum(dim=-1)
    shares = _ratio(rows, total[..., None]) if has_sinks else rows
    nats = shares.clamp(min=LEAST).log_().mul_(shares).sum(dim=-1)
    return total, -nats, keys


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
    W = torch.stack([out.gained(layer) for layer in range(model.cfg.n_layers)]).cpu().double()
    gram = einsum(W, W, "layer head row d_model, layer head col d_model -> layer head row col")
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(-1)


def gain_rows(model: Model) -> pd.DataFrame:
    """Largest, root mean square and smallest singular value of each head's W_O."""
    gain = output_gain(model).numpy()
    middle = np.sqrt((gain**2).mean(axis=-1))
    axes = {"layer": gain.shape[0], "head": gain.shape[1]}
    return grid(axes, largest=gain[..., 0], root_mean_square=middle, smallest=gain[..., -1])
