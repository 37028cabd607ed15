"""A tree of merges: leaves in an order without crossings, each merge at its height."""

import pandas as pd
import pytest

from viz import dendrogram

LEAVES = ["L0H0", "L0H1", "L1H0", r"$\a"]
MERGES = pd.DataFrame({"left": [0, 3, 1], "right": [2, 4, 5], "height": [0.1, 0.5, 0.9]})


def test_leaves_of_a_cluster_stand_together_and_carry_their_names():
    axis = dendrogram(MERGES, LEAVES, caption="").figure().axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["L0H1", r"$\a", "L0H0", "L1H0"]
    assert list(axis.get_yticks()) == [0.5, 1.5, 2.5, 3.5]


def test_each_merge_is_a_bracket_at_its_height_from_middle_to_middle():
    axis = dendrogram(MERGES, LEAVES, caption="").figure("dark").axes[0]
    lines = axis.collections[0].get_segments()
    assert [[tuple(point) for point in line] for line in lines] == [
        [(0, 2.5), (0.1, 2.5), (0.1, 3.5), (0, 3.5)],
        [(0, 1.5), (0.5, 1.5), (0.5, 3.0), (0.1, 3.0)],
        [(0, 0.5), (0.9, 0.5), (0.9, 2.25), (0.5, 2.25)],
    ]
    low, high = sorted(axis.get_xlim())
    assert low <= 0 < 0.9 <= high


def test_of_many_leaves_some_are_named():
    data = pd.DataFrame(
        {"left": [0, *range(300, 598)], "right": range(1, 300), "height": [0.5] * 299}
    )
    figure = dendrogram(data, [f"L{n}" for n in range(300)], caption="").figure()
    assert figure.get_size_inches()[1] < 9
    assert 10 < len(figure.axes[0].get_yticklabels()) < 80


def test_merges_and_leaves_must_fit():
    with pytest.raises(ValueError, match="5 leaves take 4 merges, not 3"):
        dendrogram(MERGES, [*LEAVES, "x"], caption="")
    with pytest.raises(ValueError, match="no column 'height'"):
        dendrogram(MERGES.drop(columns="height"), LEAVES, caption="")
