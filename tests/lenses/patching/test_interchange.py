"""Interchanges in one batch against one patched run at a time, and against what must follow."""

import numpy as np
import pytest
import torch

from lenses.patching.interchange import Reading, Site, activations, interchange, untouched
from models import load
from models.passes import reading
from prompts.additions import Addition

ROWS = 5
SITES = [
    Site("a", heads=((0, 2),)),
    Site("b", heads=((0, 1), (1, 3), (1, 0))),
    Site("c", mlps=(0,)),
    Site("d", resid=(0,)),
    Site("e", heads=((1, 1),), mlps=(0, 1)),
    Site("f", resid=(1,)),
]
NAMES = {"heads": "attn.hook_z", "mlps": "hook_mlp_out", "resid": "hook_resid_post"}


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def case(adder):
    style = adder.card.arithmetic
    clean, source = (style.write(Addition(6, ROWS, seed).sums) for seed in (0, 1))
    tokens = style.digit_ids[np.stack([np.arange(ROWS), np.arange(ROWS) + 3], 1)]
    return clean.tokens, source.tokens, Reading(clean.at - 1, 2, tokens)


def positions(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(5, 21, (len(SITES), ROWS))


def patched_one_by_one(model, clean, source, site, pos):
    """Logits of one prompt after replacing one site's activations with plain hooks."""
    names = [f"blocks.{layer}.{name}" for layer in range(2) for name in NAMES.values()]
    _, cache = model.run_with_cache(source[None], names_filter=names)

    def hook(name, heads):
        def put(act, hook):
            act = act.clone()
            if heads is None:
                act[0, pos] = cache[name][0, pos]
            else:
                act[0, pos, heads] = cache[name][0, pos, heads]
            return act

        return name, put

    hooks = [hook(f"blocks.{layer}.attn.hook_z", [head]) for layer, head in site.heads]
    hooks += [hook(f"blocks.{layer}.hook_mlp_out", None) for layer in site.mlps]
    hooks += [hook(f"blocks.{layer}.hook_resid_post", None) for layer in site.resid]
    return model.run_with_hooks(clean[None], fwd_hooks=hooks)[0]


@torch.no_grad()
def test_many_sites_in_one_batch_are_as_one_at_a_time(adder, case):
    clean, source, read = case
    at = positions(np.random.default_rng(0))
    said = interchange(adder, clean, activations(adder, source, 2), SITES, at, read, 7)
    clean, source = torch.from_numpy(clean), torch.from_numpy(source)
    for i, site in enumerate(SITES):
        for row in range(ROWS):
            logits = patched_one_by_one(adder, clean[row], source[row], site, at[i, row])
            logits = logits[read.at[row]]
            assert (said.token[i, row] == logits.argmax(-1).numpy()).all()
            first, second = logits[read.compared, read.tokens[row]]
            assert said.margin[i, row] == pytest.approx(float(second - first), abs=1e-4)


def test_the_size_of_batches_changes_nothing(adder, case):
    clean, source, read = case
    at, acts = positions(np.random.default_rng(1)), activations(adder, source, 3)
    one, other = (interchange(adder, clean, acts, SITES, at, read, size) for size in (1, 64))
    assert (one.token == other.token).all()
    np.testing.assert_allclose(one.margin, other.margin, atol=1e-4)


def test_ones_own_activations_change_nothing(adder, case):
    clean, _, read = case
    at = positions(np.random.default_rng(2))
    said = interchange(adder, clean, activations(adder, clean, 8), SITES, at, read, 64)
    plain = untouched(adder, clean, read, 64)
    assert (said.token == plain.token).all()
    np.testing.assert_allclose(said.margin - plain.margin, 0, atol=1e-4)


def test_the_last_residual_stream_is_all_there_is_to_say(adder, case):
    clean, source, read = case
    at = read.at[None, :, read.compared]
    acts = activations(adder, source, 8)
    said = interchange(adder, clean, acts, [Site("x", resid=(1,))], at, read, 64)
    theirs = untouched(adder, source, read, 64)
    assert (said.token[0, :, 2] == theirs.token[0, :, 2]).all()
    np.testing.assert_allclose(said.margin, theirs.margin, atol=1e-4)


def test_a_site_tells_nothing_to_what_was_said_before_it(adder, case):
    clean, source, read = case
    late = np.full((1, ROWS), 18)
    acts = activations(adder, source, 8)
    said = interchange(adder, clean, acts, [Site("x", resid=(0,))], late, read, 64)
    before = read.at < 18
    assert (said.token[0] == untouched(adder, clean, read, 64).token[0])[before].all()
    assert before.sum() == 4 * ROWS


@torch.no_grad()
def test_logits_are_read_where_they_are_asked_for(adder, case):
    clean, _, read = case
    tokens, at = torch.from_numpy(clean), torch.from_numpy(read.at)
    whole = adder(tokens)
    with reading(adder, at):
        some = adder(tokens)
    expected = whole[torch.arange(ROWS)[:, None], at]
    torch.testing.assert_close(some, expected, atol=1e-5, rtol=1e-5)
    assert adder(tokens).shape == whole.shape
