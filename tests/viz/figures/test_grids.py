"""Numbers in the cells of a grid of heads."""

import numpy as np
import pandas as pd
import pytest

from lenses.statistics.grid import grid
from viz.figures.grids import _brief, heads_figure


@pytest.mark.parametrize(
    ("most", "value", "says"),
    [
        (0.885, 0.0000043, "0.00"),
        (0.885, -0.001, "0.00"),
        (3.35, 1.24, "1.2"),
        (1234, 567, "600"),
        (0.0012, -0.0004, "−0.0004"),
        (1.0, 0.456, "0.46"),
        (0.0, 0.0, "0.00"),
        (1.0, float("nan"), ""),
    ],
)
def test_a_cell_has_as_many_decimals_as_its_colours_tell(most, value, says):
    assert _brief(most, value) == says


def test_titles_of_neighbours_do_not_touch():
    names = [
        "attention to what followed the same token before (induction)",
        "attention to the same token earlier (duplicate)",
    ]
    axes = {"measure": names, "layer": range(30), "head": range(9)}
    rows = pd.DataFrame(grid(axes, share=np.full((2, 30, 9), 0.5)))
    figure = heads_figure(rows, "share", "share of attention", "measure")
    figure.draw_without_rendering()
    first, second = (axis.title.get_window_extent() for axis in figure.axes[:2])
    assert first.x1 < second.x0
    assert [axis.title.get_text().replace("\n", " ") for axis in figure.axes[:2]] == names
