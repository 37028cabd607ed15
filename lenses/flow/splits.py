"""How a state splits over what it was added up from, by seven rules (SCIENCE 8).

A block's two joints are `resid_mid = resid_pre + sum_j m_ij + b_O`, where m_ij is what all heads
move from source j to query i, and `resid_post = resid_mid + mlp`. A rule scores every part of a
joint; the scores, cut off below zero, are made shares of one. Where attention and MLP run side by
side both joints are one, and it is the share among its parts that is given.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor

from lenses.flow.gradients import log_odds
from lenses.heads.contributions import Written
from models import Model
from models.parts import attention_out, is_parallel
from models.passes import Hooks, reading
from models.readout import unembedding

NUMBERS = 2**24
"""Of what is moved, held at d_model width at a time: 128 MB in float64."""
ROUNDING = 1e-4
"""A part's cosine with a gradient up to which its score may be what float32 has rounded."""


@dataclass(frozen=True)
class Split:
    """One rule's shares of every state of one text, on the CPU; sources lie before queries."""

    attention: Float[Tensor, "layer query source"]
    """Of resid_mid: what attention moved from each source."""
    bias: Float[Tensor, "layer pos"]
    """Of resid_mid: the output bias of attention, which comes from no token."""
    residual: Float[Tensor, "layer pos"]
    """Of resid_mid: the state before the block. With the two above it sums to 1."""
    mlp: Float[Tensor, "layer pos"]
    """Of resid_post: the MLP; the rest is resid_mid."""
    clipped: Float[Tensor, "layer joint pos"]
    """Of the absolute scores at resid_mid and at resid_post, those below zero that were cut off."""
    head: Int[Tensor, "layer query source top"]
    """The heads with the largest loadings on each edge of attention, as many as asked for."""
    loading: Float[Tensor, "layer query source top_and_rest"]
    """What these heads carry of the edge, then what all others do: they sum to it."""
    parallel: bool
    """Whether attention and MLP run side by side: the MLP then reads the state before the block."""


@dataclass(frozen=True)
class Splits:
    """What a text's states split into, rule by rule."""

    by_rule: dict[str, Split]
    probability: float
    """Of the token that is traced."""
    error: float
    """Largest norm(sum_j m_ij + b_O - attn_out) / norm(attn_out) over layers and tokens."""

    def __getitem__(self, rule: str) -> Split:
        return self.by_rule[rule]


