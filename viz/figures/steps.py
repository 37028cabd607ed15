"""A computation as its matrices, one after another, each with its numbers written into it."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from viz.canvas import WIDTH, heat, limits, require, ticks
from viz.drawing import Drawing, Widget
from viz.labels import label as label_of
from viz.labels import shorten
from viz.style import color_map, theme
from viz.widgets import plotly_widget

_CELL = (0.27, 0.22)
"""Inches: width and height of a cell; a number of five signs fits."""
_NAMES = 0.75
"""Inches: for the names of rows, which are written where they change."""
_LETTER = 0.085
"""Inches: of a heading."""
_GAP = 0.3
_ABOVE = (0.5, 0.95)
"""Inches: for a heading and names of columns, as they are and turned."""
_LETTERS = 48
"""In a line above the interactive figure: what a phone has room for."""
_LINE = 18
"""Pixels: the height of such a line."""

_TOOLS = ["zoom", "pan", "zoomin", "zoomout", "autoscale", "resetscale", "toimage"]
"""Of plotly's bar, which would cover the sentence: a matrix is seen as a whole."""


@dataclass(frozen=True)
class _Panel:
    """One matrix, of a step and, where there are sides, of one of them."""

    step: str
    side: str
    rows: list[str]
    columns: list[str]
    values: np.ndarray
    hover: list[list[str]]

    @property
    def title(self) -> str:
        return f"{self.step}: {self.side}" if self.side else self.step

    @property
    def written(self) -> list[list[str]]:
        """The numbers as they are written into the cells."""
        return [[_written(value) for value in row] for row in self.values]


def step_by_step(
    data: pd.DataFrame,
    *,
    caption: str,
    about: Mapping[str, str],
    side: str | None = None,
    hover: str | None = None,
    first: str | None = None,
) -> Drawing:
    """Matrices in order; the interactive twin shows one step at a time, with a slider.

    `data` has a row a cell with the columns step, row, column and value; a cell whose value is
    missing is hatched. Every matrix has a scale of colours of its own. `about` says in a sentence
    what is computed at each step. Matrices of one step that differ in `side` stand side by side;
    the column `hover` says how a cell came about. The interactive twin opens at the step `first`.
    Raises ValueError for two rows of one cell, or for a step of which `about` says nothing.
    """
    keys = ["step", *([side] if side else []), "row", "column"]
    require(data, *keys, "value", *([hover] if hover else []))
    if data.duplicated(keys).any():
        raise ValueError(f"two rows for one cell of {', '.join(keys)}")
    if missing := [step for step in data["step"].unique() if step not in about]:
        raise ValueError(f"say in `about` what is computed at step {missing[0]!r}")
    panels = _panels(data, side, hover)
    alt = "Matrices in order: " + "; ".join(dict.fromkeys(panel.title for panel in panels)) + "."
    widget = _widget(panels, about, first or panels[0].step)
    return Drawing(caption, data, lambda: _still(panels), widget, kind="steps", alt=alt)


def _panels(data: pd.DataFrame, side: str | None, hover: str | None) -> list[_Panel]:
    panels = []
    for keys, part in data.groupby(["step", *([side] if side else [])], sort=False):
        rows, columns = (list(dict.fromkeys(part[axis])) for axis in ("row", "column"))
        wide = part.pivot(index="row", columns="column").reindex(rows)
        values = wide["value"].reindex(columns=columns).to_numpy(float, na_value=np.nan)
        told = wide[hover].reindex(columns=columns).fillna("") if hover else None
        hovers = told.to_numpy().tolist() if told is not None else [[""] * len(columns)] * len(rows)
        names = ([str(name) for name in axis] for axis in (rows, columns))
        panels.append(_Panel(keys[0], keys[1] if side else "", *names, values, hovers))
    return panels


def _written(value: float) -> str:
    if not np.isfinite(value):
        return ""
    value = 0.0 if abs(value) < 0.005 else value
    return (f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}").replace("-", "−")


# --- still ---


