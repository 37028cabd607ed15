"""Points, lines and bars with their intervals."""

from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter, StrMethodFormatter

from viz.canvas import DESK, in_lines, panel_width, panels, require, split, title_panel
from viz.drawing import Drawing
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import number
from viz.style import color_map, palette

_ALONE = 5.6
"""Inches: the width of a single panel of curves; a page on a desk enlarges it by half."""
_NARROW = 4.4
"""Inches: the least width of a panel of bars, which is that of a phone."""
_SIZES = {
    1: (_ALONE, 3.2),
    2: (3.7, 3.0),
    3: (DESK / 3, 2.8),
    5: (DESK / 3, 2.3),
    6: (DESK / 3, 2.3),
}
"""Inches: a panel of curves by how many there are."""
_SMALL = (DESK / 4, 2.3)
"""Inches: a panel of four, or of more than six."""
CHANCE = "chance"
"""A series that is no finding but what to compare with: dashed, in the ink of the words."""
_LETTERS = 24
"""Of the name of an axis along a panel, in a line."""
_ALIKE = 3
"""Times the range of a panel: others that go no further share its scale."""
_BESIDE = 24
"""Letters of a category's name in each of two lines."""
_LONGEST = 34
"""Letters of a category's name in one line."""
_WIDE = 6
"""Times the range of the lines: bands that are wider are cut."""
_SPAN = 4
"""Of an axis in halves, from which on whole numbers mark it."""
_MANY_POINTS = 2_000
_MARKED_POINTS = 40
"""Points of a line that are marked; a line of one point is nothing else."""
_SHAPES = "os^DvP"
"""Of the points of the first series and those after it, as many as there are hues."""
_METHODS = ("pearson", "spearman", "kendall")


def scatter(
    data: pd.DataFrame,
    x: str,
    y: str,
    *,
    caption: str,
    facet: str | None = None,
    correlations: pd.DataFrame | None = None,
) -> Drawing:
    """One point a row of `data`, a panel for each value of `facet`; the density above 2,000.

    `correlations` has the columns `facet`, method (pearson, spearman, kendall) and estimate,
    one row each; they are written above their panel.
    """
    require(data, x, y, *([facet] if facet else []))
    if correlations is not None:
        require(correlations, "method", "estimate", *([facet] if facet else []))

    def static() -> Figure:
        return _clouds(data, x, y, facet, correlations)

    alt = f"{axis_name(y)} against {axis_name(x)}, {len(data):,} points."
    return Drawing(caption, data, static, kind="scatter", alt=alt)


def _clouds(
    data: pd.DataFrame, x: str, y: str, facet: str | None, correlations: pd.DataFrame | None
) -> Figure:
    parts = split(data, facet)
    notes = {} if correlations is None else split(correlations, facet)
    figure, axes = panels(len(parts), 3.2 if len(parts) > 1 else 4.6, 3.3)
    spread = [(data[name].min(), data[name].max()) for name in (x, y)]
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        _cloud(axis, part[x], part[y], spread)
        title_panel(axis, name, pad=17)
        above = f"n = {len(part):,}"
        if name in notes:
            above = f"{_written(notes[name])}   {above}"
        axis.text(0, 1.02, above, transform=axis.transAxes, size=8)
        axis.set(xlabel=axis_name(x), ylabel=axis_name(y))
        axis.label_outer(remove_inner_ticks=False)
    return figure


def _cloud(axis: Axes, x: pd.Series, y: pd.Series, spread: list[tuple[float, float]]) -> None:
    axis.grid(True)
    axis.margins(0.04)
    if len(x) > _MANY_POINTS:
        extent = (*spread[0], *spread[1])
        axis.hexbin(x, y, gridsize=45, extent=extent, bins="log", mincnt=1,
                    cmap=color_map(False), linewidths=0.1)  # fmt: skip
    else:
        axis.scatter(x, y, s=14, alpha=0.55, linewidths=0, color=palette()[0])
    axis.update_datalim([(spread[0][0], spread[1][0]), (spread[0][1], spread[1][1])])
    axis.autoscale_view()


