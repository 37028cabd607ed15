"""Figures without pyplot: panels of a stated size, one colour bar, and what cannot be drawn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from viz.labels import label
from viz.style import color_map, ink_on

WIDTH = 6.4
"""Inches: the widest figure, a column of text on a desk and readable on a phone."""
DESK = 9.6
"""Inches: panels of points and lines that stand side by side, as wide as a page on a desk."""
PHONE = 4.4
"""Inches: the width of a panel on a phone, where others stand below it."""
_phone: ContextVar[bool] = ContextVar("phone", default=False)

_HATCHED = "not defined: hatched"
_LETTER = 0.085
"""Inches: of the name of a scale."""
_HEADING = 9.5
"""Letters to an inch of a panel's heading."""


def require(data: pd.DataFrame, *columns: str) -> None:
    """Check that a table can be drawn.

    Raises:
        ValueError: it is empty, or lacks one of the columns.
    """
    missing = [name for name in columns if name not in data.columns]
    if missing:
        raise ValueError(f"no column {missing[0]!r} to draw among {list(data.columns)}")
    if data.empty:
        raise ValueError("a table without rows cannot be drawn")


def split(data: pd.DataFrame, facet: str | None) -> dict[str, pd.DataFrame]:
    """The rows of each panel by its heading, in order of appearance; one panel without facet."""
    if facet is None:
        return {"": data}
    name = "" if _is_text(data[facet]) else f"{facet.replace('_', ' ')} "
    return {f"{name}{value}": data[data[facet] == value] for value in data[facet].unique()}


def _is_text(column: pd.Series) -> bool:
    return column.dtype.kind in "OU" or str(column.dtype) in ("str", "category")


@contextmanager
def on_phone() -> Iterator[None]:
    """While it lasts, panels are drawn one below the other, as wide as a phone."""
    token = _phone.set(True)
    try:
        yield
    finally:
        _phone.reset(token)


def panel_width(width: float) -> float:
    """The width of a panel in inches: on a phone all of it, unless two stand side by side there."""
    return PHONE if _phone.get() and width > PHONE / 2 else width


def panels(
    count: int, width: float, height: float, within: float = WIDTH, *, square: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of that size (inches): side by side where they fit `within`.

    Panels of `square` cells are drawn together: they leave room that others would take.
    """
    if _phone.get() and not square:
        width, within = panel_width(width), PHONE
    columns = max(1, min(count, int(within / width + 1e-9)))
    rows = -(-count // columns)
    columns = -(-count // rows)
    figure = Figure(figsize=(columns * width, rows * height))
    figure.set_layout_engine("compressed" if square else "constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def limits(values: np.ndarray, title: str = "") -> tuple[bool, float, float]:
    """Whether a scale of colours is centred on zero, and its two ends.

    A scale begins at zero, so that a colour says how much there is; one of shares of which the
    largest is above a half (`title` names a share) goes on to 1.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return False, 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if low < 0 < high:
        most = max(-low, high)
        return True, -most, most
    if "share" in title and 0.5 < high <= 1:
        high = 1.0
    return (False, min(low, 0.0), max(high, 0.0) or 1.0) if low >= 0 else (True, low, -low)


def heat(
    axes: Axes,
    values: np.ndarray,
    scale: tuple[bool, float, float],
    *,
    hatched: bool = True,
    square: bool = False,
    written: Sequence[Sequence[str]] | None = None,
    **words: Any,
) -> None:
    """Cells coloured by their value; where values are not finite a hatched ground is seen.

    `written` is what stands in each cell, with the settings `words` of a text.
    """
    centred, low, high = scale
    undefined = ~np.isfinite(values)
    if hatched and undefined.any():
        ground = {"hatch": "//////", "edgecolor": rcParams["grid.color"], "facecolor": "none"}
        axes.add_patch(Rectangle((0, 0), *values.shape[::-1], linewidth=0, zorder=0, **ground))
    many = values.size > 1500  # as outlines these would make a file of megabytes
    edges = {"linewidths": 0 if many else 0.6, "edgecolors": rcParams["figure.facecolor"]}
    colours = {"cmap": color_map(centred), "vmin": low, "vmax": high}
    shown = np.ma.masked_where(undefined, values)
    mesh = axes.pcolormesh(shown, rasterized=many, **edges, **colours)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(0, values.shape[1]), ylim=(values.shape[0], 0), xticks=[], yticks=[])
    if square:
        axes.set_aspect("equal")
    if written is not None:
        _write(axes, shown, mesh, written, words)


def _write(
    axes: Axes,
    values: np.ma.MaskedArray,
    mesh: ScalarMappable,
    written: Sequence[Sequence[str]],
    words: dict[str, Any],
) -> None:
    """Words in the middle of the cells that have a value, in an ink that can be read there."""
    colours, undefined = mesh.to_rgba(values), np.ma.getmaskarray(values)
    for row, column in np.argwhere(~undefined):
        style = {"color": ink_on(colours[row, column]), "ha": "center", "va": "center"}
        axes.text(column + 0.5, row + 0.5, written[row][column], **style, **words)


def colour_bar(figure: Figure, axes: Sequence[Axes], title: str, undefined: bool) -> None:
    """One horizontal colour bar under all panels, named.

    A pointed end says that values lie beyond it; where something is undefined it says so.
    """
    meshes = [axis.collections[0] for axis in axes]
    bar = figure.colorbar(meshes[0], ax=list(axes), location="bottom", aspect=38, fraction=0.06,
                          pad=0.04, extend=_beyond(meshes))  # fmt: skip
    bar.outline.set_visible(False)
    low, high = meshes[0].get_clim()
    has_long_labels = high - low < 0.01 * max(abs(low), abs(high))
    bar.locator = MaxNLocator(2 if has_long_labels else 6)
    bar.update_ticks()
    bar.ax.tick_params(length=2)
    told = f"{title}   ({_HATCHED})" if undefined else title
    letters = int(0.7 * figure.get_figwidth() / _LETTER)  # the bar may stand aside
    bar.set_label(told if len(told) <= letters else fill(told, letters))


def _beyond(meshes: Sequence[ScalarMappable]) -> str:
    """At which ends values go beyond the scale, as matplotlib calls it."""
    low, high = meshes[0].get_clim()
    shown = np.ma.concatenate([np.ma.ravel(mesh.get_array()) for mesh in meshes]).compressed()
    ends = bool((shown < low - 1e-9).any()), bool((shown > high + 1e-9).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(ends, "both")


def in_lines(name: str, letters: int, lines: int = 2) -> str:
    """A name as a label in lines of so many letters, cut only where these do not hold it."""
    whole = label(name, "matplotlib").replace(" %", "\N{NO-BREAK SPACE}%")
    return fill(whole, letters, max_lines=lines, placeholder="…")


def title_panel(axis: Axes, name: str, **style: Any) -> None:
    """A panel's heading, in lines as wide as the panel's part of the figure."""
    inches = axis.figure.get_figwidth() / axis.get_gridspec().ncols
    axis.set_title(in_lines(name, int(inches * _HEADING), 4), **style)


def ticks(axes: Axes, which: str, names: Sequence[str], inches: float, **more: Any) -> None:
    """Names in the middle of cells, as many as fit along an axis of that length."""
    every = max(1, round(0.2 * len(names) / inches))
    if every > 1:
        every = next((step for step in (2, 4, 5, 8, 10, 16, 20, 32, 50) if step >= every), 100)
    places = range(0, len(names), every)
    shown = [label(str(names[place]), "matplotlib") for place in places]
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks([place + 0.5 for place in places], shown, **more)
    axis.set_tick_params(length=0)
