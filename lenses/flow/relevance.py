"""Which prompt tokens an answer looks at, and which its gradient points to (SCIENCE 3).

With n prompt and g generated tokens, the *rows* are the positions n-1 .. n+g-2, whose output is a
generated token. A relevance is first a number for each row and each token it can see; `over_rows`
then averages it over the rows that can see a token: all g of them for a prompt token, fewer for a
generated one, none for the last, which is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor

from lenses.patching.knock_out import answered, without
from models import Model
from models.parts import AttentionOut, attention_out, sinks
from models.passes import reading

LAYERED = (
    "attention",
    "attention_max",
    "attention_without_sink",
    "value_weighted",
    "value_weighted_sum",
    "rollout",
)
"""Relevances that each layer has: attention, its mean over heads and its maximum over heads; its
mean over heads when the first token is removed and each head's row renormalised; the lengths
norm(alpha_ij v_j W_O) summed over heads, and the length of their sum (Kobayashi et al. 2020,
section 3), as shares of the row; and attention multiplied through the layers so far, half of each
being the residual stream (Abnar & Zuidema 2020, section 3). All but the maximum sum to 1 over the
tokens that a row can see, the mean to 1 less what a learned sink takes."""

STEPS = (12, 48, 192)
"""Points on the path of integrated gradients (Gauss and Legendre's): as many as it takes."""
COMPLETE = 0.01
"""How far, relatively, integrated gradients may sum from what they must."""
SMALL = 0.1
"""Nats below which a difference counts as this much: of nothing, one per cent is nothing."""
AT_ONCE = 24
"""Points that pass the model together."""


@dataclass(frozen=True)
class AttentionRows:
    """What the rows of one text attend to; `pos` are the tokens 0 .. n+g-2."""

    rows: Float[Tensor, "measure layer row pos"]
    """Each of LAYERED."""
    all_rows: Float[Tensor, "layer pos"]
    """Attention (mean over heads), averaged over *all* rows of the text that can see a token."""
    length: Float[Tensor, "layer pos"]
    """norm(resid_pre)."""


@torch.inference_mode()
def attention_rows(model: Model, tokens: Int[Tensor, "pos"], prompt: int) -> AttentionRows:
    """Every relevance of LAYERED in one forward pass, on the CPU."""
    found = _Reading(attention_out(model), prompt, sinks(model.blocks) is not None)
    model.run_with_hooks(tokens[None, :-1], return_type=None, fwd_hooks=found.hooks())
    return AttentionRows(
        torch.stack(found.rows, dim=1).cpu(),
        torch.stack(found.all_rows).cpu(),
        torch.stack(found.lengths).cpu(),
    )


class _Reading:
    """A forward pass being read, layer by layer."""

    def __init__(self, out: AttentionOut, prompt: int, has_sinks: bool) -> None:
        self.out, self.first, self.has_sinks = out, prompt - 1, has_sinks
        self.rows: list[Tensor] = []
        self.all_rows: list[Tensor] = []
        self.lengths: list[Tensor] = []
        self.rolled: Tensor | None = None

    def hooks(self) -> list[tuple[str, Callable[..., None]]]:
        """What to do at each hook, block by block."""
        at = {
            "hook_resid_pre": self._at_resid_pre,
            "attn.hook_v": self._at_v,
            "attn.hook_pattern": self._at_pattern,
        }
        return [
            (f"blocks.{layer}.{name}", partial(do, layer))
            for layer in range(len(self.out.W_O))
            for name, do in at.items()
        ]

    def _at_resid_pre(self, layer: int, resid: Tensor, hook: object) -> None:
        self.lengths.append(resid[0].float().norm(dim=-1))

    def _at_v(self, layer: int, v: Tensor, hook: object) -> None:
        self.values = v[0].float()

    def _at_pattern(self, layer: int, pattern: Tensor, hook: object) -> None:
        whole = pattern[0].float()
        mean = whole.mean(0)
        half = (mean + torch.eye(len(mean), device=mean.device)) / 2
        half = _shares(half) if self.has_sinks else half
        self.rolled = half if self.rolled is None else half @ self.rolled
        read = whole[:, self.first :]
        self.rows.append(
            torch.stack(
                [
                    mean[self.first :],
                    read.amax(0),
                    without_sink(read).mean(0),
                    *self._weighted(layer, read),
                    self.rolled[self.first :],
                ]
            )
        )
        self.all_rows.append(mean.sum(0) / torch.arange(len(mean), 0, -1, device=mean.device))

    def _weighted(
        self, layer: int, read: Float[Tensor, "head row pos"]
    ) -> tuple[Float[Tensor, "row pos"], Float[Tensor, "row pos"]]:
        """Lengths of what rows take from tokens, by head and summed, as shares of each row.

        The scale of a norm after attention is one number a row: it cancels.
        """
        W = self.out.gained(layer)
        group = read.shape[0] // self.values.shape[1]
        v = repeat(self.values, "pos kv d_head -> pos (kv group) d_head", group=group)
        moved = einsum(v, W, "pos head d_head, head d_head d_model -> pos head d_model")
        apart = einsum(read, moved.norm(dim=-1), "head row pos, pos head -> row pos")
        together = einsum(read, moved, "head row pos, pos head d_model -> row pos d_model")
        return _shares(apart), _shares(together.norm(dim=-1))


def without_sink(pattern: Float[Tensor, "*batch row pos"]) -> Float[Tensor, "*batch row pos"]:
    """Attention without the first token: each row renormalised, zero where nothing else is seen.

    What a learned sink takes goes as well.
    """
    is_first = torch.arange(pattern.shape[-1], device=pattern.device) == 0
    return without(pattern, is_first.expand(1, -1), has_sinks=False)


def _shares(rows: Float[Tensor, "row pos"]) -> Float[Tensor, "row pos"]:
    total = rows.sum(-1, keepdim=True)
    return torch.where(total > 0, rows / total, 0)


def over_rows(rows: Float[Tensor, "*batch row pos"], prompt: int) -> Float[Tensor, "*batch pos"]:
    """Mean over the rows that can see each token; the first row is the last prompt token's."""
    count, length = rows.shape[-2:]
    unseen = (torch.arange(length) - prompt + 1).clamp(min=0)
    return rows.sum(-2) / (count - unseen)


@dataclass(frozen=True)
class GradientRelevance:
    """What gradients of the answer's log-probability say of each prompt token, on the CPU."""

    norm: Float[Tensor, "token"]
    """Length of the gradient at the token's embedding."""
    x_input: Float[Tensor, "token"]
    """<gradient, embedding>, signed: to first order what the answer loses at a zero embedding."""
    integrated: Float[Tensor, "token"]
    """Integrated gradients from the reference embedding (Sundararajan et al. 2017, section 3); NaN
    where their sum stays further than COMPLETE from `whole` even with the most points."""
    whole: float
    """What the answer loses when all prompt tokens have the reference embedding, which is what the
    integrated gradients should sum to."""


def gradient_relevance(
    model: Model, tokens: Int[Tensor, "pos"], prompt: int, reference: Float[Tensor, "d_model"]
) -> GradientRelevance:
    """Gradient, gradient x input and integrated gradients of the answer's log-probability."""
    embedded = model.embed(tokens[None, :-1]).detach()
    start = embedded.clone()
    start[:, :prompt] = reference.to(embedded)
    here = _gradient(model, tokens, prompt, embedded)[0, :prompt]
    ends = [
        answered(model, tokens[None], prompt, [("hook_embed", partial(_put, embeds))])
        for embeds in (embedded, start)
    ]
    whole, none = (end.log_probability.sum().item() for end in ends)
    return GradientRelevance(
        here.norm(dim=-1).cpu(),
        (here * embedded[0, :prompt]).sum(-1).cpu(),
        _integrated(model, tokens, prompt, (start, embedded), whole - none).cpu(),
        whole - none,
    )


def _integrated(
    model: Model, tokens: Int[Tensor, "pos"], prompt: int, path: tuple[Tensor, Tensor], whole: float
) -> Float[Tensor, "token"]:
    """Gradients along the straight path, times its length; NaN where they do not add up."""
    start, length = path[0], path[1] - path[0]
    for steps in STEPS:
        points, weights = np.polynomial.legendre.leggauss(steps)
        share = torch.from_numpy((points + 1) / 2).to(start)[:, None, None]
        weight = torch.from_numpy(weights / 2).to(start)
        mean = sum(
            einsum(w, _gradient(model, tokens, prompt, start + s * length), "step, step ... -> ...")
            for s, w in zip(share.split(AT_ONCE), weight.split(AT_ONCE), strict=True)
        )
        found = (mean * length[0])[:prompt].sum(-1).double()
        if abs(found.sum().item() - whole) <= COMPLETE * max(abs(whole), SMALL):
            return found
    return torch.full_like(found, torch.nan)


def _put(embeds: Tensor, embed: Tensor, hook: object) -> Tensor:
    return embeds


def _gradient(
    model: Model,
    tokens: Int[Tensor, "pos"],
    prompt: int,
    embeds: Float[Tensor, "step pos d_model"],
) -> Float[Tensor, "step pos d_model"]:
    """Of the summed log-probability of the generated tokens, at each step's embeddings."""
    leaf = embeds.detach().clone().requires_grad_(True)
    texts = tokens[:-1].expand(len(leaf), -1)
    at = torch.arange(prompt - 1, len(tokens) - 1, device=tokens.device)
    with torch.enable_grad(), reading(model, at.expand(len(leaf), -1)):
        logits = model.run_with_hooks(texts, fwd_hooks=[("hook_embed", partial(_put, leaf))])
        chosen = tokens[prompt:].expand(len(leaf), -1)[..., None]
        nats = logits.float().log_softmax(-1).gather(-1, chosen).sum()
        return torch.autograd.grad(nats, leaf)[0]


def inside_window(
    rows: Float[Tensor, "layer row pos"], prompt: int, sizes: list[int | None]
) -> Float[Tensor, "layer"]:
    """Share of attention that stays within each layer's window, mean over rows."""
    row, pos = torch.arange(rows.shape[1])[:, None] + prompt - 1, torch.arange(rows.shape[2])
    most = torch.tensor([rows.shape[2] if size is None else size for size in sizes])
    return (rows * (row - pos < most[:, None, None])).sum(-1).mean(-1)
