"""Exact interchange of heads against TransformerLens' `get_act_patch_attn_head_out_by_pos`.

The same margins for the same pairs: a head's z at one token is replaced by that of another prompt.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from transformer_lens.patching import generic_activation_patch, layer_pos_head_vector_patch_setter

from benchmarks.head_measures import SHAPE, plain_model
from benchmarks.paired import median, ratio, seconds
from lenses.patching.interchange import Reading, Site, activations, interchange
from models import load
from models.hooked import hook_model
from prompts.additions import Addition

AT_ONCE = 256
EQUAL = 1e-4
SAMPLED = 40
"""Sites of the larger model: enough that reading the pairs once is a small part, as of all."""


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What, found, against, aim."""
    model = load("adder_6d_2l")
    style = model.card.arithmetic
    clean, source = (style.write(Addition(6, 16, seed).sums) for seed in (0, 1))
    pairs = clean.tokens[:, :-1], source.tokens[:, :-1]
    every = np.array([(x, p, h) for x in range(2) for p in range(21) for h in range(4)])
    for what, at, place in (
        ("one digit read", clean.at[:, 2:3] - 1, 0), ("all seven digits read", clean.at - 1, 2),
    ):  # fmt: skip
        digits = style.digit_ids[np.stack([np.arange(16) % 10, (np.arange(16) + 3) % 10], 1)]
        read = Reading(at, place, digits)
        told = f"interchange of every (layer, head, pos), 2-layer adder, 16 pairs, {what}"
        yield _row(told, model, pairs, every, read, ">= 15x")
    rng = np.random.default_rng(0)
    wide, texts = hook_model(plain_model(), folded=False), rng.integers(0, 40_000, (2, 4, 19))
    wide.blueprint = SHAPE
    some = np.stack([rng.integers(0, most, SAMPLED) for most in (30, 19, 9)], axis=1)
    read = Reading(np.full((4, 1), 18), 0, rng.integers(0, 40_000, (4, 2)))
    told = f"{SAMPLED} random (layer, head, pos), SmolLM2's shape of 30 layers, 4 pairs"
    yield _row(told, wide, tuple(texts), some, read, ">= 2.5x")


def _row(
    what: str, model, pairs: tuple[np.ndarray, np.ndarray], sites: np.ndarray, read: Reading,
    aim: str,
) -> tuple[str, str, str, str]:  # fmt: skip
    """One comparison; raises where the two do not agree."""
    acts = {"own": _own(model, pairs, sites, read), "theirs": _theirs(model, pairs, sites, read)}
    apart = np.abs(acts["own"]() - acts["theirs"]()).max()
    if apart > EQUAL:
        raise SystemExit(f"{what}: margins lie {apart:.1g} apart")
    found = seconds(acts)
    against = f"TransformerLens, {median(found['theirs']):.2f} s; margins {apart:.0e} apart"
    return what, f"{ratio(found, 'theirs', 'own'):.1f}x faster", against, aim


def _own(model, pairs, sites, read) -> Callable[[], np.ndarray]:
    named = [Site(str(pos), heads=((layer, head),)) for layer, pos, head in sites.tolist()]
    at = np.repeat(sites[:, 1:2], len(pairs[0]), axis=1)

    def act() -> np.ndarray:
        source = activations(model, pairs[1], AT_ONCE)
        said = interchange(model, pairs[0], source, named, at, read, AT_ONCE)
        return said.margin.mean(axis=1)

    return act


def _theirs(model, pairs, sites, read) -> Callable[[], np.ndarray]:
    clean, source = (torch.from_numpy(tokens) for tokens in pairs)
    row, pair = torch.arange(len(clean)), torch.from_numpy(np.ascontiguousarray(read.tokens))
    at = torch.from_numpy(np.ascontiguousarray(read.at[:, read.compared]))
    frame = pd.DataFrame(sites, columns=["layer", "pos", "head"])

    def margin(logits: torch.Tensor) -> torch.Tensor:
        two = logits[row, at].gather(1, pair)
        return (two[:, 1] - two[:, 0]).mean()

    @torch.inference_mode()
    def act() -> np.ndarray:
        wanted = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
        _, cache = model.run_with_cache(source, names_filter=wanted)
        found = generic_activation_patch(
            model, clean, cache, margin, layer_pos_head_vector_patch_setter, "z", index_df=frame
        )
        return found.numpy()

    return act
