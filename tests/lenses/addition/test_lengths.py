"""Heads by the length of a carry: counts done by hand, and pairs whose lengths are permuted."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from lenses.addition.lengths import length_table, movers

SITE = {"kind": "head", "layer": 0, "pos": 9, "token": "A3", "change": 1.0, "null_change": 0.0,
        "own_change": 0.0}  # fmt: skip


def exchanges(flips: dict[int, dict[tuple[int, int], float]], n: int = 40) -> pd.DataFrame:
    """A row for each head, (place, run) and direction, with its flips."""
    return pd.DataFrame([
        SITE | {"pair": "cascade" if run else "local", "prefix": "same", "run": run, "n": n // 2,
                "place": place - run - 1, "read_place": place, "head": head, "flip": flip,
                "direction": direction}
        for head, cells in flips.items()
        for (place, run), flip in cells.items()
        for direction in ("in", "out")
    ])  # fmt: skip


def test_only_a_head_that_flips_one_length_and_spares_another_is_specialised():
    table = length_table(
        exchanges({
            0: {(2, 0): 1.0, (2, 1): 0.0},
            1: {(2, 0): 1.0, (2, 1): 0.9},
            2: {(2, 0): 0.4, (2, 1): 0.0},
            3: {(1, 0): 1.0},
        }), 0,
    )  # fmt: skip
    assert set(table["head"]) == {0, 1, 2}, "a place that has one length tells nothing"
    assert table.groupby("head")["specialised"].all().to_dict() == {0: True, 1: False, 2: False}
    assert table["n"].eq(40).all()
    assert len(table) == 6
    found = movers(table)
    assert found["head"].tolist() == [0, 1]
    assert found["specialised"].tolist() == [True, False]
    assert (found["by_luck"] < 0.01).all()


def test_p_is_that_of_pairs_whose_lengths_are_permuted():
    """Fisher's exact test of two lengths is the same permutation, summed instead of drawn."""
    for first, second in ((12, 8), (15, 6), (10, 10)):
        table = length_table(exchanges({0: {(2, 0): first / 20, (2, 1): second / 20}}, 40), 1)
        exact = fisher_exact([[2 * first, 40 - 2 * first], [2 * second, 40 - 2 * second]]).pvalue
        assert table["p"].iloc[0] == pytest.approx(exact, abs=0.02)


def test_luck_alone_is_seldom_called_a_length_of_its_own():
    rng = np.random.default_rng(0)
    flips = {
        head: {(4, run): rng.binomial(40, 0.5) / 40 for run in range(4)} for head in range(200)
    }
    table = length_table(exchanges(flips), 0)
    assert not table["specialised"].any()
    assert (table.drop_duplicates("head")["p"] <= 0.05).mean() < 0.05


def test_too_short_sums_and_no_pairs_give_no_table():
    assert length_table(pd.DataFrame(), 0).empty
    assert length_table(exchanges({0: {(1, 0): 1.0}}), 0).empty
    assert movers(pd.DataFrame()).empty
