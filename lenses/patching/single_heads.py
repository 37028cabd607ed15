"""What the model says once a head is taken away: the truth that measures are scored against.

A head's z is replaced at every pos of one text: by zero, by its mean over other texts at the same
pos, or by another text's z (SCIENCE 2). All heads of a layer are rows of one batch; the blocks
before are computed once and the pass is taken up at the layer. Rows of logits are made and read in
parts, so that memory does not grow with the number of heads.

As a null, what the removal changes in the residual stream is turned in a random direction: every
pos keeps the length of its change, and two pos the angle between theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.passes import run_from

MODES = ("zero", "mean", "resample")
"""What a head's z becomes."""

OUTCOMES = ("delta_nll", "kl", "delta_logit")
"""Change of the negative log-likelihood of the true next token, in nats; KL(clean, changed) of the
distribution over it, in nats; change of the true token's logit less that of its best rival."""

LOGITS = 2**25
"""Logits held at a time: 128 MB in float32."""


@dataclass(frozen=True)
class Clean:
    """One text as the model reads it: pos i predicts token i + 1, so the last is not read."""

    z: Float[Tensor, "layer pos head d_head"]
    resid_pre: Float[Tensor, "layer pos d_model"]
    logits: Float[Tensor, "pos vocab"]
    true: Int[Tensor, "pos"]
    """The next token; 0 where it is one that the model cannot say."""
    rival: Int[Tensor, "pos"]
    """The likeliest next token but the true one."""
    sayable: Bool[Tensor, "pos"]
    """Where the next token is one that the model can say."""

    @classmethod
    def of(cls, z: Tensor, resid_pre: Tensor, logits: Tensor, following: Tensor) -> "Clean":
        """From what was read at each pos, and the token that follows it."""
        sayable = following < logits.shape[-1]
        true = torch.where(sayable, following, 0)
        rival = logits.scatter(-1, true[:, None], -torch.inf).argmax(dim=-1)
        return cls(z, resid_pre, logits, true, rival, sayable)

    @cached_property
    def p(self) -> Float[Tensor, "pos vocab"]:
        """Chances of the next token, which sum to 1 also after rounding."""
        p = self.logits.softmax(dim=-1)
        return p / p.sum(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Replacement:
    """What a text's z is replaced by, from other texts."""

    mean: Float[Tensor, "layer pos head d_head"]
    other: Float[Tensor, "layer pos head d_head"]

    def of(self, mode: str) -> Float[Tensor, "layer pos head d_head"]:
        """What z becomes in one of MODES."""
        return {"zero": torch.zeros_like(self.mean), "mean": self.mean, "resample": self.other}[
            mode
        ]


@torch.inference_mode()
def read_clean(model: Model, tokens: Int[Tensor, "pos_and_one"]) -> Clean:
    """One text as it is, in one pass; it takes at least two tokens."""
    names = ("attn.hook_z", "hook_resid_pre")
    layers = range(model.cfg.n_layers)
    wanted = {name: [f"blocks.{layer}.{name}" for layer in layers] for name in names}
    logits, cache = model.run_with_cache(
        tokens[None, :-1], names_filter=[hook for hooks in wanted.values() for hook in hooks]
    )
    z, resid = (torch.stack([cache[hook][0] for hook in wanted[name]]) for name in names)
    return Clean.of(z, resid, logits[0].float(), tokens[1:])


def replacements(
    texts: Sequence[Float[Tensor, "layer pos head d_head"]],
) -> list[Replacement]:
    """For each text's z, the mean over all other texts and the z of one other, the next in order.

    Where no other text is as long, the last pos that one reaches stands for those beyond.
    Raises ValueError for a single text, which has no others.
    """
    if len(texts) < 2:
        raise ValueError("mean and resample ablation take two texts at least")
    longest = max(z.shape[1] for z in texts)
    total = torch.zeros_like(texts[0][:, :1], dtype=torch.float32).repeat(1, longest, 1, 1)
    count = torch.zeros(longest, device=total.device)
    for z in texts:
        total[:, : z.shape[1]] += z
        count[: z.shape[1]] += 1
    found = []
    for own, following in zip(texts, [*texts[1:], texts[0]], strict=True):
        others = count.clone()
        others[: own.shape[1]] -= 1
        pos = torch.arange(own.shape[1], device=total.device)
        reached = pos.clamp(max=max(z.shape[1] for z in texts if z is not own) - 1)
        rest = total[:, reached] - own[:, reached]
        mean = rest / others[reached][:, None, None]
        found.append(Replacement(mean, following[:, pos.clamp(max=following.shape[1] - 1)]))
    return found


@torch.inference_mode()
def removal_effects(
    model: Model,
    clean: Clean,
    replacement: Replacement,
    modes: Sequence[str] = MODES,
    turn: Float[Tensor, "d_model d_model"] | None = None,
) -> Float[Tensor, "kind mode layer head outcome pos"]:
    """What removing each head alone changes, by mode and OUTCOMES.

    With a `turn` (see `random_turn`) there are two kinds: the change as it is, and the same turned;
    without, one. A pos whose next token cannot be said has a KL only, else NaN.
    """
    layers, heads = clean.z.shape[0], clean.z.shape[2]
    head = torch.arange(heads, device=clean.z.device).repeat(len(modes))
    found = []
    for layer in range(layers):
        values = [replacement.of(mode)[layer].transpose(0, 1) for mode in modes]
        rows = _effects(model, clean, layer, head, torch.cat(values), turn)
        found.append(rows.unflatten(1, (len(modes), heads)))
    return torch.stack(found, dim=2)


@torch.inference_mode()
def gate_effects(
    model: Model, clean: Clean, heads: Sequence[tuple[int, int]], gates: Float[Tensor, "gate"]
) -> Float[Tensor, "head gate outcome pos"]:
    """What changes where the z of one (layer, head) is multiplied by a gate: 0 removes, 1 keeps."""
    found = []
    for layer, head in heads:
        scaled = clean.z[layer, :, head] * gates.to(clean.z)[:, None, None]
        number = torch.full((len(gates),), head, device=clean.z.device)
        found.append(_effects(model, clean, layer, number, scaled, None)[0])
    return torch.stack(found)


def random_turn(d_model: int, generator: torch.Generator) -> Float[Tensor, "d_model d_model"]:
    """A rotation (or reflection) drawn uniformly: the Q of a Gaussian matrix, signs made definite.

    (Stewart 1980; Mezzadri 2007, section 5.)
    """
    q, r = torch.linalg.qr(torch.randn(d_model, d_model, generator=generator))
    return q * r.diagonal().sign()


def _effects(
    model: Model,
    clean: Clean,
    layer: int,
    head: Int[Tensor, "row"],
    value: Float[Tensor, "row pos d_head"],
    turn: Float[Tensor, "d_model d_model"] | None,
) -> Float[Tensor, "kind row outcome pos"]:
    """What each row changes, in which z of one head of a layer becomes a value."""
    kinds = 1 if turn is None else 2
    size = max(1, LOGITS // (kinds * clean.logits.numel()))
    parts = []
    for some, values in zip(head.split(size), value.split(size), strict=True):
        change = _Change(some, values, turn)
        resid = clean.resid_pre[layer].expand(kinds * len(some), -1, -1)
        logits = run_from(model, layer, resid.contiguous(), change.hooks(layer))
        parts.append(_outcomes(logits, clean).unflatten(0, (kinds, len(some))))
    return torch.cat(parts, dim=1)


class _Change:
    """What happens to each row of a batch at the layer where the pass is taken up.

    No dataclass: TransformerLens writes out each hook's owner, which would print every number.
    """

    def __init__(self, head: Tensor, value: Tensor, turn: Tensor | None) -> None:
        self.head, self.value, self.turn = head, value, turn

    def hooks(self, layer: int) -> list[tuple[str, Callable[..., Tensor]]]:
        """Replace z; then, with a turn, turn what that changed in the second half of the rows."""
        hooks = [(f"blocks.{layer}.attn.hook_z", self._replace)]
        if self.turn is not None:
            hooks.append((f"blocks.{layer}.hook_attn_out", self._turned))
        return hooks

    def _replace(self, z: Tensor, hook: object) -> Tensor:
        z = z.clone()
        rows = torch.arange(len(self.head), device=z.device)
        z[rows, :, self.head] = self.value.to(z)
        return z

    def _turned(self, out: Tensor, hook: object) -> Tensor:
        changed, own = out.chunk(2)
        return torch.cat([changed, own + (changed - own) @ self.turn.to(own)])


def _outcomes(
    logits: Float[Tensor, "row pos vocab"], clean: Clean
) -> Float[Tensor, "row outcome pos"]:
    """The three OUTCOMES of rows of logits, which are overwritten: they are most of the memory."""
    change = centred_change(logits, clean)
    true, rival = _both(change, clean)
    expected, whole = expected_change(change, clean), log_sum_change(change, clean)
    undefined = torch.where(clean.sayable, 0, torch.nan)
    delta_nll, kl, delta_logit = whole - true, whole - expected, true - rival
    return torch.stack([delta_nll + undefined, kl.clamp(min=0), delta_logit + undefined], dim=1)


def centred_change(
    logits: Float[Tensor, "row pos vocab"], clean: Clean
) -> Float[Tensor, "row pos vocab"]:
    """By how much more a logit changes than all do on average; `logits` are overwritten."""
    change = logits.float().sub_(clean.logits)
    return change.sub_(change.mean(dim=-1, keepdim=True))


def expected_change(
    change: Float[Tensor, "row pos vocab"], clean: Clean
) -> Float[Tensor, "row pos"]:
    """sum p d. Summed pairwise, row by row: a matrix product is off by up to 1e-3 nats here."""
    return torch.stack([(row * clean.p).sum(dim=-1) for row in change])


def log_sum_change(
    change: Float[Tensor, "row pos vocab"], clean: Clean
) -> Float[Tensor, "row pos"]:
    """log sum p e^d, in which nothing cancels as in the difference of two log-sums.

    `change` is overwritten.
    """
    peak = change.amax(dim=-1)
    scaled = change.sub_(peak[..., None]).exp_()
    return expected_change(scaled, clean).log() + peak


def _both(
    values: Float[Tensor, "row pos vocab"], clean: Clean
) -> tuple[Float[Tensor, "row pos"], Float[Tensor, "row pos"]]:
    """The values of the true token and of its rival."""
    rows = len(values)
    true, rival = (
        values.gather(-1, ids.expand(rows, -1)[..., None])[..., 0]
        for ids in (clean.true, clean.rival)
    )
    return true, rival
