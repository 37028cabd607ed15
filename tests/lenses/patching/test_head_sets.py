"""Ablation of many sets at once against one run at a time, and against weights that are zero."""

import numpy as np
import pytest
import torch

from lenses.patching.head_sets import MODES, ablated, stand_in
from lenses.patching.interchange import activations
from models import load
from prompts.additions import Addition

ROWS = 6


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def written(adder):
    return adder.card.arithmetic.write(Addition(6, ROWS, 0).sums)


@pytest.fixture(scope="module")
def reference(adder):
    return activations(adder, adder.card.arithmetic.write(Addition(6, 40, 1).sums).tokens, 64).z


@torch.no_grad()
def said_with(adder, tokens, at, mask, instead):
    """One set at a time, by a plain hook."""

    def put(z, hook):
        return torch.where(torch.from_numpy(mask)[None, ..., None], instead, z)

    logits = adder.run_with_hooks(
        torch.from_numpy(tokens), fwd_hooks=[("blocks.0.attn.hook_z", put)]
    )
    return logits.argmax(-1).numpy()[np.arange(len(tokens))[:, None], at]


@pytest.mark.parametrize("mode", MODES)
def test_sets_in_one_batch_are_as_one_at_a_time(mode, adder, written, reference):
    rng = np.random.default_rng(2)
    sets = rng.random((5, 1, written.tokens.shape[1], 4)) < 0.4
    sets[0] = False
    instead = stand_in(mode, reference, np.random.default_rng(3), ROWS)
    at = written.at - 1
    said = ablated(adder, written.tokens, sets, instead, at, 7)
    assert said.shape == (5, *at.shape)
    for one, found in zip(sets, said, strict=True):
        assert (found == said_with(adder, written.tokens, at, one[0], instead[0])).all()


def test_a_set_without_positions_is_ablated_at_all_of_them(adder, written, reference):
    sets = np.array([[[[True, False, True, False]]]])
    everywhere = np.repeat(sets, written.tokens.shape[1], axis=2)
    instead, at = stand_in("mean", reference, np.random.default_rng(0), ROWS), written.at - 1
    one, other = (ablated(adder, written.tokens, s, instead, at, 64) for s in (sets, everywhere))
    assert (one == other).all()
    untouched = ablated(adder, written.tokens, ~everywhere & False, instead, at, 64)
    assert (one != untouched).any()


@torch.no_grad()
def test_zeroed_heads_are_heads_whose_weights_are_zero(written):
    model = load("adder_6d_1l")
    at, heads = written.at - 1, np.array([[[[False, True, True, False]]]])
    instead = [torch.zeros(1, 1, 1, 1)]
    said = ablated(model, written.tokens, heads, instead, at, 64)
    weights = model.blocks[0].attn.o.original_component.weight
    weights[32:96] = 0  # W_O of heads 1 and 2, of 32 dimensions each
    expected = model(torch.from_numpy(written.tokens)).argmax(-1).numpy()
    assert (said[0] == expected[np.arange(ROWS)[:, None], at]).all()


def test_what_stands_in(reference):
    rng = np.random.default_rng(0)
    assert not stand_in("zero", reference, rng, 3)[0].any()
    mean = stand_in("mean", reference, rng, 3)[0]
    torch.testing.assert_close(mean[0], reference[0].mean(0))
    drawn = stand_in("resample", reference, np.random.default_rng(5), 3)[0]
    rows = np.random.default_rng(5).integers(40, size=3)
    torch.testing.assert_close(drawn, reference[0][torch.from_numpy(rows)])
