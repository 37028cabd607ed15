"""Shares that are right, against counting by hand."""

import numpy as np
import pandas as pd
import pytest

from lenses.statistics.accuracy import accuracy_of, with_accuracy
from lenses.statistics.intervals import share, wilson


def test_accuracy_has_its_wilson_interval():
    table = with_accuracy(pd.DataFrame({"n": [10, 4], "correct": [5, 4]}))
    assert table["accuracy"].tolist() == [0.5, 1]
    low, high = wilson(np.array([5, 4]), np.array([10, 4]))
    assert np.array_equal(table[["low", "high"]].to_numpy().T, [low, high])


def test_each_group_is_counted_by_itself():
    frame = pd.DataFrame({"place": [1, 0, 0, 0], "kind": list("baab")})
    rows = accuracy_of(frame.assign(right=[True, True, False, False]), ["place", "kind"])
    assert rows[["place", "kind"]].to_numpy().tolist() == [[0, "a"], [0, "b"], [1, "b"]]
    assert rows["n"].tolist() == [2, 1, 1]
    assert rows["correct"].tolist() == [1, 0, 1]
    wanted = share(1, 2)
    assert rows.loc[0, ["accuracy", "low", "high"]].tolist() == pytest.approx(wanted[:3])