def _still(panels: list[_Panel]) -> Figure:
    """As many matrices in a line as fit, all cells of one size; in the open theme."""
    lines = _lines(panels)
    above = [max(_ABOVE[_is_turned(panel)] for panel in line) for line in lines]
    heights = [
        over + _CELL[1] * max(len(panel.rows) for panel in line)
        for over, line in zip(above, lines, strict=True)
    ]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="none")  # cells have a size
    top = sum(heights)
    for line, over, height in zip(lines, above, heights, strict=True):
        left = _NAMES
        for number, panel in enumerate(line):
            wide, high = _size(panel)
            left += _room(line, number)
            place = (left / WIDTH, (top - over - high) / sum(heights))
            axis = figure.add_axes((*place, wide / WIDTH, high / sum(heights)))
            _matrix(axis, panel, named=_room(line, number) != _GAP)
            left += _span(panel)
        top -= height
    return figure


def _is_turned(panel: _Panel) -> bool:
    """Whether names of columns are too long to stand side by side."""
    return max(map(len, panel.columns)) > 2


def _size(panel: _Panel) -> tuple[float, float]:
    """Width and height in inches; the widest matrix has narrower cells."""
    wide = min(_CELL[0] * len(panel.columns), WIDTH - _NAMES - 0.1)
    return wide, _CELL[1] * len(panel.rows)


def _span(panel: _Panel) -> float:
    """Inches that a matrix takes across: its heading may be wider than its cells."""
    return max(_size(panel)[0], _LETTER * len(panel.title))


def _room(line: list[_Panel], number: int) -> float:
    """Inches before a matrix: names of rows stand there where they are not those before it."""
    if number == 0:
        return 0.0
    return _GAP if line[number].rows == line[number - 1].rows else _NAMES + 0.15


def _lines(panels: list[_Panel]) -> list[list[_Panel]]:
    lines: list[list[_Panel]] = []
    for panel in panels:
        longer = [*lines[-1], panel] if lines else [panel]
        wide = sum(_span(one) + _room(longer, number) for number, one in enumerate(longer))
        if lines and wide + _NAMES + 0.05 <= WIDTH:
            lines[-1] = longer
        else:
            lines.append([panel])
    return lines


def _matrix(axis: Axes, panel: _Panel, named: bool) -> None:
    wide, high = _size(panel)
    size = min(5.6, 100 * wide / len(panel.columns) / 5)
    words = [[label_of(word, "matplotlib") for word in row] for row in panel.written]
    heat(axis, panel.values, limits(panel.values), written=words, size=size)
    shown = [shorten(name, 11) for name in panel.columns]
    axis.xaxis.tick_top()
    ticks(axis, "x", shown, 10 * wide, rotation=90 * _is_turned(panel), size=7)
    names = [shorten(name, 12) if named else "" for name in panel.rows]
    ticks(axis, "y", names, 10 * high, rotation=0, size=7)
    axis.set_title(label_of(panel.title, "matplotlib"), size=8.5)


# --- interactive ---


def _widget(panels: list[_Panel], about: Mapping[str, str], first: str) -> Widget:
    """One step at a time, of as many matrices as it has sides; a slider goes through the steps."""
    names = list(dict.fromkeys(panel.step for panel in panels))
    sides = list(dict.fromkeys(panel.side for panel in panels))
    traces = [_trace(panel, sides.index(panel.side), panel.step == first) for panel in panels]
    views = [_view(name, panels, sides, about[name]) for name in names]
    labels = [label_of(name, "plotly") for name in names]
    slider = {
        "active": names.index(first),
        "steps": [
            {"label": f"{number}. {name}", "method": "update", "args": list(view)}
            for number, (name, view) in enumerate(zip(labels, views, strict=True), 1)
        ],
        "currentvalue": {"prefix": "Step ", "font": {"size": 15}},
        "pad": {"t": 20, "b": 10},
        "x": 0.06,
        "len": 0.86,
    }  # fmt: skip
    lines = max(len(wrap(label_of(about[name], "plotly"), _LETTERS)) for name in names)
    above = 44 + _LINE * lines + (30 if len(sides) > 1 else 0)
    margin = {"l": 10, "r": 30, "t": above, "b": 10}
    layout = {"height": 340 + above, "margin": margin, "sliders": [slider], "dragmode": False}
    layout["modebar"] = {"remove": _TOOLS}
    axes = {}
    for number in range(len(sides)):
        axes |= {_axis("x", number): {"anchor": _anchor("y", number), "side": "top"}}
        axes |= {_axis("y", number): {"anchor": _anchor("x", number)}}
    for path, value in views[names.index(first)][
        1
    ].items():  # the slider names parts by their path; a layout is a tree
        _put(axes, path, value)
    return plotly_widget({"data": traces, "layout": layout | axes})


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _axis(letter: str, number: int) -> str:
    return f"{letter}axis{number + 1 if number else ''}"


