"""Attention to columns against the patterns themselves, and where it was planted."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lenses.addition.attention import column_mass, staircase
from lenses.addition.contrasts import Cell, contrast
from models import load
from models.planted.carry import planted_carry
from prompts.additions import Addition


@torch.no_grad()
def test_mass_is_the_patterns_own():
    model = load("adder_6d_2l")
    style = model.card.arithmetic
    tokens = style.write(Addition(6, 5, 0).sums).tokens
    query = np.array([15, 16, 17, 18, 20])
    keys = np.random.default_rng(0).integers(0, 15, (3, 5, 2))
    found = column_mass(model, tokens, query, keys, 2)
    _, cache = model.run_with_cache(torch.from_numpy(tokens))
    for row in range(5):
        for layer in range(2):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][row].numpy()
            for column in range(3):
                expected = pattern[:, query[row], keys[column, row]].sum(-1)
                np.testing.assert_allclose(found[row, layer, :, column], expected, atol=1e-5)


@pytest.mark.parametrize("place", [1, 2])
def test_the_planted_heads_make_a_staircase(place):
    planted = planted_carry(places=3, seed=0)
    model = planted.model
    found = contrast(model.card.arithmetic, Cell("local", place - 1, 0, "same"), 30, 0)
    table = staircase(model, found, 0, 64).set_index(["layer", "head", "column"])
    assert table.loc[(*planted.base, place), "mass"] > 0.99
    (carry,) = planted.heads[place]
    masses = [table.loc[(*carry, column), "mass"] for column in range(3)]
    # Weights fall tenfold from the column just below the place downwards.
    below = masses[:place][::-1]
    assert all(one > 5 * other for one, other in pairwise(below))
    assert below[0] > 5 * max(masses[place:])
    # Which columns the two look at does not depend on the digits.
    for head in (planted.base, carry):
        assert table.loc[head, "carry_difference"].abs().max() < 1e-5


def test_pairs_without_a_carry_have_no_difference():
    model = load("adder_6d_1l")
    found = contrast(model.card.arithmetic, Cell("base", 0, 0, "same"), 24, 0)
    table = staircase(model, found, 0, 64)
    assert table["carry_difference"].isna().all()
    assert table["mass"].notna().all()
