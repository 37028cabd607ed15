"""Several texts' flows in one chart, and a flow as cells: the still twin of the view of cells."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from viz.canvas import WIDTH, require
from viz.drawing import Drawing, Widget
from viz.labels import label, shorten
from viz.style import color_map, palette

_CELL = 0.46
"""Inches: the width of a column, with the room beside its cell."""
_TALL, _ROOM = 0.17, 0.13
_LETTER = 0.055
_THICKEST = 5.0
"""Points: the line of a link that carries everything."""


def flow_texts(charts: Mapping[str, Drawing]) -> Drawing:
    """One chart in which a reader chooses among texts; the still picture is of the first."""
    first = next(iter(charts.values()))
    texts = [
        {"name": shorten(label(name), 80)} | dict(chart.widget.props)
        for name, chart in charts.items()
        if chart.widget
    ]
    return replace(first, widget=Widget("flow", "", {"texts": texts}))


def flow_blocks(
    links: pd.DataFrame, cells: pd.DataFrame, *, caption: str, least: float = 0.02
) -> Drawing:
    """Every state as a cell with its token, and lines of `least` weight or more between them.

    `links` (kind, layer, query, source, weight) are a flow's; `cells` (depth, pos, rank, input,
    decoded, probability) what states decode to. Shade: probability of the token in the cell.
    """
    require(links, "kind", "layer", "query", "source", "weight")
    require(cells, "depth", "pos", "rank", "input", "decoded", "probability")
    first = cells[cells["rank"] == 0]
    drawn = links[(links["weight"] >= least) & ~links["kind"].isin(["bias", "dropped"])]
    alt = f"{len(first)} states as cells, {len(drawn)} links of weight {least:g} or more."
    return Drawing(caption, drawn, lambda: _still(drawn, first), kind="flow_blocks", alt=alt)


def _still(links: pd.DataFrame, first: pd.DataFrame) -> Figure:
    depths, count = int(first["depth"].max()), int(first["pos"].max()) + 1
    wide = max(WIDTH, 0.3 + _CELL * count)
    column = (wide - 0.3) / count
    figure = Figure(figsize=(wide, (_TALL + _ROOM) * (depths + 1) + 0.5), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, wide), ylim=(figure.get_figheight(), 0))
    axis.set_axis_off()
    for link in links.sort_values("weight").itertuples():
        _line(axis, link, depths, column)
    for one in first.itertuples():
        _block(axis, one, depths, column)
    for depth in range(depths + 1):
        name = "layers\npassed" if depth == depths else str(depth)
        y = _top(depth, depths) + (_TALL / 2 if depth < depths else -0.06)
        axis.text(0.02, y, name, size=6, va="center")
    return figure


def _top(depth: int, depths: int) -> float:
    return 0.25 + (depths - depth) * (_TALL + _ROOM)


def _line(axis: Axes, link: object, depths: int, column: float) -> None:
    """From the lower edge of a cell to the upper edge of the one below it, or of another token."""
    ends = [0.3 + (pos + 0.5) * column for pos in (link.query, link.source)]
    high = [_top(link.layer + 1, depths) + _TALL, _top(link.layer, depths)]
    brought = link.kind == "attention"
    style = {"color": palette()[1] if brought else "0.6", "alpha": 0.75, "zorder": 1 + brought}
    axis.plot(ends, high, linewidth=max(0.4, _THICKEST * float(np.sqrt(link.weight))), **style)


def _block(axis: Axes, one: object, depths: int, column: float) -> None:
    colour = color_map(False)(0.06 + 0.7 * one.probability)
    left, top = 0.3 + one.pos * column + 0.03, _top(one.depth, depths)
    axis.add_patch(FancyBboxPatch(
        (left, top), column - 0.06, _TALL, boxstyle="round,pad=0,rounding_size=.025",
        facecolor=colour, edgecolor="0.6", linewidth=0.3, zorder=3,
    ))  # fmt: skip
    word = str(one.decoded if one.depth else one.input)
    shown = label(shorten(word, max(1, int((column - 0.06) / _LETTER))), "matplotlib")
    dark = sum(colour[:3]) < 1.5
    axis.text(left + column / 2 - 0.03, top + _TALL / 2, shown, size=5.5, ha="center",
              va="center_baseline", color="white" if dark else "#13171f", zorder=4)  # fmt: skip