def _written(correlations: pd.DataFrame) -> str:
    by_method = correlations.set_index("method")["estimate"]
    if not by_method.index.is_unique:
        raise ValueError("several correlations of one method for one panel: choose one")
    signs = {"pearson": "r", "spearman": "ρ", "kendall": "τ"}
    return "  ".join(
        f"{signs[m]} = {by_method[m]:.2f}".replace("-", "−") for m in _METHODS if m in by_method
    )


def curves(
    data: pd.DataFrame,
    x: str,
    y: str,
    *,
    caption: str,
    series: str | None = None,
    facet: str | None = None,
    low: str = "low",
    high: str = "high",
    log_x: bool = False,
    log_y: bool = False,
    reference: float | None = None,
) -> Drawing:
    """A line for each `series`, a panel for each `facet`; a band from `low` to `high`.

    Without the columns `low` and `high` there is no band. More than six series are taken for
    steps of one scale and coloured so. Where x has two values or fewer there are points side by
    side, not lines. `log_x` spreads x by its logarithm, zero at the left end; `log_y` does so for
    numbers above zero, such as ranks; `reference` is a value to compare with, such as chance,
    drawn as a line. Shares have an axis from 0 to 1.
    """
    require(data, x, y, *[name for name in (series, facet) if name])

    def static() -> Figure:
        drawn = _curves(split(data, facet), (x, y), series, (low, high), log_x, reference)
        if not log_y:
            _share_scale([axis for axis in drawn.axes if axis.get_visible()])
            return drawn
        for axis in drawn.axes:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        return drawn

    ends = f"from {number(data[y].min())} to {number(data[y].max())}"
    alt = f"{axis_name(y)} over {axis_name(x)}, {ends}."
    return Drawing(caption, data, static, kind="curves", alt=alt)


def _curves(
    parts: dict[str, pd.DataFrame],
    axes_of: tuple[str, str],
    series: str | None,
    band: tuple[str, str],
    log_x: bool,
    reference: float | None,
) -> Figure:
    x, y = axes_of
    figure, axes = panels(len(parts), *_SIZES.get(len(parts), _SMALL), DESK)
    shares = _are_shares(pd.concat(part[y] for part in parts.values()), axis_name(y))
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        _lines(axis, part, axes_of, series, band)
        if reference is not None:
            axis.axhline(reference, linestyle="--", linewidth=1.2, color=axis.title.get_color())
        if log_x:
            _spread(axis, part[x])
        elif _are_counts(part[x]):
            axis.xaxis.get_major_locator().set_params(integer=True)
        if shares:
            axis.set_ylim(-0.03, 1.03)
        else:
            _cut_bands(axis, part, y, band)
        axis.grid(True)
        title_panel(axis, name)
    _name_axes(figure, axes, axis_name(x), axis_name(y))
    if series:
        finish_legend(figure, axes[0])
    return figure


def _are_counts(x: pd.Series) -> bool:
    """Whether an axis is marked at whole numbers: layers passed may be a half between two."""
    x = x.dropna()
    if x.nunique() <= 2 or x.dtype.kind not in "iuf":
        return False
    return x.dtype.kind in "iu" or bool((x % 0.5 == 0).all() and x.max() - x.min() >= _SPAN)


def _name_axes(figure: Figure, axes: list[Axes], x: str, y: str) -> None:
    """What both axes are: of several panels x once, and y at the left ones."""
    if len(axes) == 1:
        axes[0].set(xlabel=x, ylabel=fill(y, _LETTERS + 6))
        return
    figure.supxlabel(x, size=rcParams["axes.labelsize"])
    for axis in axes:
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel(fill(y, _LETTERS))


def _share_scale(axes: list[Axes]) -> None:
    """Panels that go about as far have one scale, so that they can be compared."""
    lows, highs = zip(*(axis.get_ylim() for axis in axes), strict=True)
    least = min(high - low for low, high in zip(lows, highs, strict=True))
    if max(highs) - min(lows) <= _ALIKE * least:
        for axis in axes:
            axis.set_ylim(min(lows), max(highs))


