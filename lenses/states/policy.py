"""What the inside of a model looks like at each token of a text that follows a prompt (SCIENCE 1).

Kept of a token in a layer are a few numbers (STATISTICS). Lengths of heads' results r and their
products with the sum o come from Gram matrices: norm(r)^2 = z (W_O W_O^T) z^T and
<r, o> = z . (W_O o), so that no result of a head is ever as wide as the residual stream.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import ks_2samp
from torch import Tensor

from lenses.heads.contributions import Written, gram_scalars
from models import Model
from models.parts import AttentionOut, attention_out

STATISTICS = (
    "head_norm",
    "cosine",
    "share_entropy",
    "attention_entropy",
    "sink",
    "attention_on_filler",
    "residual_norm",
)
"""Log of the mean over heads of norm(r); mean of cos(r, o); entropy over heads of norm(r) / sum of
norm(r); mean over heads of the entropy of attention rows, of the attention on the first token and
on the text that follows the prompt; log norm of resid_post. Entropies in nats."""

FEWEST = 4
"""Tokens that every text that follows a prompt must have."""


@dataclass(frozen=True)
class Read:
    """What was read at some tokens of a batch, on the CPU."""

    statistics: Float[np.ndarray, "batch pos statistic layer"]
    """Each of STATISTICS; -inf or NaN where it is undefined (a head that writes nothing)."""
    log_p: Float[Tensor, "batch pos vocab"]
    """Log-probabilities of the token after each."""


@torch.inference_mode()
def read(model: Model, tokens: Int[Tensor, "batch pos"], start: int, first: int) -> Read:
    """One forward pass, read from pos `first` on; the text that follows the prompt is at `start`.

    Log-probabilities begin one token earlier, with that which predicts the token at `first`.
    """
    reading = _Reading(attention_out(model), start, first)
    logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=reading.hooks())
    found = torch.stack(reading.found, dim=-1).double().cpu().numpy()
    return Read(found, logits[:, max(first - 1, 0) :].float().log_softmax(-1).cpu())


class _Reading:
    """A forward pass being read: no dataclass, since TransformerLens writes out hooks' owners."""

    def __init__(self, out: AttentionOut, start: int, first: int) -> None:
        self.out, self.start, self.first = out, start, first
        self.found: list[Tensor] = []  # per layer [batch pos statistic]

    def hooks(self) -> list[tuple[str, Callable[..., None]]]:
        """What to do at each hook, block by block."""
        at = {
            "attn.hook_pattern": self._at_pattern,
            "attn.hook_z": self._at_z,
            "hook_resid_post": self._at_resid_post,
        }
        return [
            (f"blocks.{layer}.{name}", partial(do, layer))
            for layer in range(len(self.out.W_O))
            for name, do in at.items()
        ]

    def _at_pattern(self, layer: int, pattern: Tensor, hook: object) -> None:
        rows = pattern[:, :, self.first :].float()
        each = [torch.special.entr(rows).sum(-1), rows[..., 0], rows[..., self.start :].sum(-1)]
        self.attention = [x.mean(dim=1) for x in each]

    def _at_z(self, layer: int, z: Tensor, hook: object) -> None:
        self.heads = head_scalars(Written.of(z[:, self.first :], self.out, layer))

    def _at_resid_post(self, layer: int, resid: Tensor, hook: object) -> None:
        length = resid[:, self.first :].float().norm(dim=-1).log()
        parts = [*self.heads, *self.attention, length]
        self.found.append(torch.stack([part.float() for part in parts], dim=-1))


def head_scalars(written: Written) -> list[Float[Tensor, "batch pos"]]:
    """The first three of STATISTICS, of one layer."""
    found = gram_scalars(written)
    entropy = torch.special.entr(found["norm_share"]).sum(-1)
    return [found["l2_norm"].mean(-1).log(), found["cosine"].mean(-1), entropy]


@dataclass(frozen=True)
class Generated:
    """Text written token by token, each state read in the pass that was run for it."""

    tokens: list[int]
    read: Read
    """Of one text; each token in the pass in which it was the last, and what that pass predicts."""


