import numpy as np

from lenses.statistics.grid import grid


def test_a_grid_names_the_axes_of_an_array():
    rows = grid({"x": ["p", "q"], "y": 2}, value=np.array([[1, 2], [3, 4]]))
    assert rows.to_numpy().tolist() == [["p", 0, 1], ["p", 1, 2], ["q", 0, 3], ["q", 1, 4]]
