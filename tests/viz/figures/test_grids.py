"""Numbers in the cells of a grid of heads."""

import pytest

from viz.figures.grids import _brief


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
