"""Sets of heads: which are tried, which are smallest, and those that were planted."""

import numpy as np
import pandas as pd
import pytest

from lenses.addition import sets as joint
from lenses.addition.contrasts import Cell
from lenses.addition.exchanges import exchanges
from lenses.addition.sets import heads_of, joint_sets
from models.planted.carry import planted_carry

HEADS = [(layer, head) for layer in range(2) for head in range(5)]


def flips_if(*enough, near=()):
    """A model in which any of these sets is enough, and those that hold a `near` one often are."""
    asked = []

    def screened(sets):
        asked.append(len(sets))
        return np.array([max(holds(s, enough), 0.92 * holds(s, near)) for s in sets])

    def measured(sets):
        flips = [100 * max(holds(s, enough), 0.84 * holds(s, near)) for s in sets]
        return pd.DataFrame({"flips": flips, "n": 100, "null_changes": 0})

    return screened, measured, asked


def holds(members, some):
    return float(any(set(need) <= set(members) for need in some))


def test_smallest_sets_are_found_and_nothing_that_contains_one():
    a, b, c, d = (0, 1), (0, 4), (1, 0), (1, 2)
    screened, measured, asked = flips_if((a,), (b, c), (b, d, c))
    found, counts, how = joint._smallest(HEADS, screened, measured)
    assert found == [(a,), (b, c)]
    assert counts["flips"].tolist() == [100, 100]
    assert asked == [10 + 45 + 120]
    assert how == "all 175 sets of up to 3 heads"


def test_a_head_that_nearly_explains_does_not_hide_a_pair_that_does():
    a, b = (0, 1), (1, 2)
    screened, measured, _ = flips_if((a, b), near=[(a,)])
    found, counts, _ = joint._smallest(HEADS, screened, measured)
    explaining = [m for m, yes in zip(found, joint._explains(counts), strict=True) if yes]
    assert explaining == [(a, b)]
    # The head itself and its other pairs were promising too, and are told with what they reach.
    assert found[0] == (a,)
    assert not any({a, b} < set(members) for members in found)


def test_a_large_set_is_found_by_elimination():
    need = ((0, 0), (0, 3), (1, 1), (1, 2), (1, 4))
    screened, measured, _ = flips_if(need)
    found, _, how = joint._smallest(HEADS, screened, measured)
    assert found == [need]
    assert how == "none of 175 sets of up to 3 heads; backward elimination from all 10 heads"


def test_with_too_many_heads_sets_are_not_enumerated():
    many = [(layer, head) for layer in range(30) for head in range(9)]
    need = ((3, 1), (17, 8))
    screened, measured, asked = flips_if(need)
    found, _, how = joint._smallest(many, screened, measured)
    assert found == [need]
    assert how.startswith("backward elimination from all 270")
    assert sum(asked) < 100


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_planted_heads_are_the_one_smallest_set(shared, seed):
    planted = planted_carry(places=3, shared=shared, seed=seed, heads=4)
    model, style = planted.model, planted.model.card.arithmetic
    local, base = (
        exchanges(model, style, Cell(pair, place, 0, "same"), 60, 0, 256, alone=True)
        for pair, place in (("local", 1), ("base", 2))
    )
    row = joint_sets(model, local, base, 20)
    assert len(row) == 1
    row = row.iloc[0]
    assert heads_of(row["members"]) == planted.heads[2]
    assert row["minimal"]
    assert not row["all_heads"]
    assert (row["flip"], row["n"], row["size"]) == (1, 40, 1 + shared)
    assert row["null_change"] == row["complement_flip"] == row["other_change"] == 0
    assert row["low"] == pytest.approx(0.9124, abs=1e-4)
    row = joint_sets(model, base, local, 20).iloc[0]
    assert heads_of(row["members"]) == (planted.base,)
