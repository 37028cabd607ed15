"""Removal of heads against weights that are set to zero."""

import pytest
import torch

from lenses.patching import without_heads
from models import load

SUMS = ["000128+000719=0000847", "999999+000001=1000000"]


@pytest.fixture
def adder():
    return load("adder_6d_2l")


def test_zero_in_z_is_zero_in_the_output_weights(adder):
    tokens = adder.to_tokens(SUMS)
    found = without_heads(adder, tokens, [(0, 1), (1, 0), (1, 2)])
    with torch.no_grad():
        for layer, head in [(0, 1), (1, 0), (1, 2)]:
            adder.blocks[layer].attn.W_O[head] = 0
    sliced = adder(tokens)
    if not torch.allclose(sliced, found.logits, atol=1e-4):  # W_O may be a view or a copy
        pytest.fail("slicing W_O and zeroing z differ")


def test_without_any_heads_it_is_the_models_own_prediction(adder):
    tokens = adder.to_tokens(SUMS)
    found = without_heads(adder, tokens)
    logits = adder(tokens)
    expected = -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    assert torch.equal(found.logits, logits)
    assert torch.allclose(found.losses, expected, atol=1e-5)


def test_the_mean_stands_in_at_each_position(adder):
    tokens = adder.to_tokens(SUMS)
    found = without_heads(adder, tokens, [(0, 1)], instead="mean")
    one = without_heads(adder, tokens[:1], [(0, 1)], instead="mean")
    assert torch.allclose(one.logits, adder(tokens[:1]), atol=1e-5)  # a mean of one is itself
    assert not torch.allclose(found.logits, adder(tokens), atol=1e-3)
