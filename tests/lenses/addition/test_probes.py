"""Probes of a carry where it is written by hand, with everything they are held against."""

import numpy as np
import pytest

from lenses.addition.probes import labels_of, probe_table, probed_states, probed_sums
from models import untrained
from models.planted.carry import planted_carry


@pytest.fixture(scope="module")
def planted():
    return planted_carry(places=3, seed=0, heads=3)


@pytest.fixture(scope="module")
def table(planted):
    model = planted.model
    style = model.card.arithmetic
    random = probed_states(untrained(model, 0), style, 2, 200, 0, 256)
    found = probe_table(model, random, style, 2, 200, 0, 256)
    return found.set_index(["target", "layer", "token"])


def test_the_planted_carry_is_read_where_it_is_written(table):
    row = table.loc[("carry_in", 0, "read")]
    assert row["accuracy"] > 0.97
    assert row["random_weights"] < 0.8
    assert row["control"] < 0.65
    assert row["chance"] == 0.5
    assert row["selectivity"] == row["accuracy"] - row["control"]


def test_the_digit_is_read_only_after_its_column_was(table):
    before, after = (table.loc[("digit_sum", layer, "read"), "accuracy"] for layer in (0, 1))
    assert before < 0.12
    assert after > 0.25
    assert table.loc[("digit_sum", 1, "read"), "input_tokens"] < 0.12


def test_a_single_operand_digit_does_not_tell_the_carry(table):
    assert table.loc[("carry_in", 0, "a1"), "accuracy"] < 0.9
    assert table.loc[("carry_in", 0, "a2"), "accuracy"] < 0.7


def test_labels_and_groups_by_hand(planted):
    sums = probed_sums(planted.model.card.arithmetic, 2, 60, 1)
    found = labels_of(sums, 2)
    for row in range(len(sums)):
        a, b = int(sums.a[row]), int(sums.b[row])
        tens, hundreds = ((a // 10**k % 10, b // 10**k % 10) for k in (1, 2))
        carry = (a % 100 + b % 100) // 100
        assert found["carry_in"][0][row] == carry
        assert found["tri_state"][0][row] == (sum(tens) >= 9) + (sum(tens) >= 10)
        assert found["digit_sum"][0][row] == sum(hundreds) % 10
        assert found["carry_in"][1][row] == 10 * min(tens) + max(tens)
        assert found["digit_sum"][1][row] == 10 * min(hundreds) + max(hundreds)
    cells, counts = np.unique(np.stack([sums.run[:, 2], sums.carry[:, 2]], 1), axis=0,
                              return_counts=True)  # fmt: skip
    assert len(cells) == 5
    assert (counts == 12).all()


def test_the_digit_above_the_addends_has_no_column(planted):
    sums = probed_sums(planted.model.card.arithmetic, 3, 60, 1)
    assert set(labels_of(sums, 3)) == {"carry_in", "tri_state"}
