"""A tree of merges: which things are alike, and how unlike the clusters are that become one."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from viz.canvas import WIDTH, require, ticks
from viz.drawing import Drawing
from viz.glossary import axis_name
from viz.labels import shorten
from viz.style import palette

Bracket = tuple[list[float], list[float]]

_TALLEST = 7.6
_LEAF = (0.03, 0.2)
"""Inches: the least and the most that a leaf takes."""


def dendrogram(
    data: pd.DataFrame, leaves: Sequence[str], *, caption: str, label: str = ""
) -> Drawing:
    """Leaves (down) joined into clusters, each merge drawn at its height (across).

    `data` has one row a merge, in order, with the columns left, right and height. Left and right
    are numbers: below `len(leaves)` of a leaf, above of the cluster of that merge. Leaves stand in
    an order in which no lines cross, by name as far as there is room.
    Raises ValueError unless there is one merge fewer than leaves.
    """
    require(data, "left", "right", "height")
    if len(data) != len(leaves) - 1:
        raise ValueError(f"{len(leaves)} leaves take {len(leaves) - 1} merges, not {len(data)}")
    title = label or axis_name("height")

    def static() -> Figure:
        return _tree(data, leaves, title)

    low = data.loc[data["height"].idxmin()]
    alt = f"{len(leaves)} leaves; the first two clusters merge at {low['height']:.3g}, the last at "
    return Drawing(
        caption, data, static, kind="dendrogram", alt=f"{alt}{data['height'].max():.3g}."
    )


def _tree(data: pd.DataFrame, leaves: Sequence[str], title: str) -> Figure:

    order, brackets = _brackets(data, len(leaves))
    tall = min(_TALLEST, max(_LEAF[0], min(_LEAF[1], _TALLEST / len(leaves))) * len(leaves))
    figure = Figure(figsize=(WIDTH * 0.8, tall + 0.8), layout="constrained")
    axis = figure.subplots()
    lines = [list(zip(x, y, strict=True)) for x, y in brackets]
    thin = 1.4 if len(leaves) <= 40 else 0.8
    axis.add_collection(LineCollection(lines, colors=palette()[0], linewidths=thin))
    highest = max(float(data["height"].max()), 1e-9)
    axis.set(xlim=(highest * 1.02, 0), ylim=(len(leaves), 0), xlabel=title)
    axis.grid(True, axis="x")
    axis.yaxis.tick_right()
    ticks(axis, "y", [shorten(leaves[leaf], 16) for leaf in order], tall)
    axis.spines["left"].set_visible(False)
    return figure


def _brackets(data: pd.DataFrame, leaves: int) -> tuple[list[int], list[Bracket]]:
    """The leaves from top to bottom, and the bracket of each merge (heights, places)."""
    members = [[leaf] for leaf in range(leaves)]
    pairs = list(zip(data["left"].astype(int), data["right"].astype(int), strict=True))
    for left, right in pairs:
        members.append(members[left] + members[right])
    order = members[-1]
    place = {leaf: number + 0.5 for number, leaf in enumerate(order)}
    middle = [place[leaf] for leaf in range(leaves)]
    height, brackets = [0.0] * leaves, []
    for (left, right), at in zip(pairs, data["height"].tolist(), strict=True):
        ends = [middle[left], middle[left], middle[right], middle[right]]
        brackets.append(([height[left], at, at, height[right]], ends))
        middle.append((middle[left] + middle[right]) / 2)
        height.append(at)
    return order, brackets