def _cut_bands(axis: Axes, part: pd.DataFrame, y: str, band: tuple[str, str]) -> None:
    """Where bands would flatten all lines, the axis follows the lines, and says how far they go."""
    ends = [part[name].dropna() for name in band if name in part]
    low, high = part[y].min(), part[y].max()
    if len(ends) < 2 or ends[0].empty or not low < high:
        return
    least, most = ends[0].min(), ends[1].max()
    if most - least <= _WIDE * (high - low):
        return
    room = (high - low) / 2
    axis.set_ylim(max(least, low - room), min(most, high + room))
    told = f"bands go on from {number(least)} to {number(most)}"
    axis.text(1, 1.02, told, transform=axis.transAxes, size=8, ha="right")


def _are_shares(values: pd.Series, title: str) -> bool:
    """Whether an axis goes from 0 to 1: it is named a share, of which some is above a half."""
    known = values.dropna()
    named = "share" in title or "accuracy" in title
    return named and len(known) > 0 and known.min() > -1e-6 and 0.5 < known.max() <= 1


def _lines(
    axis: Axes,
    part: pd.DataFrame,
    axes_of: tuple[str, str],
    series: str | None,
    band: tuple[str, str],
) -> None:
    """The lines of one panel with their bands; of two points, the points with their intervals."""
    x, y = axes_of
    lines = split(part, series)
    apart = part[x].nunique() <= 2 and part[x].dtype.kind in "iuf"
    for place, (line, points) in enumerate(lines.items()):
        points = points.sort_values(x)
        colour = _colours(len(lines))[place]
        marker = _marks(len(lines))[place] if len(points) <= _MARKED_POINTS else ""
        shift = 0.5 * (place - (len(lines) - 1) / 2) / len(lines) if apart else 0.0
        style = {"color": colour, "marker": marker, "markersize": 4}
        style |= {"linestyle": "none"} if apart else {}
        if str(line) == CHANCE and not apart:
            style = {"color": axis.title.get_color(), "linestyle": "--", "linewidth": 1.2}
        axis.plot(points[x] + shift, points[y], label=label_of(line, "matplotlib"), **style)
        if band[0] in points and band[1] in points:
            _band(axis, points[x] + shift, [points[end].astype(float) for end in band], colour)
    if apart:
        axis.set_xticks(sorted(part[x].unique()))
        axis.margins(x=0.35)


def _band(axis: Axes, x: pd.Series, ends: list[pd.Series], colour: Any) -> None:
    if x.nunique() > 2:
        axis.fill_between(x, *ends, color=colour, alpha=0.22, linewidth=0)
    else:
        axis.vlines(x, *ends, color=colour, linewidth=1.6)


def _spread(axis: Axes, x: pd.Series) -> None:
    """A logarithmic axis that has a zero: linear up to the smallest number above it."""

    axis.set_xscale("symlog", linthresh=float(x[x > 0].min()), linscale=0.5)
    axis.set_xlim(left=float(x.min()))
    axis.xaxis.set_major_formatter(ScalarFormatter())


def bars(
    data: pd.DataFrame,
    category: str,
    value: str,
    *,
    caption: str,
    series: str | None = None,
    facet: str | None = None,
    low: str = "low",
    high: str = "high",
    reference: float | None = None,
    band: str = "",
) -> Drawing:
    """A point for each `category` (and `series`) with its interval from `low` to `high`.

    Without those columns there is no interval. `reference` is a value to compare with, such as
    chance, drawn as a line. `band` names what the columns band_low and band_high hold, such as
    random weights: it is drawn pale behind the points. Shares have an axis from 0 to 1.
    """
    banded = ["band_low", "band_high"] if band else []
    require(data, category, value, *[name for name in (series, facet) if name], *banded)

    def static() -> Figure:
        figure = _dots(split(data, facet), category, value, series, (low, high), reference)
        if band:
            _lay_bands(figure, split(data, facet), category, band)
        return figure

    alt = f"{axis_name(value)} of {data[category].nunique()} values of {axis_name(category)}."
    known = data.dropna(subset=value)
    if len(known):
        found = known[value].to_numpy()
        ends = (known.iloc[at] for at in (found.argmax(), found.argmin()))
        ends = (f"{one[category]} ({number(one[value])})" for one in ends)
        alt += " Highest {}, lowest {}.".format(*ends)
    return Drawing(caption, data, static, kind="bars", alt=alt)