def _anchor(letter: str, number: int) -> str:
    return f"{letter}{number + 1 if number else ''}"


def _trace(panel: _Panel, number: int, visible: bool) -> dict[str, Any]:
    centred, low, high = limits(panel.values)
    with theme("light"):
        scale = color_map(centred)
    cells = [[None if value != value else float(value) for value in row] for row in panel.values]
    rows, columns = ([label_of(n, "plotly") for n in axis] for axis in (panel.rows, panel.columns))
    hover = [[wrap(label_of(text, "plotly"), _LETTERS) for text in row] for row in panel.hover]
    told = [
        [
            "<br>".join([f"{row}, {column}: {written}", *lines])
            for column, written, lines in zip(columns, *parts, strict=True)
        ]
        for row, *parts in zip(rows, panel.written, hover, strict=True)
    ]
    return {
        "type": "heatmap", "z": cells, "zmin": low, "zmax": high, "showscale": False, "xgap": 1,
        "ygap": 1, "text": panel.written, "texttemplate": "%{text}", "textfont": {"size": 14},
        "customdata": told,
        "hovertemplate": "%{customdata}<extra></extra>", "visible": visible,
        "colorscale": [[step / 16, to_hex(scale(step / 16))] for step in range(17)],
        "xaxis": _anchor("x", number), "yaxis": _anchor("y", number), "hoverongaps": False,
    }  # fmt: skip


def _view(
    name: str, panels: list[_Panel], sides: list[str], about: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the slider changes: which matrices are seen, and the axes and the sentence."""
    here = {panel.side: panel for panel in panels if panel.step == name}
    layout: dict[str, Any] = {
        "title.text": "<br>".join(wrap(label_of(about, "plotly"), _LETTERS)),
        "title.font.size": 14, "title.x": 0.01, "title.y": 0.95, "title.yanchor": "top",
    }  # fmt: skip
    share = [len(here[side].columns) + 2 if side in here else 0 for side in sides]
    ends = np.cumsum([0, *share]) / max(sum(share), 1)
    for number, side in enumerate(sides):
        layout |= _axes(here.get(side), number, (ends[number], ends[number + 1]))
    return {"visible": [panel.step == name for panel in panels]}, layout


def _axes(panel: _Panel | None, number: int, ends: tuple[float, float]) -> dict[str, Any]:
    x, y = _axis("x", number), _axis("y", number)
    shown = {f"{x}.visible": panel is not None, f"{y}.visible": panel is not None}
    if panel is None:
        return shown
    gap = 0.1 if number else 0.0
    for axis, names in ((x, panel.columns), (y, panel.rows)):
        shown |= {
            f"{axis}.tickvals": list(range(len(names))), f"{axis}.ticksuffix": " ",
            f"{axis}.ticktext": [label_of(shorten(name, 12), "plotly") for name in names],
            f"{axis}.showgrid": False, f"{axis}.zeroline": False, f"{axis}.ticks": "",
            f"{axis}.automargin": True, f"{axis}.tickfont.size": 13,
        }  # fmt: skip
    shown[f"{x}.range"] = [-0.5, len(panel.columns) - 0.5]
    shown[f"{y}.range"] = [len(panel.rows) - 0.5, -0.5]
    shown[f"{x}.domain"] = [float(ends[0]) + gap, float(ends[1])]
    shown[f"{x}.title.text"] = label_of(panel.side, "plotly")
    return shown
