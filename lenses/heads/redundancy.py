"""Whether heads do each other's work: how alike their results are, and removal of two (SCIENCE 2).

Heads of all layers are numbered in one row, layer by layer. Likeness is read off a stream of
batches of tokens; of each, numbers per pair of heads are kept and nothing of d_model width. An
unbiased estimate of linear CKA needs, in a batch of n tokens, each head's n x n matrix of inner
products, which is z G z^T with G = W_O W_O^T: heads * n^2 numbers at a time, where cross-moments
of z would take (heads * d_head)^2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from torch import Tensor

from lenses.heads.contributions import Written
from lenses.patching.single_heads import (
    Clean,
    Replacement,
    centred_change,
    log_sum_change,
)
from lenses.statistics.intervals import RESAMPLES
from lenses.statistics.resampled import stretched
from models import Model
from models.parts import AttentionOut, attention_out
from models.passes import run_from

RESULTS = 2**25
"""Numbers of results that stand at d_model width at a time, for cosines: 256 MB in float64."""
LOGITS = 2**25
"""Logits held at a time: 128 MB in float32."""


@dataclass(frozen=True)
class Likeness:
    """What a batch of tokens says of every pair of heads; sums of batches are sums of streams."""

    cosine: Float[Tensor, "head head"]
    """Sum over tokens of the cosine of the two results; 0 where one is zero."""
    tokens: int
    """How many there were."""
    hsic: Float[Tensor, "head head"]
    """Unbiased estimate of HSIC with linear kernels (Song et al. 2012, JMLR 13, equation 5)."""


@torch.inference_mode()
def likeness(
    model: Model, texts: Int[Tensor, "text pos"], counted: Int[Tensor, "token 2"]
) -> Likeness:
    """Likeness of results at some tokens, each given by its text and pos; at least four.

    A result is what enters the residual stream: after the frozen scale of a norm after attention.
    """
    seen = _Results(attention_out(model), [], [], counted)
    hooks: list[tuple[str, Callable]] = [
        (f"blocks.{layer}.attn.hook_z", partial(seen.take, layer))
        for layer in range(model.cfg.n_layers)
    ]
    model.run_with_hooks(texts, stop_at_layer=model.cfg.n_layers, fwd_hooks=hooks)
    kernels = torch.cat(seen.kernels)
    return Likeness(_cosines(seen, kernels), len(counted), _hsic(kernels))


@dataclass(frozen=True, repr=False)  # hooks are named by it, which would print every tensor
class _Results:
    """Per layer, at the tokens counted: scaled z, and inner products of results."""

    out: AttentionOut
    z: list[Float[Tensor, "token head d_head"]]
    kernels: list[Float[Tensor, "head token token"]]
    counted: Int[Tensor, "token 2"]

    def results(self, tokens: slice) -> Float[Tensor, "token head d_model"]:
        """What every head of the model writes at some tokens."""
        every = [
            einsum(
                z[tokens], self.out.gained(layer, z.dtype),
                "token head d_head, head d_head d_model -> token head d_model",
            )
            for layer, z in enumerate(self.z)
        ]  # fmt: skip
        return torch.cat(every, dim=1)

    def take(self, layer: int, z: Tensor, hook: object) -> None:
        """Read a layer's heads."""
        written = Written.of(z, self.out, layer)
        row, pos = self.counted.mT
        own = (written.z * written.scale[..., None])[row, pos]
        turned = einsum(own, written.gram, "token head i, head i j -> token head j")
        self.z.append(own)
        self.kernels.append(
            einsum(turned, own, "token head d_head, other head d_head -> head token other")
        )


