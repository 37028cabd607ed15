"""Points that carry their names: each stands where its row says, under its own name."""

import numpy as np
import pandas as pd
import pytest

from viz import point_map

TEN = pd.DataFrame(
    {
        "layer": [0] * 10 + [1] * 10,
        "x": np.r_[np.arange(10), np.cos(np.arange(10) * np.pi / 5)],
        "y": np.r_[np.zeros(10), np.sin(np.arange(10) * np.pi / 5)],
        "digit": [*range(10)] * 2,
    }
)


def test_each_name_stands_at_its_point_in_its_panel():
    figure = point_map(TEN, "x", "y", "digit", facet="layer", caption="").figure()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["layer 0", "layer 1"]
    for layer, axis in enumerate(figure.axes):
        part = TEN[TEN["layer"] == layer]
        assert [word.get_text() for word in axis.texts] == [str(digit) for digit in range(10)]
        assert [word.get_position() for word in axis.texts] == list(
            zip(part["x"], part["y"], strict=True)
        )
        line = axis.lines[0].get_xydata()
        assert np.allclose(line, part[["x", "y"]])
        assert axis.get_aspect() == 1


def test_points_that_are_not_joined_have_no_line():
    drawn = point_map(TEN, "x", "y", "digit", facet="layer", caption="", joined=False)
    assert not drawn.figure("dark").axes[0].lines


def test_hostile_names_are_shown_and_do_nothing():
    data = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "token": [r"$\a", "a\nb"]})
    words = [word.get_text() for word in
             point_map(data, "x", "y", "token", caption="").figure().axes[0].texts]  # fmt: skip
    assert words == [r"$\a", "a⏎b"]


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no column 'z'"):
        point_map(TEN, "x", "z", "digit", caption="")
