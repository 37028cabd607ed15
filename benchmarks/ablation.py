"""Every head removed in three ways against one hook and one whole pass at a time.

The naive way is timed on some heads of every kind, drawn at random, and multiplied.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.head_measures import SHAPE, plain_model
from benchmarks.paired import PAIRS, median, ratio, seconds
from lenses.patching.single_heads import (
    MODES,
    Replacement,
    read_clean,
    removal_effects,
    replacements,
)
from models import Model, load
from models.hooked import hook_model

SAMPLED = 12
"""Heads and ways that the naive way is timed on."""
EQUAL = 1e-3
"""Nats between the two, at most, of the losses of all tokens together."""


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What, found, against, aim."""
    wide = hook_model(plain_model(), folded=False)
    wide.blueprint = SHAPE
    for what, model, size, pairs, aim in (
        ("2-layer adder, 21 tokens", load("adder_6d_2l"), 22, PAIRS, "7.9x kept"),
        ("SmolLM2's shape, 19 tokens, 2 pairs", wide, 20, 2, "4.3x kept"),
    ):
        yield _row(f"every head removed in 3 ways, {what}", model, size, pairs, aim)


def _row(what: str, model: Model, size: int, pairs: int, aim: str) -> tuple[str, str, str, str]:
    """One comparison; raises where the two do not agree."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randint(0, len(model.W_E), (2, size), generator=generator)
    cleans = [read_clean(model, tokens) for tokens in texts]
    replacement = replacements([clean.z for clean in cleans])[0]
    layers, _, heads, _ = cleans[0].z.shape
    every = [
        (mode, layer, head) for mode in MODES for layer in range(layers) for head in range(heads)
    ]
    some = [every[i] for i in np.random.default_rng(0).choice(len(every), SAMPLED, replace=False)]
    own = _own(model, cleans[0], replacement)
    naive = _naive(model, texts[0], replacement, some)
    effects = own()[0]
    apart = max(
        abs(effects[MODES.index(mode), layer, head, 0].sum().item() - loss)
        for (mode, layer, head), loss in zip(some, naive(), strict=True)
    )
    if apart > EQUAL:
        raise SystemExit(f"{what}: losses lie {apart:.1g} nats apart")
    found = seconds({"own": own, "naive": naive}, pairs)
    times = ratio(found, "naive", "own") * len(every) / SAMPLED
    against = f"a pass each, {median(found['naive']) * len(every) / SAMPLED:.2f} s"
    return what, f"{times:.1f}x faster", against, aim


def _own(model: Model, clean, replacement: Replacement) -> Callable[[], torch.Tensor]:
    return lambda: removal_effects(model, clean, replacement)


def _naive(
    model: Model, tokens: torch.Tensor, replacement: Replacement, some: list[tuple[str, int, int]]
) -> Callable[[], list[float]]:
    """By how much the loss of all tokens rises without each (way, layer, head)."""

    def loss(hooks: list) -> float:
        """Of all tokens together, in nats."""
        logits = model.run_with_hooks(tokens[None, :-1], fwd_hooks=hooks, return_type="logits")[0]
        return cross_entropy(logits, tokens[1:], reduction="sum").item()

    @torch.inference_mode()
    def act() -> list[float]:
        """A pass for each, one after another."""
        found = []
        for mode, layer, head in some:
            value = replacement.of(mode)[layer, :, head]

            def put(z, hook, head=head, value=value):
                """One head's z replaced at every pos."""
                z = z.clone()
                z[0, :, head] = value
                return z

            found.append(loss([(f"blocks.{layer}.attn.hook_z", put)]) - clean)
        return found

    with torch.inference_mode():
        clean = loss([])
    return act
