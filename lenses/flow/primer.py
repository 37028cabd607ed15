"""Self-attention in plain NumPy, one line a step, and torch's own beside it (SCIENCE 10).

Q, K and V are linear maps of the words; scores = Q K^T / sqrt(d_head); a mask hides later words;
softmax makes weights of each row, which sum to 1; the weights mix the values; W_O turns what each
head mixed into a change of the word, and the heads' changes are added (Vaswani et al. 2017,
sections 3.2.1 and 3.2.2). In cross-attention keys and values come from another text.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import MultiheadAttention
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Maps:
    """The linear maps of an attention layer; without W_O nothing is added to the words."""

    W_Q: Float[np.ndarray, "head width d_head"]
    W_K: Float[np.ndarray, "head width d_head"]
    W_V: Float[np.ndarray, "head width d_head"]
    W_O: Float[np.ndarray, "head d_head width"] | None = None


class Attended(NamedTuple):
    """Every matrix on the way, of every head."""

    query: Float[np.ndarray, "head query d_head"]
    key: Float[np.ndarray, "head key d_head"]
    value: Float[np.ndarray, "head key d_head"]
    scores: Float[np.ndarray, "head query key"]
    """Before the mask."""
    weights: Float[np.ndarray, "head query key"]
    mixed: Float[np.ndarray, "head query d_head"]
    change: Float[np.ndarray, "head query width"] | None
    """What each head proposes to add to each word."""


def softmax(scores: Float[np.ndarray, "*rows key"]) -> Float[np.ndarray, "*rows key"]:
    """Positive, of sum 1 along the last axis; what it is given stays as it is."""
    grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def attend(
    x: Float[np.ndarray, "query width"],
    maps: Maps,
    *,
    context: Float[np.ndarray, "key width"] | None = None,
    causal: bool = False,
) -> Attended:
    """Attention from the words `x` to themselves, or to `context`; every head at once."""
    other = x if context is None else context
    query, key, value = x @ maps.W_Q, other @ maps.W_K, other @ maps.W_V
    scores = einsum(query, key, "head query d, head key d -> head query key")
    scores = scores / np.sqrt(query.shape[-1]).astype(x.dtype)
    later = np.triu(np.ones(scores.shape[1:], dtype=bool), 1)
    weights = softmax(np.where(later & causal, -np.inf, scores).astype(x.dtype))
    mixed = weights @ value
    change = None if maps.W_O is None else mixed @ maps.W_O
    return Attended(query, key, value, scores, weights, mixed, change)


def random_maps(
    heads: int, width: int, d_head: int, rng: np.random.Generator, *, output: bool = True
) -> Maps:
    """Maps that keep the size of what they are given, on average."""
    inner = [rng.normal(size=(heads, width, d_head)) / width**0.5 for _ in range(3)]
    return Maps(*inner, rng.normal(size=(heads, d_head, width)) / d_head**0.5 if output else None)


# --- torch's own ---

CASES = {
    "one head, as in the notes": {"heads": 1, "output": False},
    "one head with a mask": {"heads": 1, "output": False, "causal": True},
    "cross-attention": {"heads": 1, "output": False, "cross": True},
    "several heads with a mask": {"heads": 4, "causal": True},
    "cross-attention of several heads": {"heads": 4, "cross": True},
}
"""What is computed here and by torch: without an output map by scaled_dot_product_attention, else
by MultiheadAttention."""


def torch_error(case: str, dtype: str, rng: np.random.Generator) -> float:
    """How far NumPy is from torch in one random draw of a case: see `relative_error`."""
    told = CASES[case]
    heads, causal, cross = told["heads"], told.get("causal", False), told.get("cross", False)
    width = 12
    maps = random_maps(heads, width, width // heads, rng, output=told.get("output", True))
    maps = Maps(*(None if m is None else m.astype(dtype) for m in vars(maps).values()))
    x, other = (rng.normal(size=(length, width)).astype(dtype) for length in (7, 9))
    context = other if cross else None
    own = attend(x, maps, context=context, causal=causal)
    if maps.W_O is None:
        return relative_error(own.mixed, _by_dot_product(own, causal))
    found, weights = by_multihead(x, maps, context=context, causal=causal)
    errors = relative_error(own.change.sum(0), found), relative_error(own.weights, weights)
    return float(np.max(errors))  # NaN wins


def agreement(draws: int, seed: int, others: pd.DataFrame) -> pd.DataFrame:
    """The `torch_error` of every case in two precisions, over random draws; then others."""
    rows = [
        (case, precision, seed + draw)
        for case in CASES
        for precision in ("float32", "float64")
        for draw in range(draws)
    ]
    errors = [torch_error(case, kind, np.random.default_rng(draw)) for case, kind, draw in rows]
    found = pd.DataFrame(rows, columns=["case", "precision", "draw"]).assign(error=errors)
    return pd.concat([found, others], ignore_index=True)


def relative_error(own: Float[np.ndarray, "*cell"], other: Float[np.ndarray, "*cell"]) -> float:
    """The largest difference over the largest number."""
    return float(np.abs(own - other).max() / np.abs(own).max())


def _by_dot_product(own: Attended, causal: bool) -> Float[np.ndarray, "head query d_head"]:
    parts = (torch.from_numpy(part) for part in (own.query, own.key, own.value))
    return scaled_dot_product_attention(*parts, is_causal=causal).numpy()


@torch.inference_mode()
def by_multihead(
    x: Float[np.ndarray, "query width"],
    maps: Maps,
    *,
    context: Float[np.ndarray, "key width"] | None = None,
    causal: bool = False,
) -> tuple[Float[np.ndarray, "query width"], Float[np.ndarray, "head query key"]]:
    """Output and weights of torch's MultiheadAttention with the same maps."""
    heads, width, _ = maps.W_Q.shape
    layer = MultiheadAttention(width, heads, bias=False, batch_first=True)
    layer = layer.to(torch.from_numpy(x).dtype)
    inner = [rearrange(m, "head width d -> (head d) width") for m in (maps.W_Q, maps.W_K, maps.W_V)]
    layer.in_proj_weight.copy_(torch.from_numpy(np.concatenate(inner)))
    outer = rearrange(maps.W_O, "head d width -> width (head d)")
    layer.out_proj.weight.copy_(torch.from_numpy(outer))
    query, other = (torch.from_numpy(part)[None] for part in (x, x if context is None else context))
    later = torch.ones(query.shape[1], other.shape[1], dtype=torch.bool).triu(1)
    found, weights = layer(
        query, other, other, attn_mask=later if causal else None, average_attn_weights=False
    )
    return found[0].numpy(), weights[0].numpy()


