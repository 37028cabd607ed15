"""What an answer loses when it cannot use a token of its prompt (SCIENCE 3).

An answer is the text a model has generated: its log-probability is read at the positions from
which it was generated, with one thing changed. Everything here is about one text at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models import Model
from models.parts import sinks
from models.passes import Hooks, reading

AT_ONCE = 16
"""Changed copies of a text in one forward pass: fixed, so that no number depends on how the work
is cut."""


@dataclass(frozen=True)
class Answer:
    """How a model takes the tokens it had generated, one row a token, on the CPU."""

    log_probability: Float[Tensor, "batch row"]
    """Of each generated token after those before it, in nats."""
    likeliest: Int[Tensor, "batch row"]
    """The token that would have been said instead."""


@torch.inference_mode()
def answered(
    model: Model, tokens: Int[Tensor, "batch pos"], prompt: int, hooks: Hooks | None = None
) -> Answer:
    """The log-probability of what stands after the first `prompt` tokens of each text.

    Logits are computed at the rows that are read and nowhere else.
    """
    chosen = tokens[:, prompt:]
    at = torch.arange(prompt - 1, tokens.shape[1] - 1, device=tokens.device)
    with reading(model, at.expand(len(tokens), -1)):
        logits = model.run_with_hooks(tokens[:, :-1], fwd_hooks=hooks or []).float()
    nats = logits.gather(-1, chosen[..., None])[..., 0] - logits.logsumexp(-1)
    return Answer(nats.double().cpu(), logits.argmax(-1).cpu())


def edge_drops(
    model: Model, tokens: Int[Tensor, "pos"], prompt: int
) -> Float[Tensor, "row {prompt}"]:
    """What each generated token loses in log-probability when a prompt token is not attended to.

    In every layer and head the attention to that token is set to zero for later positions, and
    what is left of each row grows (`without`); the token still sees itself. The last prompt token
    is itself the first row that is read, so for it only what the rows after that lose is seen.
    """
    has_sinks = sinks(model.blocks) is not None
    blocks = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]

    def hooks(which: Int[Tensor, "batch"]) -> Hooks:
        return [(name, partial(_without, which, has_sinks)) for name in blocks]

    return _drops(model, tokens, prompt, hooks)


def _without(
    which: Int[Tensor, "batch"],
    has_sinks: bool,
    pattern: Float[Tensor, "batch head query key"],
    hook: object,
) -> Float[Tensor, "batch head query key"]:
    """Patterns in which no later position attends to token `which` of its row of the batch."""
    pos = torch.arange(pattern.shape[-1], device=pattern.device)
    is_key = pos == which[:, None]
    is_later = pos > which[:, None]
    return without(pattern, is_later[:, None, :, None] & is_key[:, None, None, :], has_sinks)


def without(
    pattern: Float[Tensor, "*batch query key"],
    gone: Bool[Tensor, "*#batch #query key"],
    has_sinks: bool,
) -> Float[Tensor, "*batch query key"]:
    """Attention with some edges cut: what is left of each row grows as if the softmax knew.

    It sums to 1 again, or is zero if nothing is left; a learned sink, which takes what a row lacks
    of 1, grows with it.
    """
    kept = pattern.masked_fill(gone, 0)
    total = kept.sum(-1, keepdim=True)
    if has_sinks:
        total = total + (1 - pattern.sum(-1, keepdim=True)).clamp(min=0)
    return torch.where(total > 0, kept / total, 0)


def embedding_drops(
    model: Model, tokens: Int[Tensor, "pos"], prompt: int, instead: Float[Tensor, "d_model"]
) -> Float[Tensor, "row {prompt}"]:
    """The same when a token's embedding is replaced by `instead` (a model's position stays)."""

    def hooks(which: Int[Tensor, "batch"]) -> Hooks:
        return [("hook_embed", partial(_replaced, which, instead))]

    return _drops(model, tokens, prompt, hooks)


def _replaced(
    which: Int[Tensor, "batch"],
    instead: Float[Tensor, "d_model"],
    embed: Float[Tensor, "batch pos d_model"],
    hook: object,
) -> Float[Tensor, "batch pos d_model"]:
    is_gone = torch.arange(embed.shape[1], device=embed.device) == which[:, None]
    return torch.where(is_gone[..., None], instead.to(embed), embed)


def _drops(model: Model, tokens: Int[Tensor, "pos"], prompt: int, hooks) -> Float[Tensor, "row n"]:
    """Log-probability as it is less that with each prompt token changed, in chunks."""
    plain = answered(model, tokens[None], prompt).log_probability
    changed = [
        answered(model, tokens.expand(len(which), -1), prompt, hooks(which)).log_probability
        for which in torch.arange(prompt, device=tokens.device).split(AT_ONCE)
    ]
    return (plain - torch.cat(changed)).mT


@torch.inference_mode()
def mean_embedding(model: Model) -> Float[Tensor, "d_model"]:
    """The mean over the vocabulary of what a token becomes at `hook_embed`."""
    ids = torch.arange(model.cfg.d_vocab, device=model.W_E.device)
    parts = [model.embed(part[None])[0].double().sum(0) for part in ids.split(2**14)]
    return (torch.stack(parts).sum(0) / len(ids)).float()


def shortened(
    model: Model, tokens: Int[Tensor, "pos"], prompt: int, dropped: Sequence[Sequence[int]]
) -> Answer:
    """The answer after prompts from which tokens are dropped, as many from each.

    The rest moves up: a shortened prompt is a prompt.
    """
    kept = torch.ones(len(dropped), len(tokens), dtype=torch.bool)
    for row, gone in zip(kept, dropped, strict=True):
        row[list(gone)] = False
    texts = tokens[kept.nonzero()[:, 1].view(len(kept), -1).to(tokens.device)]
    parts = [answered(model, part, prompt - len(dropped[0])) for part in texts.split(AT_ONCE)]
    return Answer(
        torch.cat([part.log_probability for part in parts]),
        torch.cat([part.likeliest for part in parts]),
    )
