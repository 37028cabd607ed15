"""Points of a plane that carry their names, such as the ten digits."""

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viz.canvas import panels, require, split, title_panel
from viz.drawing import Drawing
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import shorten
from viz.style import color_map

_SIDE = 2.1
"""Inches: of a panel."""


def point_map(
    data: pd.DataFrame,
    x: str,
    y: str,
    text: str,
    *,
    caption: str,
    facet: str | None = None,
    joined: bool = True,
) -> Drawing:
    """Each row's `text` at its (x, y), a panel for each `facet`, both axes on one scale.

    Every panel has a scale of its own: what is to be seen is a shape. Rows that are `joined`
    are tied by a line in their order, and shaded from the first to the last.
    """
    require(data, x, y, text, *([facet] if facet else []))

    def static() -> Figure:
        return _maps(split(data, facet), (x, y, text), joined)

    alt = f"{data[text].nunique()} points by name, {axis_name(y)} against {axis_name(x)}."
    return Drawing(caption, data, static, kind="point_map", alt=alt)


def _maps(parts: dict[str, pd.DataFrame], names: tuple[str, str, str], joined: bool) -> Figure:
    figure, axes = panels(len(parts), _SIDE, _SIDE + 0.2)
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        _points(axis, part, names, joined)
        title_panel(axis, str(title), size=9.5)
    figure.supxlabel(axis_name(names[0]), size=10)
    figure.supylabel(axis_name(names[1]), size=10)
    return figure


def _points(axis: Axes, part: pd.DataFrame, names: tuple[str, str, str], joined: bool) -> None:

    x, y, words = (part[name].tolist() for name in names)
    if joined:
        axis.plot(x, y, color=rcParams["grid.color"], linewidth=1.2, zorder=1)
    last = max(len(words) - 1, 1)
    shades = [color_map(False)(0.35 + 0.6 * number / last if joined else 0.8)
              for number in range(len(words))]  # fmt: skip
    axis.scatter(x, y, s=150, c=[rcParams["figure.facecolor"]], edgecolors=shades, zorder=2)
    for at, word in zip(zip(x, y, strict=True), words, strict=True):
        shown = label_of(shorten(str(word), 6), "matplotlib")
        axis.text(*at, shown, ha="center", va="center_baseline", size=8.5, zorder=3)
    _square(axis, x, y)
    axis.set(xticks=[], yticks=[])
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(True)


def _square(axis: Axes, x: list[float], y: list[float]) -> None:
    """One scale for both axes, and room for the names at the edges."""
    middle = (min(x) + max(x)) / 2, (min(y) + max(y)) / 2
    half = 0.6 * max(max(x) - min(x), max(y) - min(y)) or 1.0
    axis.set_xlim(middle[0] - half, middle[0] + half)
    axis.set_ylim(middle[1] - half, middle[1] + half)
    axis.set_aspect("equal", adjustable="box")
