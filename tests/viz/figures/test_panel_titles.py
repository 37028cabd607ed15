"""Headings of panels that stand side by side."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from lenses.statistics.grid import grid
from viz.figures.grids import head_grid
from viz.figures.matrices import heat_map
from viz.figures.plots import bars, curves, scatter
from viz.figures.points import point_map

NAMES = [
    "attention to what followed the same token before (induction)",
    "attention to the same token earlier (duplicate)",
    "attention to the token before, wherever it stands",
]
RNG = np.random.default_rng(0)
ROWS = pd.DataFrame(grid({"measure": NAMES, "layer": range(6), "head": range(9)},
                         share=RNG.random((3, 6, 9)))).assign(name="a")  # fmt: skip
DRAWN = {
    "head_grid": head_grid(ROWS, "share", facet="measure", caption=""),
    "heat_map": heat_map(ROWS, "layer", "head", "share", facet="measure", caption=""),
    "curves": curves(ROWS, "layer", "share", series="head", facet="measure", caption=""),
    "bars": bars(ROWS[ROWS["head"] == 0], "layer", "share", facet="measure", caption=""),
    "scatter": scatter(ROWS, "layer", "share", facet="measure", caption=""),
    "point_map": point_map(ROWS, "layer", "share", "name", facet="measure", caption=""),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_headings_of_neighbours_do_not_touch_and_are_whole(kind):
    figure = DRAWN[kind].static()
    figure.draw_without_rendering()
    headings = [axis.title for axis in figure.axes if axis.get_title()]
    assert [heading.get_text().replace("\n", " ") for heading in headings] == NAMES
    boxes = [heading.get_window_extent() for heading in headings]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.width + 1 for box in boxes)