def _cosines(
    seen: _Results, kernels: Float[Tensor, "head token token"]
) -> Float[Tensor, "head head"]:
    """Sums of cosines; results are made for a few tokens at a time."""
    length = kernels.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().mT
    total = torch.zeros_like(kernels[:, 0, :1]) * torch.zeros_like(kernels[:, 0, 0])
    size = max(1, RESULTS // (len(kernels) * seen.out.W_O[0].shape[-1]))
    for start in range(0, len(length), size):
        few = slice(start, start + size)
        long = length[few, :, None]
        unit = torch.where(long > 0, seen.results(few) / long, 0)
        total = total + einsum(unit, unit, "token a d_model, token b d_model -> a b")
    return total


def _hsic(kernels: Float[Tensor, "head token token"]) -> Float[Tensor, "head head"]:
    """Every pair's unbiased HSIC."""
    n = kernels.shape[-1]
    if n < 4:
        raise ValueError(f"{n} tokens are too few for likeness: four at least")
    hollow = kernels * (1 - torch.eye(n, dtype=kernels.dtype, device=kernels.device))
    flat, rows = hollow.flatten(1), hollow.sum(-1)
    whole = rows.sum(-1)
    traces = flat @ flat.mT
    means = torch.outer(whole, whole) / ((n - 1) * (n - 2))
    return (traces + means - 2 / (n - 2) * (rows @ rows.mT)) / (n * (n - 3))


def cka(hsic: Float[np.ndarray, "head head"]) -> Float[np.ndarray, "head head"]:
    """Linear CKA from sums of HSIC over batches; NaN for a head whose results do not vary.

    (Kornblith et al. 2019, section 3; over minibatches: Nguyen, Raghu & Kornblith 2021, section 3.)
    Estimates may leave 0 to 1 by chance.
    """
    own = np.sqrt(np.maximum(hsic.diagonal(), 0))
    scale = np.outer(own, own)
    return np.divide(hsic, scale, out=np.full_like(hsic, np.nan), where=scale > 0)


@torch.inference_mode()
def subspace_overlap(
    weights: Float[Tensor, "layer head d_head d_model"],
) -> Float[np.ndarray, "pair pair"]:
    """Mean squared cosine of the principal angles between what two heads' weights span.

    1 for one and the same subspace; two random ones have d_head / d_model. (Bjorck & Golub 1973.)
    """
    basis = torch.linalg.qr(weights.flatten(0, 1).double().mT.cpu())[0]
    d_head = basis.shape[-1]
    columns = rearrange(basis, "head d_model d_head -> d_model (head d_head)")
    found = [
        rearrange(one.mT @ columns, "i (head j) -> head i j", j=d_head).square().sum((-2, -1))
        for one in basis
    ]
    return (torch.stack(found) / d_head).numpy()


@torch.inference_mode()
def joint_effects(
    model: Model,
    clean: Clean,
    replacement: Replacement,
    pairs: Int[np.ndarray, "pair 2"],
) -> Float[Tensor, "pair pos"]:
    """Change of the next token's negative log-likelihood when two heads both get their mean z.

    Heads are numbered layer by layer. A pass is taken up at the pair's first layer. NaN where the
    next token is one that cannot be said.
    """
    heads = clean.z.shape[2]
    found = torch.empty(len(pairs), clean.z.shape[1], dtype=torch.float32, device=clean.z.device)
    first = pairs.min(axis=1) // heads
    size = max(1, LOGITS // clean.logits.numel())
    for layer in np.unique(first).tolist():
        numbers = np.flatnonzero(first == layer)
        for some in np.split(numbers, range(size, len(numbers), size)):
            gone = torch.zeros(len(some), clean.z.shape[0] * heads, dtype=torch.bool)
            gone.scatter_(1, torch.from_numpy(pairs[some]), True)
            gone = gone.unflatten(1, (-1, heads)).to(clean.z.device)
            hooks = [
                (
                    f"blocks.{at}.attn.hook_z",
                    partial(_without, gone[:, at, None, :, None], replacement.mean[at]),
                )
                for at in np.unique(pairs[some] // heads).tolist()
            ]
            resid = clean.resid_pre[layer].expand(len(some), -1, -1).contiguous()
            change = centred_change(run_from(model, layer, resid, hooks), clean)
            true = change.gather(-1, clean.true.expand(len(some), -1)[..., None])[..., 0]
            rise = log_sum_change(change, clean) - true
            found[torch.from_numpy(some).to(found.device)] = rise
    return torch.where(clean.sayable, found, torch.nan)


def _without(gone: Tensor, mean: Tensor, z: Tensor, hook: object) -> Tensor:
    return torch.where(gone, mean.to(z), z)


def share_below(
    costs: Float[np.ndarray, "text head"], threshold: float, seed: int = 0
) -> tuple[float, float, float]:
    """Share of heads whose mean cost is below a threshold, and its 95 % interval over texts."""
    texts, found = len(costs), float((costs.mean(0) < threshold).mean())
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(texts, np.full(texts, 1 / texts), size=RESAMPLES) / texts
    shares = (draws @ costs < threshold).mean(-1)
    low, high = stretched(np.array(found), shares, texts, (0, 1))
    return found, float(low), float(high)


def merges(likeness: Float[np.ndarray, "head head"]) -> Float[np.ndarray, "merge 3"]:
    """Which two clusters become one, step by step, and the mean distance (1 - likeness) of theirs.

    A head is its number, a cluster the number of heads plus that of its merge. Average linkage; a
    pair without likeness counts as unlike. (Sokal & Michener 1958.)
    """
    alike = np.nan_to_num((likeness + likeness.T) / 2)
    distance = 1 - np.clip(alike, 0, 1)
    np.fill_diagonal(distance, 0)
    return hierarchy.linkage(squareform(distance, checks=False), method="average")[:, :3]


def leaf_order(merged: Float[np.ndarray, "merge 3"]) -> Int[np.ndarray, "head"]:
    """Heads in an order in which every cluster stands together."""
    heads = len(merged) + 1
    members: list[list[int]] = [[head] for head in range(heads)]
    for left, right, _ in merged:
        members.append([*members[int(left)], *members[int(right)]])
    return np.array(members[-1])
