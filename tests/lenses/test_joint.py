"""Sets of heads: which are tried, which are smallest, and those that were planted."""

import numpy as np
import pytest

from lenses import joint
from lenses.contrasts import Cell, contrast
from lenses.joint import heads_of, joint_sets
from models.planted import planted_carry

HEADS = [(layer, head) for layer in range(2) for head in range(5)]


def flips_if(*enough):
    """A model in which any of these sets is enough."""
    asked = []

    def screened(sets):
        asked.append(len(sets))
        return np.array([float(any(set(need) <= set(s) for need in enough)) for s in sets])

    return screened, asked


def test_smallest_sets_are_found_and_nothing_that_contains_one():
    a, b, c, d = (0, 1), (0, 4), (1, 0), (1, 2)
    screened, asked = flips_if((a,), (b, c), (b, d, c))
    found, how = joint._candidates(HEADS, screened)
    assert found == [(a,), (b, c)]
    assert asked == [10 + 45 + 120]
    assert how == "all 175 sets of up to 3 heads"


def test_a_large_set_is_found_by_elimination():
    need = ((0, 0), (0, 3), (1, 1), (1, 2), (1, 4))
    screened, _ = flips_if(need)
    found, how = joint._candidates(HEADS, screened)
    assert found == [need]
    assert how == "none of 175 sets of up to 3; backward elimination from all 10 heads"


def test_with_too_many_heads_sets_are_not_enumerated():
    many = [(layer, head) for layer in range(30) for head in range(9)]
    need = ((3, 1), (17, 8))
    screened, asked = flips_if(need)
    found, how = joint._candidates(many, screened)
    assert found == [need]
    assert how.startswith("backward elimination from all 270")
    assert sum(asked) < 100


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_planted_heads_are_the_one_smallest_set(shared, seed):
    planted = planted_carry(places=3, shared=shared, seed=seed, heads=4)
    model, style = planted.model, planted.model.card.arithmetic
    local, base = (
        contrast(model, style, Cell(pair, place, 0, "same"), 60, 0, 256)
        for pair, place in (("local", 1), ("base", 2))
    )
    row = joint_sets(model, local, base, 20, 256)
    assert len(row) == 1
    row = row.iloc[0]
    assert heads_of(row["members"]) == planted.heads[2]
    assert row["minimal"]
    assert not row["all_heads"]
    assert (row["flip"], row["n"], row["size"]) == (1, 40, 1 + shared)
    assert row["null_change"] == row["complement_flip"] == row["other_change"] == 0
    assert row["low"] == pytest.approx(0.9124, abs=1e-4)
    row = joint_sets(model, base, local, 20, 256).iloc[0]
    assert heads_of(row["members"]) == (planted.base,)
