"""Whether a token's meaning moves towards the tokens that it attends to (SCIENCE 3).

The meaning of a token in a layer is what the logit lens reads off its state: the final norm, then
the unembedding (nostalgebraist 2020). With p_i before and after a step, i has moved towards j by
JS(p_i before, p_j before) - JS(p_i after, p_j before), or by the same rise of the cosine of the
states. A source is any token before i but the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import einsum, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from lenses.statistics.correlations import ranks
from models import Model
from models.parts import AttentionOut, attention_out
from models.readout import Unembedding, unembedding

WEIGHTS = ("attention", "value_weighted")
"""alpha_ij, and norm(alpha_ij v_j W_O) of each head."""

STEPS = ("attention", "layer")
"""From resid_pre to what attention makes of it, or to resid_post."""

DISTANCES = ("divergence", "cosine")
"""Movement in the Jensen-Shannon divergence of decoded distributions (nats), or in the cosine."""

CONTROLS = ("none", "position")
"""Rank correlation as it is, or with the source's position held fixed (partial)."""

FEWEST = 4
"""Sources that a token must have to be correlated over."""

NUMBERS = 2**24
"""Numbers of mixed distributions held at a time: 64 MB in float32."""


@dataclass(frozen=True)
class Movement:
    """What one text says of each token i (query) and each other token j (key), on the CPU."""

    weight: Float[Tensor, "weight layer head query key"]
    """Each of WEIGHTS; zero for later tokens."""
    towards: Float[Tensor, "step distance layer query key"]
    """How much nearer to j each of STEPS has brought i, for any j."""
    output_error: float
    """Largest difference of the decoded last state's log-probabilities from the model's own."""


@torch.inference_mode()
def movement(model: Model, tokens: Int[Tensor, "pos"]) -> Movement:
    """Weights and movements of all pairs of tokens of a text, in one forward pass."""
    found = _Reading(model)
    logits = model.run_with_hooks(tokens[None], fwd_hooks=found.hooks())[0].float()
    wrong = (found.before - logits.log_softmax(-1)).abs().max()
    return Movement(
        torch.stack(found.weights, dim=1).cpu(),
        torch.stack(found.towards, dim=2).cpu(),
        wrong.item(),
    )


class _Reading:
    """A forward pass being read: the states of one block live until the next."""

    def __init__(self, model: Model) -> None:
        self.model, self.head, self.out = model, unembedding(model), attention_out(model)
        self.weights: list[Tensor] = []
        self.towards: list[Tensor] = []
        self.before: Tensor | None = None

    def hooks(self) -> list[tuple[str, Callable[..., None]]]:
        """What to do at each hook, block by block."""
        at = {
            "hook_resid_pre": self._at_resid_pre,
            "attn.hook_v": self._at_v,
            "attn.hook_pattern": self._at_pattern,
            "hook_attn_out": self._at_attn_out,
            "hook_resid_post": self._at_resid_post,
        }
        return [
            (f"blocks.{layer}.{name}", partial(do, layer))
            for layer in range(len(self.out.W_O))
            for name, do in at.items()
        ]

    def _at_resid_pre(self, layer: int, resid: Tensor, hook: object) -> None:
        self.pre = resid[0].float()
        if self.before is None:
            self.before = decoded(self.head, self.pre)

    def _at_v(self, layer: int, v: Tensor, hook: object) -> None:
        self.values = v[0].float()

    def _at_pattern(self, layer: int, pattern: Tensor, hook: object) -> None:
        alpha = pattern[0].float()
        lengths = value_lengths(self.out, layer, self.values)
        weighted = einsum(alpha, lengths, "head query key, key head -> head query key")
        self.weights.append(torch.stack([alpha, weighted]))

    def _at_attn_out(self, layer: int, attn_out: Tensor, hook: object) -> None:
        self.mid = self.pre + attn_out[0].float()

    def _at_resid_post(self, layer: int, resid: Tensor, hook: object) -> None:
        post = resid[0].float()
        after = [decoded(self.head, self.mid), decoded(self.head, post)]
        start = jensen_shannon(self.before, self.before)
        nearer = [start - jensen_shannon(p, self.before) for p in after]
        was = _cosines(self.pre, self.pre)
        turned = [_cosines(state, self.pre) - was for state in (self.mid, post)]
        self.towards.append(torch.stack([torch.stack(nearer), torch.stack(turned)], dim=1))
        self.before = after[1]