def generate(
    model: Model,
    prompt: list[int],
    new_tokens: int,
    ends: Collection[int],
    seed: int | None = None,
) -> Generated:
    """The likeliest token after all before it, `new_tokens` times or up to an end token.

    With a seed, tokens are sampled (temperature 1) instead. Every token costs a pass over all
    before it. The end token is left out.
    """
    ids, passes = list(prompt), []
    luck = None if seed is None else torch.Generator().manual_seed(seed)
    for _ in range(new_tokens + 1):
        row = torch.tensor([ids], device=model.cfg.device)
        passes.append(read(model, row, len(prompt), len(ids) - 1))
        log_p = passes[-1].log_p[0, -1]
        chosen = log_p.argmax() if luck is None else log_p.exp().multinomial(1, generator=luck)
        token = int(chosen)
        if token in ends or len(ids) == len(prompt) + new_tokens:
            break
        ids.append(token)
    statistics = np.concatenate([p.statistics for p in passes], axis=1)[:, 1:]
    log_p = torch.cat([p.log_p[:, -1:] for p in passes], dim=1)
    return Generated(ids[len(prompt) :], Read(statistics, log_p))


def largest_differences(
    written: Generated, whole: Read
) -> tuple[Float[np.ndarray, "statistic"], float, float]:
    """How far states while writing are from those in one pass over all of the text.

    Of each statistic, as a share of its largest value; of log-probabilities, in nats; and the
    share of written tokens that the one pass finds likeliest too.
    """
    one, other = written.read.statistics[0], whole.statistics[0]
    largest = np.abs(np.stack([one, other])).max(axis=(0, 1, 3), initial=0)
    apart = np.abs(one - other).max(axis=(0, 2), initial=0)
    shares = np.divide(apart, largest, out=np.zeros_like(apart), where=largest > 0)
    nats = (written.read.log_p - whole.log_p).abs().max().item()
    said = whole.log_p[0, :-1].argmax(-1).tolist()
    same = sum(a == b for a, b in zip(said, written.tokens, strict=True))
    return shares, nats, same / max(len(said), 1)


def surprisals(read: Read, tokens: Int[np.ndarray, "batch pos"]) -> Float[np.ndarray, "batch pos"]:
    """-log p of the tokens that were read, in nats; NaN for those that the model cannot say."""
    ids = torch.from_numpy(tokens)
    sayable = ids < read.log_p.shape[-1]
    chosen = torch.where(sayable, ids, 0)[..., None]
    nats = -read.log_p[:, : ids.shape[1]].gather(-1, chosen)[..., 0].double()
    return torch.where(sayable, nats, torch.nan).numpy()


def history(
    surprisal: Float[np.ndarray, "filler pos"],
    tokens: Int[np.ndarray, "filler pos"],
    prompt: list[int],
) -> Float[np.ndarray, "filler pos 2"]:
    """Mean surprisal of the filler's tokens before each (0 for its first); whether it repeats one.

    A repeated token stands in the prompt or earlier in the filler.
    """
    count, known = np.arange(tokens.shape[1]), np.nan_to_num(surprisal)
    before = np.cumsum(known, axis=1) - known
    seen = [
        [token in prompt or token in row[:i] for i, token in enumerate(row)]
        for row in tokens.tolist()
    ]
    return np.stack([before / np.maximum(count, 1), np.array(seen, dtype=float)], axis=-1)


def standardised(
    values: Float[np.ndarray, "prompt filler pos *cell"], known: Bool[np.ndarray, "prompt pos"]
) -> Float[np.ndarray, "prompt filler pos *cell"]:
    """Each cell less its mean over fillers at the same place, in its standard deviations there.

    Unknown tokens are 0; a cell that is undefined somewhere or does not vary is NaN.
    """
    kept = np.broadcast_to(known[:, None], values.shape[:3])
    with np.errstate(invalid="ignore"):
        apart = values - values.mean(axis=1, keepdims=True)
        spread, size = (np.sqrt((part[kept] ** 2).mean(axis=0)) for part in (apart, values))
        varies = np.isfinite(spread) & (spread > 1e-6 * size)
        found = np.where(varies, apart / np.where(varies, spread, 1), np.nan)
    found[~kept] = np.where(varies, 0, np.nan)
    return found


def over_layers(
    values: Float[np.ndarray, "prompt filler pos statistic layer"],
    known: Bool[np.ndarray, "prompt pos"],
) -> Float[np.ndarray, "prompt filler pos statistic"]:
    """Mean over the layers in which a statistic varies, in its own standard deviations."""
    there = ~np.isnan(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return standardised(mean, known)


def overlap(one: Float[np.ndarray, "token"], other: Float[np.ndarray, "token"]) -> float:
    """How far two sets of numbers cover the same range: 1 less the Kolmogorov-Smirnov distance."""
    return float(1 - ks_2samp(one, other, method="asymp").statistic)  # its p is not asked for
