"""z, patterns and results of heads against TransformerLens' own cache."""

import pytest
import torch

from lenses.heads import read
from models import load


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def test_results_and_the_bias_sum_to_what_attention_writes(adder):
    tokens = adder.to_tokens(["000128+000719=", "999999+000001="])
    heads = [(0, head) for head in range(adder.cfg.n_heads)]
    found = read(adder, tokens, heads)
    _, cache = adder.run_with_cache(tokens)
    whole = sum(found.result.values()) + adder.blocks[0].attn.b_O
    assert torch.allclose(whole, cache["blocks.0.hook_attn_out"], atol=1e-5)
    assert torch.equal(found.z[:, 0], cache["blocks.0.attn.hook_z"])
    assert torch.equal(found.pattern[:, 0], cache["blocks.0.attn.hook_pattern"])


def test_only_results_asked_for_are_made(adder):
    found = read(adder, adder.to_tokens("000128+000719="), [(0, 2)])
    assert list(found.result) == [(0, 2)]
    expected = found.z[:, 0, :, 2] @ adder.W_O[0, 2]
    assert torch.allclose(found.result[0, 2], expected, atol=1e-5)