def value_lengths(
    out: AttentionOut, layer: int, values: Float[Tensor, "pos kv d_head"]
) -> Float[Tensor, "pos head"]:
    """norm(v_j W_O) of each head; the gain of a norm after attention included, its scale not."""
    W = out.gained(layer)
    gram = einsum(W, W, "head row d_model, head col d_model -> head row col")
    v = repeat(values, "pos kv d -> pos (kv group) d", group=len(W) // values.shape[1])
    power = einsum(v, gram, v, "pos head row, head row col, pos head col -> pos head")
    return power.clamp(min=0).sqrt()


def decoded(head: Unembedding, states: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos vocab"]:
    """Log-probabilities that the logit lens reads off states."""
    return head(states).log_softmax(-1)


def jensen_shannon(
    log_p: Float[Tensor, "query vocab"], log_q: Float[Tensor, "key vocab"]
) -> Float[Tensor, "query key"]:
    """JS divergence in nats of every pair of distributions: 0 if they are equal, log 2 if disjoint.

    The entropy of the mixture less the mean of the entropies (Lin 1991, equation 4.1).
    """
    p, q = log_p.exp(), log_q.exp()
    alone = (_entropy(p)[:, None] + _entropy(q)[None]) / 2
    rows = max(1, NUMBERS // q.numel())
    mixed = [_entropy((part[:, None] + q[None]) / 2) for part in p.split(rows)]
    return (torch.cat(mixed) - alone).clamp(min=0)


def _entropy(p: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    return torch.special.entr(p).sum(-1)


def _cosines(
    x: Float[Tensor, "query d_model"], y: Float[Tensor, "key d_model"]
) -> Float[Tensor, "query key"]:
    return normalize(x, dim=-1) @ normalize(y, dim=-1).mT


def permutations(
    length: int, draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "draw {length}"]:
    """Random orders of the tokens of a text but the first, which stays."""
    moved = rng.permuted(np.tile(np.arange(1, length), (draws, 1)), axis=1)
    return np.concatenate([np.zeros((draws, 1), dtype=int), moved], axis=1)


def moves_with_weight(
    found: Movement, orders: Int[np.ndarray, "draw pos"]
) -> Float[np.ndarray, "draw control weight step distance layer head"]:
    """Rank correlation over sources of weight with movement, mean over the tokens of a text.

    In each draw source j's state is that of token `orders[draw, j]` instead; where that would be
    the moving token itself, that token's own substitute takes its place. The identity gives the
    estimate, random orders its null. NaN where no token has FEWEST sources and both vary.
    """
    weight, towards = found.weight.double().numpy(), found.towards.double().numpy()
    total, count = 0.0, 0
    for query in range(FEWEST + 1, weight.shape[-1]):
        order = np.where(orders == query, orders[:, query : query + 1], orders)[:, 1:query]
        source = np.arange(1, query, dtype=float)
        x, y = weight[..., query, 1:query], towards[..., query, order]
        both, defined = _correlations(x, np.moveaxis(y, -2, 0), source)
        total, count = total + both, count + defined
    if isinstance(total, float):
        shape = (len(orders), len(CONTROLS), *weight.shape[:1], *towards.shape[:3], weight.shape[2])
        return np.full(shape, np.nan)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def recency_moves(found: Movement) -> Float[np.ndarray, "step distance layer"]:
    """Rank correlation of the source's position with movement, mean over the tokens of a text."""
    towards = found.towards.double().numpy()
    queries = range(FEWEST + 1, towards.shape[-1])
    if not len(queries):
        return np.full(towards.shape[:3], np.nan)
    each = [
        _ranked(towards[..., query, 1:query]) @ _ranked(np.arange(1, query, dtype=float))
        for query in queries
    ]
    return np.mean(each, axis=0)


def _correlations(
    x: Float[np.ndarray, "weight layer head source"],
    y: Float[np.ndarray, "draw step distance layer source"],
    source: Float[np.ndarray, "source"],
) -> tuple[
    Float[np.ndarray, "draw control weight step distance layer head"],
    Bool[np.ndarray, "draw control weight step distance layer head"],
]:
    """Rank correlations with and without the source's position held fixed; where defined."""
    position = _ranked(source)
    plain = _ranked(x), _ranked(y)
    held = tuple(_unit(part - (part @ position)[..., None] * position) for part in plain)
    axes = "weight layer head source, draw step distance layer source"
    out = "draw weight step distance layer head"
    found = [einsum(*pair, f"{axes} -> {out}") for pair in (plain, held)]
    vary = [[(part != 0).any(-1) for part in pair] for pair in (plain, held)]
    axes = "weight layer head, draw step distance layer"
    defined = [einsum(*(v.astype(float) for v in pair), f"{axes} -> {out}") > 0 for pair in vary]
    return np.stack(found, axis=1), np.stack(defined, axis=1)


def _ranked(values: Float[np.ndarray, "*row source"]) -> Float[np.ndarray, "*row source"]:
    """Ranks, centred and of unit length; zeros where values do not vary."""
    ranked = ranks(values)
    return _unit(ranked - ranked.mean(-1, keepdims=True))


def _unit(centred: Float[np.ndarray, "*row source"]) -> Float[np.ndarray, "*row source"]:
    """Of unit length; zeros where nothing is left beyond rounding (ranks are of the order of 1)."""
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9)