@dataclass(frozen=True)
class Block:
    """What one block of a text added up, in float64 (float32 on Apple's GPUs)."""

    alpha: Float[Tensor, "head query source"]
    v: Float[Tensor, "source head d_head"]
    W: Float[Tensor, "head d_head d_model"]
    """W_O, times the gain of a norm after attention."""
    scale: Float[Tensor, "query 1"]
    """1 / rms of attention's output where a norm follows it, else 1."""
    pre: Float[Tensor, "pos d_model"]
    heads: Float[Tensor, "pos d_model"]
    """Sum over sources of m_ij."""
    bias: Float[Tensor, "pos d_model"]
    mlp: Float[Tensor, "pos d_model"]
    parallel: bool
    by_head: bool
    """Whether heads are asked for one by one."""
    gradient: Float[Tensor, "joint pos d_model"] | None
    """Of the traced token's log-odds, by what attention adds and by the state after the block: in
    direction that of its log-probability."""

    @property
    def mid(self) -> Float[Tensor, "pos d_model"]:
        """The state after attention; in a parallel block the state after the block."""
        return self.pre + self.heads + self.bias + (self.mlp if self.parallel else 0)

    @property
    def post(self) -> Float[Tensor, "pos d_model"]:
        """The state after the block."""
        return self.pre + self.heads + self.bias + self.mlp

    def along(self, direction: Float[Tensor, "query d_model"]) -> Float[Tensor, "head query s"]:
        """<what each head moves, direction>, without what is moved: v . (W_O direction)."""
        back = einsum(direction * self.scale, self.W, "q d, head d_head d -> q head d_head")
        return self.alpha * einsum(self.v, back, "s head d_head, q head d_head -> head q s")

    def lengths(self) -> Float[Tensor, "head query s"]:
        """norm(what each head moves), from its Gram matrix."""
        gram = einsum(self.W, self.W, "head row d, head col d -> head row col")
        power = einsum(self.v, gram, self.v, "s head row, head row col, s head col -> head s")
        return self.alpha * power.clamp(min=0).sqrt()[:, None] * self.scale

    def moved(self) -> Iterator[tuple[slice, Float[Tensor, "some s d_model"]]]:
        """m_ij of some queries at a time."""
        size = max(1, NUMBERS // (len(self.v) * self.pre.shape[1]))
        by_head = einsum(self.v, self.W, "s head d_head, head d_head d -> head s d")
        for start in range(0, len(self.pre), size):
            some = slice(start, start + size)
            m = einsum(self.alpha[:, some], by_head, "head q s, head s d -> q s d")
            yield some, m * self.scale[some, None]

    def moved_by_head(self) -> Iterator[tuple[int, slice, Float[Tensor, "some s d_model"]]]:
        """What a head moves, for one head and some queries at a time."""
        size = max(1, NUMBERS // (len(self.v) * self.pre.shape[1]))
        for head, (alpha, W) in enumerate(zip(self.alpha, self.W, strict=True)):
            values = self.v[:, head] @ W
            for start in range(0, len(self.pre), size):
                some = slice(start, start + size)
                yield head, some, alpha[some, :, None] * values * self.scale[some, None]


@dataclass(frozen=True)
class Scores:
    """What a rule makes of a block's parts, before it is cut off below zero and made shares."""

    source: Float[Tensor, "query source"]
    bias: Float[Tensor, "pos"]
    residual: Float[Tensor, "pos"]
    mlp: Float[Tensor, "pos"]
    mid: Float[Tensor, "pos"]
    """Of resid_mid beside the MLP; not used where attention and MLP run side by side."""
    head: Float[Tensor, "head query source"]
    """How an edge is shared among heads."""


def norms(block: Block) -> Scores:
    """Ratio of norms, attention's over sources by the mean over heads (as first published)."""
    alpha = block.alpha.mean(0)
    source = block.heads.norm(dim=-1, keepdim=True) * _shares(alpha)
    return _scores(block, source, lambda part, joint: part.norm(dim=-1), block.alpha)


def value_norms(block: Block) -> Scores:
    """norm(sum_h alpha_ij v_j W_O) beside norm(resid_pre) (Kobayashi et al. 2020, 3; 2021, 3)."""
    source = torch.cat([m.norm(dim=-1) for _, m in block.moved()])
    return _scores(block, source, lambda part, joint: part.norm(dim=-1), block.lengths())


def projection(block: Block) -> Scores:
    """<part, whole> / norm(whole)^2: signed, and the parts of a joint sum to 1."""
    head = block.along(block.mid)
    return _scores(block, head.sum(0), lambda part, joint: (part * _whole(block, joint)).sum(-1),
                   head)  # fmt: skip


def l1_proximity(block: Block) -> Scores:
    """max(0, norm1(whole) - norm1(whole - part)) (ALTI: Ferrando et al. 2022, 3.1)."""
    mid = block.mid
    source = torch.cat([_nearer(m, mid[some, None]) for some, m in block.moved()])
    head = torch.zeros_like(block.alpha)
    for number, some, m in block.moved_by_head() if block.by_head else ():
        head[number, some] = _nearer(m, mid[some, None])
    return _scores(block, source, lambda part, joint: _nearer(part, _whole(block, joint)), head)


def gradient_x_activation(block: Block) -> Scores:
    """<part, gradient of the traced token's log-odds by the joint>: signed."""
    gradient, head = _gradient(block), _heads_by_gradient(block)

    def score(part: Tensor, joint: int) -> Tensor:
        product = (part * gradient[joint]).sum(-1)
        return _beyond_rounding(product, part.norm(dim=-1), gradient[joint].norm(dim=-1))

    return _scores(block, head.sum(0), score, head)


def contribution_weights(block: Block) -> Scores:
    """Attention x norm of the value x its cosine with attention's output (2606.07604).

    Each head's is cut off below zero by itself, which is how this differs from the projection;
    attention's share of the joint is that of the projection.
    """
    head = block.along(block.heads).clamp(min=0)
    whole = (block.heads * block.mid).sum(-1, keepdim=True)
    return _scores(block, whole * _shares(head.sum(0)),
                   lambda part, joint: (part * _whole(block, joint)).sum(-1), head)  # fmt: skip


def max_flow(block: Block) -> Scores:
    """Max-flow on attention x its gradient, each head's above zero (2502.15765).

    Half of each joint is the residual stream (Abnar & Zuidema 2020, 3); no MLP, no bias. As the
    capacities into a state sum to 1, many flows from the inputs to one state are maximal, all of
    value 1. Taken is the one that divides each state in proportion to its capacities, as the other
    rules do.
    """
    head = _heads_by_gradient(block).clamp(min=0)
    source, nothing = _shares(head.sum(0)), torch.zeros_like(block.pre[:, 0])
    one = torch.ones_like(nothing)
    return Scores(source, nothing, one, nothing, one, head)


RULES: dict[str, Callable[[Block], Scores]] = {
    "norms": norms,
    "value norms": value_norms,
    "projection": projection,
    "l1 proximity": l1_proximity,
    "gradient x activation": gradient_x_activation,
    "contribution weights": contribution_weights,
    "max-flow": max_flow,
}
"""Every rule, by its name in words."""

BY_GRADIENT = ("gradient x activation", "max-flow")
"""Rules that need a backward pass, and know which token is traced."""


def splits(
    model: Model,
    tokens: Int[Tensor, "pos"],
    rules: Iterable[str] = tuple(RULES),
    *,
    at: int = -1,
    target: int | None = None,
    heads: int = 0,
) -> Splits:
    """Every rule's shares of every state of one text, in one forward pass.

    Traced is the token `target` (by default the likeliest) as it is predicted at pos `at`; only
    rules of `BY_GRADIENT`, which take one backward pass, depend on it. The `heads` with the largest
    loadings on each edge are kept apart.
    """
    chosen = list(rules)
    read = _Read(model, tokens, at, target, gradient=any(rule in BY_GRADIENT for rule in chosen))
    found: dict[str, list[tuple[Tensor, ...]]] = {rule: [] for rule in chosen}
    errors = []
    with torch.inference_mode():
        for layer in range(model.cfg.n_layers):
            block = read.block(layer, by_head=heads > 0)
            errors.append(_error(block, read.attn_out[layer][0].detach()))
            for rule in chosen:
                found[rule].append(_split(block, RULES[rule](block), heads))
    side_by_side = is_parallel(model)
    by_rule = {
        rule: Split(*map(torch.stack, zip(*layers, strict=True)), parallel=side_by_side)
        for rule, layers in found.items()
    }
    return Splits(by_rule, read.probability, float(np.max(errors)))


def _split(block: Block, scores: Scores, top: int) -> tuple[Tensor, ...]:
    """Shares of one block, in the order of the fields of Split."""
    parts = torch.cat([scores.source, scores.bias[:, None], scores.residual[:, None]], dim=1)
    kept = parts.clamp(min=0)
    total = kept.sum(-1, keepdim=True)
    nothing = torch.zeros_like(kept)
    nothing[:, -1] = 1  # a state to which every part scores nothing is what it was
    shares = torch.where(total > 0, kept / total, nothing)
    through = total[:, 0] if block.parallel else scores.mid
    after = torch.stack([scores.mlp, through], dim=-1)
    mlp = _shares(after.clamp(min=0))[:, 0]
    edges = shares[:, :-2].float()
    clipped = torch.stack([_clipped(parts), _clipped(after)])
    found = (edges, shares[:, -2], shares[:, -1], mlp, clipped)
    return (*(x.float().cpu() for x in found), *_loadings(block, edges, scores.head, top))


def _loadings(
    block: Block,
    edges: Float[Tensor, "query source"],
    head: Float[Tensor, "head query source"],
    top: int,
) -> tuple[Int[Tensor, "query source top"], Float[Tensor, "query source top_and_rest"]]:
    """The largest loadings on each edge and what is left of it.

    An edge to which no head alone scores anything (L1) is shared by attention.
    """
    weight = head.clamp(min=0)
    weight = torch.where(weight.sum(0) > 0, weight, block.alpha)
    total = weight.sum(0)
    share = torch.where(total > 0, weight / total, 1 / len(weight))
    largest, which = share.topk(min(top, len(share)), dim=0)
    loading = edges * largest
    loading = torch.cat([loading, (edges - loading.sum(0)).clamp(min=0)[None]])
    return which.permute(1, 2, 0).cpu(), loading.permute(1, 2, 0).cpu()


def _scores(
    block: Block,
    source: Float[Tensor, "query source"],
    score: Callable[[Tensor, int], Float[Tensor, "pos"]],
    head: Float[Tensor, "head query source"],
) -> Scores:
    """All parts of a block scored alike: `score(part, 0)` at resid_mid, `1` at resid_post."""
    mid = block.pre + block.heads + block.bias
    return Scores(
        source, score(block.bias, 0), score(block.pre, 0), score(block.mlp, 1), score(mid, 1), head
    )


def _whole(block: Block, joint: int) -> Float[Tensor, "pos d_model"]:
    return block.post if joint else block.mid


def _gradient(block: Block) -> Float[Tensor, "joint pos d_model"]:
    assert block.gradient is not None, "a rule of BY_GRADIENT needs a backward pass"
    return block.gradient


def _heads_by_gradient(block: Block) -> Float[Tensor, "head query source"]:
    """<what each head moves, gradient by what attention adds>."""
    gradient = _gradient(block)[0]
    length = gradient.norm(dim=-1)[:, None]
    return _beyond_rounding(block.along(gradient), block.lengths(), length)


def _beyond_rounding(product: Tensor, part: Tensor, gradient: Tensor) -> Tensor:
    """Products of parts with a gradient, given the lengths of both; zero where rounding may be all.

    Behind a step that is flat where it is read (a saturated MLP) the gradient is zero, and what
    float32 leaves of it has any sign.
    """
    return torch.where(product.abs() > ROUNDING * part * gradient, product, 0)


def _nearer(
    part: Float[Tensor, "*n d_model"], whole: Float[Tensor, "*n d_model"]
) -> Float[Tensor, "*n"]:
    """max(0, norm1(whole) - norm1(whole - part))."""
    return (whole.abs().sum(-1) - (whole - part).abs().sum(-1)).clamp(min=0)


def _shares(rows: Float[Tensor, "row part"]) -> Float[Tensor, "row part"]:
    total = rows.sum(-1, keepdim=True)
    return torch.where(total > 0, rows / total, 0)


def _clipped(parts: Float[Tensor, "row part"]) -> Float[Tensor, "row"]:
    """Share of the absolute scores that lies below zero."""
    whole = parts.abs().sum(-1)
    return torch.where(whole > 0, -parts.clamp(max=0).sum(-1) / whole, 0)


def _error(block: Block, attn_out: Float[Tensor, "pos d_model"]) -> float:
    missing = (block.heads + block.bias - attn_out).norm(dim=-1)
    length = attn_out.to(missing).norm(dim=-1)
    return torch.where(missing > 0, missing / length, 0).max().item()


class _Read:
    """A pass being read: values, patterns and what blocks add, with gradients where asked for."""

    def __init__(
        self, model: Model, tokens: Tensor, at: int, target: int | None, *, gradient: bool
    ) -> None:
        self.model, self.out = model, attention_out(model)
        self.parallel = is_parallel(model)
        self.kept: dict[str, list[Tensor]] = {
            name: []
            for name in ("attn.hook_v", "attn.hook_pattern", "attn.hook_z", "hook_resid_pre",
                         "hook_attn_out", "hook_resid_post")
        }  # fmt: skip
        place = at % len(tokens)
        asked = torch.tensor([[place]], device=model.cfg.device)
        given = tokens[None].to(model.cfg.device)
        with torch.inference_mode(False), torch.set_grad_enabled(gradient), reading(model, asked):
            model.run_with_hooks(given.clone(), return_type="logits", fwd_hooks=self._hooks())
            odds = self._log_odds(self.kept["hook_resid_post"][-1][:, place].float(), target)
            self.gradients = self._gradients(odds) if gradient else None
        self.attn_out = self.kept["hook_attn_out"]
        self.probability = odds.sigmoid().item()

    def _hooks(self) -> Hooks:
        hooks: Hooks = [
            (f"blocks.{layer}.{name}", partial(_keep, into))
            for layer in range(self.model.cfg.n_layers)
            for name, into in self.kept.items()
        ]
        return [("blocks.0.hook_resid_pre", _begin), *hooks]

    def _log_odds(self, last: Float[Tensor, "1 d_model"], target: int | None) -> Float[Tensor, ""]:
        """Of the traced token, with the scale of the final norm held fixed.

        Where it is not, the gradient is orthogonal to the state itself, and the parts of the last
        joint cancel: all or nothing would be left of each.
        """
        head = unembedding(self.model)
        norm = head.norm
        held = norm.scale(last).detach()
        normed = norm.centred(last) / held * norm.gain.float() + norm.shift.float()
        logits = head.logits(normed)
        return log_odds(logits, int(logits.argmax()) if target is None else target)

    def _gradients(self, odds: Float[Tensor, ""]) -> Float[Tensor, "joint layer pos d_model"]:
        seen = [*self.kept["hook_attn_out"], *self.kept["hook_resid_post"]]
        found = torch.autograd.grad(odds, seen)
        return torch.cat(found).detach().float().unflatten(0, (2, -1))

    def block(self, layer: int, *, by_head: bool) -> Block:
        """What a block added up."""
        v, alpha, z, pre, _, post = (x[layer].detach() for x in self.kept.values())
        written = Written.of(z, self.out, layer)
        heads = written.heads[0]
        pre, post, bias = (
            pre[0].to(heads),
            post[0].to(heads),
            written.bias.expand_as(heads[None])[0],
        )
        group = alpha.shape[1] // v.shape[2]
        mlp = post - pre - heads - bias
        return Block(
            alpha=alpha[0].to(heads),
            v=repeat(v[0].to(heads), "pos kv d_head -> pos (kv group) d_head", group=group),
            W=written.W, scale=written.scale[0], pre=pre, heads=heads, bias=bias,
            mlp=torch.zeros_like(mlp) if self.model.cfg.attn_only else mlp,
            parallel=self.parallel, by_head=by_head,
            gradient=None if self.gradients is None else self.gradients[:, layer].to(heads),
        )  # fmt: skip


def _begin(resid: Tensor, hook: object) -> Tensor:
    return resid.detach().requires_grad_(torch.is_grad_enabled())


def _keep(into: list[Tensor], value: Tensor, hook: object) -> Tensor:
    into.append(value)
    return value  # the bridge shows a hook another view than the one that goes on