def _lay_bands(figure: Figure, parts: dict[str, pd.DataFrame], category: str, name: str) -> None:
    """A pale band behind each category of each panel, and its name above them."""
    names = list(dict.fromkeys(pd.concat(parts.values())[category]))
    style = {"color": rcParams["grid.color"], "linewidth": 11, "zorder": 0.5}
    for axis, part in zip(figure.axes, parts.values(), strict=False):
        places = [names.index(one) for one in part[category]]
        axis.hlines(places, part["band_low"], part["band_high"], label=name, **style)
    for old in figure.legends[:]:
        old.remove()
    finish_legend(figure, figure.axes[0])


def _dots(
    parts: dict[str, pd.DataFrame],
    category: str,
    value: str,
    series: str | None,
    ends: tuple[str, str],
    reference: float | None,
) -> Figure:
    names = list(dict.fromkeys(pd.concat(parts.values())[category]))
    beside = _beside(names)
    longest = max(len(line) for name in beside for line in name.split("\n"))
    width = panel_width(max(_NARROW, 2.6 + 0.075 * longest))
    figure, axes = panels(
        len(parts), width, 1.1 + (0.34 if len(names) <= 12 else 0.26) * len(names), DESK
    )
    shares = _are_shares(pd.concat(part[value] for part in parts.values()), axis_name(value))
    for axis, (title, part) in zip(axes, parts.items(), strict=True):
        _points(axis, split(part, series), (category, value), names, ends)
        if reference is not None:
            axis.axvline(reference, linestyle="--", linewidth=1.2, color=axis.title.get_color())
        letters = int((width - 0.075 * longest - 0.3) / 0.08)
        _finish_dots(axis, beside, fill(axis_name(value), letters), title)
        if shares:
            axis.set_xlim(-0.03, 1.03)
        if part[category].dtype.kind in "iuf":  # words speak for themselves
            axis.set_ylabel(axis_name(category))
    if series:
        finish_legend(figure, axes[0])
    return figure


def _points(
    axis: Axes,
    lines: dict[str, pd.DataFrame],
    columns: tuple[str, str],
    names: list,
    ends: tuple[str, str],
) -> None:
    """The points of each series at their categories, side by side, with their intervals."""
    category, value = columns
    for place, (line, points) in enumerate(lines.items()):
        shift = (place - (len(lines) - 1) / 2) * 0.6 / len(lines)
        places = [names.index(name) + shift for name in points[category]]
        colour, known = _colours(len(lines))[place], label_of(line, "matplotlib")
        mark = _marks(len(lines))[place]
        axis.plot(points[value], places, mark, ms=5.5, color=colour, label=known)
        if ends[0] in points and ends[1] in points:
            low, high = (points[end].astype(float) for end in ends)
            axis.hlines(places, low, high, color=colour, linewidth=1.8)


def _beside(names: list) -> list[str]:
    """Names of categories as they stand beside a panel: of a few in two lines, of many in one."""
    letters, lines = (_BESIDE, 2) if len(names) <= 12 else (_LONGEST, 1)
    return [in_lines(str(name), letters, lines) for name in names]


def _finish_dots(axis: Axes, names: list[str], value: str, title: str) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(True, axis="x")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(value)
    title_panel(axis, title)


def _colours(count: int) -> list:
    """Hues that differ for a few series; steps of one scale for many."""
    if count <= len(palette()):
        return palette()[:count]
    scale = color_map(False)
    return [scale(0.2 + 0.75 * step / (count - 1)) for step in range(count)]


def _marks(count: int) -> str:
    """Shapes that tell a few series apart without colour; many have one."""
    return _SHAPES[:count] if count <= len(_SHAPES) else "o" * count


def finish_legend(figure: Figure, axis: Axes) -> None:
    """One legend above all panels, of what one of them shows."""
    handles, names = axis.get_legend_handles_labels()
    widest = 0.45 + 0.08 * max(map(len, names), default=0)  # inches
    columns = max(1, min(len(names), int(figure.get_figwidth() / widest)))
    figure.legend(handles, names, loc="outside upper left", ncols=columns, handlelength=1.4)