# --- how long it takes, and how much it holds ---

HEADS = (1, 2, 4, 8, 16, 32)
"""Numbers of heads that are timed."""
TOKENS = (64, 128, 256, 512, 1024, 2048)
"""Lengths of text of which the pattern is measured."""
LONG = 256
"""From this length on the time of a pattern is more than that of starting to compute it."""


@torch.inference_mode()
def heads_seconds(heads: int, repeats: int, seed: int) -> Float[np.ndarray, "repeat way"]:
    """Seconds of as many heads, one after another and then all in one product, in turns."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(32, 64, generator=generator)
    maps = [torch.randn(heads, 64, 16, generator=generator) / 8 for _ in range(3)]
    W_O = torch.randn(heads, 16, 64, generator=generator) / 4
    ways = (_one_after_another, _all_at_once)
    difference = (ways[0](x, *maps, W_O) - ways[1](x, *maps, W_O)).abs().max()
    if difference > 1e-3:
        raise ArithmeticError(f"the two ways differ by {difference}: one of them is wrong")
    return np.array([[_seconds(way, x, *maps, W_O) for way in ways] for _ in range(repeats)])


def timed(longest: int, seed: int) -> dict[str, Float[np.ndarray, "1 *cell"]]:
    """Seconds of HEADS one by one and together, and of patterns with their bytes.

    Patterns are of TOKENS up to the longest. Each is computed once before, so that no first time
    counts.
    """
    lengths = [tokens for tokens in TOKENS if tokens <= longest]
    patterns = [pattern(tokens, 32, seed) for tokens in lengths for _ in range(2)][1::2]
    taken, seconds = zip(*patterns, strict=True)
    each = [heads_seconds(count, 2, seed)[1] for count in HEADS]
    found = {"heads_seconds": each, "pattern_seconds": seconds, "bytes": taken}
    return {name: np.array([values]) for name, values in found.items()}


def growth_table(taken: Float[np.ndarray, "length"]) -> pd.DataFrame:
    """How many weights a head has over the first of TOKENS, and the bytes that were measured."""
    lengths = TOKENS[: len(taken)]
    return pd.DataFrame({"words": lengths, "weights": np.square(lengths), "bytes": taken})


def powers_of_time(seconds: Float[np.ndarray, "repeat length"]) -> Float[np.ndarray, "repeat"]:
    """The power of the length that the time grows with, over the first of TOKENS, from LONG on.

    A line through the logarithms of each repeat; no repeats where there are no two such lengths.
    """
    lengths = np.array(TOKENS[: seconds.shape[1]])
    long = lengths >= LONG
    if long.sum() < 2:
        return np.array([])
    return np.polyfit(np.log(lengths[long]), np.log(seconds[:, long]).T, 1)[0]


def _one_after_another(x: Tensor, *maps: Tensor) -> Tensor:
    changes = [_all_at_once(x, *(part[None] for part in head)) for head in zip(*maps, strict=True)]
    return torch.stack(changes).sum(0)


def _all_at_once(x: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    scores = (x @ W_Q) @ (x @ W_K).mT / W_Q.shape[-1] ** 0.5
    return (scores.softmax(-1) @ (x @ W_V) @ W_O).sum(0)


def _seconds(way, *given: Tensor) -> float:
    started = time.perf_counter()
    way(*given)
    return time.perf_counter() - started


@torch.inference_mode()
def pattern(tokens: int, d_head: int, seed: int) -> tuple[int, float]:
    """Bytes of the weights of one head over a text, and the seconds that they take."""
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(tokens, d_head, generator=generator) for _ in range(2))
    started = time.perf_counter()
    weights = (query @ key.T / d_head**0.5).softmax(-1)
    return weights.nbytes, time.perf_counter() - started
