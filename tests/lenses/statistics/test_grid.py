import numpy as np
import pandas as pd
import pytest

from lenses.statistics.grid import crossed, grid, in_order


def test_a_grid_names_the_axes_of_an_array():
    rows = grid({"x": ["p", "q"], "y": 2}, value=np.array([[1, 2], [3, 4]]))
    assert rows.to_numpy().tolist() == [["p", 0, 1], ["p", 1, 2], ["q", 0, 3], ["q", 1, 4]]


def test_crossed_is_a_cross_join_with_the_grid() -> None:
    frame = pd.DataFrame({"prompt": 3, "pos": range(3), "token": ["a", "b", "a"]})
    axes, value = {"layer": 2, "part": ("x", "y"), "whole": ["z"]}, np.arange(12.0)
    expected = frame.merge(grid(axes), how="cross").assign(value=value)
    found = crossed(frame, axes, value=value.reshape(3, 2, 2))
    pd.testing.assert_frame_equal(found, expected)


def test_rows_come_in_the_order_that_is_asked_for_and_are_not_shuffled_within_it():
    frame = pd.DataFrame({"name": ["b", "c", "a", "b"], "value": [1, 2, 3, 4]})
    assert in_order(frame, "name", ["c", "a", "b"])["value"].tolist() == [2, 3, 1, 4]
    with pytest.raises(ValueError, match="'b'"):
        in_order(frame, "name", ["a", "c"])
