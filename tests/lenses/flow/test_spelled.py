"""Matrices as rows of a table: each cell with the sum that it comes from."""

import numpy as np
import pytest

from lenses.flow.primer import Maps, attend, random_maps
from lenses.flow.spelled import (
    ABOUT,
    WALKED,
    about_meeting,
    cells,
    meets,
    of_walk,
    one_head,
    product,
    the_maps,
)
from lenses.flow.walkthrough import corrected, embeddings, published

WORDS = ["a", "b", "c"]
X = np.random.default_rng(0).normal(size=(3, 4))
MAPS = random_maps(1, 4, 2, np.random.default_rng(1))


def matrix(table, step):
    part = table[table["step"] == step]
    return part["value"].to_numpy(float).reshape(part["row"].nunique(), -1)


def test_a_sum_is_written_out():
    assert (
        product(np.array([1.0, -0.5]), np.array([2.0, 3.0]))
        == "1.00 × 2.00 + (−0.50) × 3.00 = 0.50"
    )


def test_cells_need_a_name_for_each_row_and_column():
    with pytest.raises(ValueError, match="x: "):
        cells("x", ["a"], 2, np.zeros((2, 2)))


@pytest.mark.parametrize("causal", [False, True])
def test_the_matrices_are_those_of_attention(causal):
    table, own = one_head(WORDS, X, MAPS, causal=causal), attend(X, MAPS, causal=causal)
    wanted = {
        "Words": X, "Queries": own.query[0], "Keys": own.key[0], "Values": own.value[0],
        "Scores": own.scores[0], "Mixed values": own.mixed[0], "Change": own.change[0],
        "Changed words": X + own.change[0],
    }  # fmt: skip
    for step, values in wanted.items():
        assert np.array_equal(matrix(table, step), values), step
    weights = matrix(table, "Weights")
    hidden = np.triu(np.ones((3, 3), dtype=bool), 1) & causal
    assert np.array_equal(np.isnan(weights), hidden)
    assert np.nansum(weights, axis=1) == pytest.approx(1)
    assert set(table["step"]) <= set(ABOUT)
    assert ("Mask" in set(table["step"])) == causal
    assert not table.duplicated(["step", "row", "column"]).any()


def test_a_score_says_which_query_meets_which_key():
    table = one_head(WORDS, X, MAPS, causal=False).set_index(["step", "row", "column"])
    how = table.loc[("Scores", "b", "c"), "how"]
    assert how.startswith("query of “b” · key of “c” = ")
    q, k = X[1] @ MAPS.W_Q[0], X[2] @ MAPS.W_K[0]
    assert product(q, k) in how
    assert "divided by 1.41" in how


def test_cross_attention_has_the_other_words_for_columns():
    other = (["x", "y", "z", "w"], np.ones((4, 4)))
    plain = Maps(MAPS.W_Q, MAPS.W_K, MAPS.W_V)
    table = one_head(WORDS, X, plain, causal=False, context=other)
    weights = table[table["step"] == "Weights"]
    assert weights["column"].unique().tolist() == other[0]
    assert weights["value"].to_numpy(float) == pytest.approx(0.25)  # all keys are the same
    assert not set(table["step"]) & {"Words", "Change"}


def test_maps_are_shown_as_they_are():
    assert np.array_equal(matrix(the_maps(MAPS), "Map to keys"), MAPS.W_K[0])


def test_a_query_meets_the_keys_before_it():
    own = attend(X, MAPS, causal=True)
    table = meets(WORDS, own)
    assert table.groupby("step", sort=False)["row"].nunique().tolist() == [1, 2, 3]
    wide = table[table["step"] == "“b”"].pivot(index="row", columns="column", values="value")
    wide = wide.astype(float)
    assert np.allclose(wide["q1 × k1"] + wide["q2 × k2"], wide["sum"])
    assert np.allclose(wide["sum"] / 2**0.5, wide["÷ √2"])
    assert np.allclose(wide["÷ √2"], own.scores[0, 1, :2])
    assert wide["weight"].sum() == pytest.approx(1)
    told = about_meeting(WORDS)
    assert list(told) == table["step"].unique().tolist()
    assert all(f"The query of {word} meets" in text for word, text in told.items())


def test_a_walk_says_whose_probability_is_named():
    for code in (published, corrected):
        table = of_walk(code("seashells", embeddings(0)))
        assert set(table["step"]) <= set(WALKED)
        last = table[table["step"] == "Word that is named"].set_index("column")
        whose = "She" if code is published else "The"
        assert last.loc["The", "how"] == f"this is the probability of “{whose}”"
        assert last["value"].sum() == pytest.approx(1)
