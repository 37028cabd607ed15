"""Figures made elsewhere as drawings: with their data and a caption, or refused in one line.

Matplotlib, seaborn, plotly, circuitsvis and tables. What was drawn elsewhere has inks of its own
and stands on white paper in both themes; plotly and circuitsvis get a still twin drawn here.
"""

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.container import BarContainer
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.text import Text

from viz.canvas import WIDTH, colour_bar, heat, limits, panels, ticks
from viz.drawing import Drawing, Widget
from viz.figures.plots import finish_legend
from viz.figures.tokens import attention_figure, text_figure
from viz.glossary import axis_name
from viz.labels import label, number, shorten
from viz.style import palette
from viz.widgets import painted, plotly_widget, read_circuitsvis, rounded

Figure = Drawing | MatplotlibFigure | Axes | pd.DataFrame | Any
"""What `figures` of an experiment may return; those of seaborn, plotly and circuitsvis are not
named, so that none of these is imported."""

_MOST_ROWS = 24
_MOST_COLUMNS = 8
_MOST_ATTENTION = 12
"""Heads in the still twin of an attention figure."""


def as_drawing(title: str, thing: Any) -> Drawing:
    """Whatever an experiment gives as a figure, as a drawing.

    Its caption is the thing's own attribute `caption` (of a table `attrs["caption"]`), or else
    the title.

    Raises:
        ValueError: it cannot be drawn; one line that says what it is and what to give instead.
    """
    home = type(thing).__module__.partition(".")[0]
    if isinstance(thing, Drawing):
        return thing
    if isinstance(thing, pd.DataFrame):
        return _of_table(thing, title)
    if home == "plotly" and hasattr(thing, "to_plotly_json") and hasattr(thing, "data"):
        return _of_plotly(thing, title)
    if home == "circuitsvis" and hasattr(thing, "show_code"):
        return _of_circuitsvis(thing, title)
    figure = _matplotlib(thing)
    if figure is None:
        raise ValueError(
            f"figure {title!r} is a {type(thing).__name__}, which cannot be drawn: return a viz "
            "drawing, a matplotlib, seaborn, plotly or circuitsvis figure, or a DataFrame"
        )
    return _of_matplotlib(figure, thing, title)


def _caption(thing: Any, title: str) -> str:
    own = getattr(thing, "caption", None)
    return own if isinstance(own, str) and own else title


# --- tables ---


def _of_table(table: pd.DataFrame, title: str) -> Drawing:
    if table.empty:
        raise ValueError(f"figure {title!r} is a table without rows: leave it out of `figures`")
    said = table.attrs.get("caption") or title
    shown = table.iloc[:_MOST_ROWS, :_MOST_COLUMNS]
    if shown.shape != table.shape:
        rows, columns = table.shape
        said += f" (The picture shows {len(shown)} of {rows:,} rows and {shown.shape[1]} of "
        said += f"{columns} columns; the files hold all.)"
    alt = f"A table of {len(table)} rows and {len(table.columns)} columns."
    return Drawing(said, table, lambda: _table_figure(shown), kind="table", alt=alt)


def _table_figure(table: pd.DataFrame) -> MatplotlibFigure:
    """Words on the left of their column, numbers on the right, a line below the headings."""
    columns = [[axis_name(str(name)), *map(_word, table[name])] for name in table]
    columns = [[shorten(text, 40) for text in column] for column in columns]
    widths = [max(map(len, column)) + 3 for column in columns]
    inches = min(WIDTH, 0.3 + 0.085 * sum(widths))
    figure = MatplotlibFigure(figsize=(inches, 0.3 + 0.25 * (len(table) + 1)), layout="constrained")
    axis = figure.subplots()
    size = min(9.0, 9.0 * inches / (0.3 + 0.085 * sum(widths)))
    left = 0
    for name, column, width in zip(table, columns, widths, strict=True):
        numeric = table[name].dtype.kind in "iuf"
        at, side = (left + width - 1.5, "right") if numeric else (left + 0.5, "left")
        for row, text in enumerate(column):
            weight = "normal" if row else "bold"
            axis.text(at, row + 0.5, text, ha=side, va="center", size=size, weight=weight)
        left += width
    axis.axhline(1, color=axis.title.get_color(), linewidth=0.8)
    axis.set(xlim=(0, left), ylim=(len(table) + 1, 0))
    axis.axis("off")
    return figure


def _word(value: Any) -> str:
    if value is None or value != value:
        return "—"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return number(float(value)) if np.isfinite(value) else str(value)
    return label(str(value), "matplotlib")


# --- matplotlib and seaborn ---


def _matplotlib(thing: Any) -> MatplotlibFigure | None:
    """The whole figure that a thing of matplotlib or seaborn belongs to; None for anything else."""
    if isinstance(thing, MatplotlibFigure):
        return thing
    if isinstance(thing, Axes):
        return thing.figure
    if not any(kind.__module__.startswith("seaborn.") for kind in type(thing).__mro__):
        return None
    if isinstance(grid := getattr(thing, "figure", None), MatplotlibFigure):
        return grid
    from seaborn.objects import Plot  # a second to import, and here whoever made the thing did

    if isinstance(thing, Plot):
        figure = MatplotlibFigure(layout="constrained")
        thing.on(figure).plot()
        return figure
    return None


def _of_matplotlib(figure: MatplotlibFigure, thing: Any, title: str) -> Drawing:
    data = _artists(figure)
    if data.empty:
        raise ValueError(f"figure {title!r} shows nothing: draw into it before it is returned")
    _make_drawable(figure)
    plt.close(figure)  # one made by pyplot would be kept for ever
    said = _caption(thing, _caption(figure, title))
    alt = f"{title}: {data['panel'].nunique()} panels, {len(data):,} marks."
    return Drawing(said, data, lambda: figure, kind="foreign", alt=alt, on_white=True)


def _make_drawable(figure: MatplotlibFigure) -> None:
    """Texts as labels where matplotlib would stumble over them, such as a token `$\\frac$`."""
    try:
        figure.draw_without_rendering()
    except ValueError:
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        figure.draw_without_rendering()


def _artists(figure: MatplotlibFigure) -> pd.DataFrame:
    """What all panels show, a row a mark: panel, kind, series, x, y, value."""
    rows = [
        {"panel": panel, **mark}
        for panel, axis in enumerate(figure.axes)
        if not hasattr(axis, "_colorbar")
        for mark in _marks(axis)
    ]
    data = pd.DataFrame(rows, columns=["panel", "kind", "series", "x", "y", "value"])
    return _one_type_a_column(data)


def _marks(axis: Axes) -> list[dict[str, Any]]:
    bars = {id(bar) for box in axis.containers if isinstance(box, BarContainer) for bar in box}
    marks: list[dict[str, Any]] = []
    for line in axis.lines:
        marks += _points("line", _name(line), line.get_xydata())
    for collection in axis.collections:
        marks += _collected(collection)
    for box in axis.containers:
        marks += _bars(box) if isinstance(box, BarContainer) else []
    for patch in axis.patches:
        if id(patch) not in bars and hasattr(patch, "get_xy"):
            marks += _points("shape", _name(patch), np.reshape(patch.get_xy(), (-1, 2)))
    for image in axis.images:
        marks += _cells(np.asarray(image.get_array(), dtype=float))
    for text in axis.texts:
        marks.append({"kind": "text", "series": text.get_text()} | _at(*text.get_position()))
    return _with_categories(axis, marks)


def _collected(collection: Any) -> list[dict[str, Any]]:
    """Points of a scatter, cells of a heat map, corners of an area, ends of lines."""
    if isinstance(collection, QuadMesh):
        return _cells(np.ma.filled(np.ma.asarray(collection.get_array(), float), np.nan))
    if isinstance(collection, LineCollection):
        lines = collection.get_segments()
        return [mark for line in lines for mark in _points("interval", _name(collection), line)]
    if isinstance(collection, PathCollection) or not isinstance(collection, PolyCollection):
        values = collection.get_array()
        marks = _points("point", _name(collection), np.ma.filled(collection.get_offsets(), np.nan))
        if values is None or len(values) != len(marks):
            return marks
        known = zip(marks, values, strict=True)
        return [mark | {"value": float(value)} for mark, value in known]
    paths = [path.vertices for path in collection.get_paths()]
    return [mark for path in paths for mark in _points("area", _name(collection), path)]


def _bars(box: BarContainer) -> list[dict[str, Any]]:
    series = _name(box)
    upright = getattr(box, "orientation", "vertical") != "horizontal"
    marks = []
    for bar in box:
        middle = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
        size = bar.get_height() if upright else bar.get_width()
        place = _at(middle[0], np.nan) if upright else _at(np.nan, middle[1])
        marks.append({"kind": "bar", "series": series, **place, "value": float(size)})
    return marks


def _cells(values: np.ndarray) -> list[dict[str, Any]]:
    values = values.reshape(values.shape[0], -1) if values.ndim > 1 else values[:, None]
    return [
        {"kind": "cell", "series": "", "x": column, "y": row, "value": float(values[row, column])}
        for row, column in np.ndindex(values.shape)
    ]


def _points(kind: str, series: str, places: Any) -> list[dict[str, Any]]:
    return [{"kind": kind, "series": series} | _at(*place) for place in np.asarray(places, float)]


def _at(x: Any, y: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "value": np.nan}


def _name(artist: Any) -> str:
    name = str(artist.get_label())
    return "" if name.startswith("_") else name


def _with_categories(axis: Axes, marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same marks with names instead of numbers on an axis of categories."""
    for which, one in (("x", axis.xaxis), ("y", axis.yaxis)):
        names = getattr(one.get_converter(), "__class__", type(None)).__name__
        if names != "StrCategoryConverter":
            continue
        known = {place: name for name, place in one.units._mapping.items()}
        for mark in marks:
            value = mark[which]
            if isinstance(value, int | float) and value == value:
                mark[which] = known.get(round(value), value)
    return marks


def _one_type_a_column(data: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers, and a column with any name in it as text: a Parquet file holds both."""
    for name in ("x", "y"):
        if any(isinstance(value, str) for value in data[name]):
            data[name] = [value if isinstance(value, str) else _word(value) for value in data[name]]
        else:
            data[name] = data[name].astype(float)
    return data


# --- plotly ---


def _of_plotly(figure: Any, title: str) -> Drawing:
    traces = list(figure.data)
    if not traces:
        raise ValueError(f"figure {title!r} shows nothing: give the plotly figure a trace")
    for trace in traces:
        if trace.type not in _TRACES:
            raise ValueError(
                f"figure {title!r} has a plotly trace of kind {trace.type!r}: use "
                f"{', '.join(_TRACES)}, or draw it with viz or matplotlib"
            )
    data = _one_type_a_column(pd.concat(_TRACES[trace.type](trace) for trace in traces))
    data = data.reset_index(drop=True)
    widget = plotly_widget(_harmless(figure.to_plotly_json()))
    said = _caption(figure, title)
    alt = f"{title}: {len(traces)} traces, {len(data):,} values."
    names = [_title_of(figure, which) for which in ("xaxis", "yaxis")]
    return Drawing(said, data, lambda: _twin(traces, names), widget, kind="plotly", alt=alt)


def _title_of(figure: Any, which: str) -> str:
    text = figure.layout[which].title.text or ""
    return label(text.replace("_", " "), "matplotlib")


def _harmless(value: Any) -> Any:
    """Traces whose words are labels: plotly would read markup in them. Layout is left alone."""
    traces = [_labelled(trace) for trace in value["data"]]
    return {"data": traces, "layout": value.get("layout", {})}


def _labelled(trace: dict[str, Any]) -> dict[str, Any]:
    shown = dict(trace)
    for name in ("x", "y", "text", "name", "customdata", "hovertext", "labels"):
        if name in shown:
            shown[name] = _labels(shown[name])
    return shown


def _labels(value: Any) -> Any:
    if isinstance(value, str):
        return label(value, "plotly")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OU":
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return [_labels(item) for item in value]
    return value


def _xy(trace: Any) -> tuple[list, list]:
    """Both coordinates of a trace; where one is left out, plotly counts from 0."""
    x, y = (None if part is None else list(part) for part in (trace.x, trace.y))
    count = len(x or y or [])
    return (x if x is not None else list(range(count))), (
        y if y is not None else list(range(count))
    )


def _pairs(trace: Any) -> pd.DataFrame:
    x, y = _xy(trace)
    kind = "bar" if trace.type == "bar" else "point"
    return pd.DataFrame({"kind": kind, "series": trace.name or "", "x": x, "y": y, "value": np.nan})


def _grid(trace: Any) -> tuple[np.ndarray, list, list]:
    values = np.asarray([list(row) for row in trace.z], dtype=float)
    rows, columns = values.shape
    x = list(range(columns)) if trace.x is None else list(trace.x)
    y = list(range(rows)) if trace.y is None else list(trace.y)
    return values, x, y


def _squares(trace: Any) -> pd.DataFrame:
    values, x, y = _grid(trace)
    rows = [("cell", trace.name or "", x[column], y[row], values[row, column])
            for row, column in np.ndindex(values.shape)]  # fmt: skip
    return pd.DataFrame(rows, columns=["kind", "series", "x", "y", "value"])


def _twin(traces: list, names: list[str]) -> MatplotlibFigure:
    """The traces drawn still, in the open theme."""
    if traces[0].type == "heatmap":
        return _heat_twin(traces[0], names)
    figure, (axis,) = panels(1, 5.6, 3.4)
    bars = [trace for trace in traces if trace.type == "bar"]
    for place, trace in enumerate(traces):
        colour = palette()[place % len(palette())]
        known = label(trace.name or "", "matplotlib")
        if trace.type == "bar":
            _bar_twin(axis, trace, (bars.index(trace), len(bars)), colour, known)
        else:
            _line_twin(axis, trace, colour, known)
    axis.grid(True)
    axis.set(xlabel=names[0], ylabel=names[1])
    if any(trace.name for trace in traces) and len(traces) > 1:
        finish_legend(figure, axis)
    return figure


def _line_twin(axis: Axes, trace: Any, colour: str, known: str) -> None:
    mode = trace.mode or "lines"
    style = {"marker": "o" if "markers" in mode else "", "markersize": 4}
    style |= {"linestyle": "-" if "lines" in mode else "none"}
    x, y = ([_plain(value) for value in values] for values in _xy(trace))
    axis.plot(x, y, color=colour, label=known, **style)


def _bar_twin(axis: Axes, trace: Any, turn: tuple[int, int], colour: str, known: str) -> None:
    """Bars of several traces stand side by side at their category."""
    x, y = _xy(trace)
    across = trace.orientation == "h"
    places, sizes = (y, x) if across else (x, y)
    wide = 0.8 / turn[1]
    at = np.arange(len(places)) + (turn[0] - (turn[1] - 1) / 2) * wide
    draw: Callable = axis.barh if across else axis.bar
    draw(at, [float(size) for size in sizes], wide, color=colour, label=known)
    one = axis.yaxis if across else axis.xaxis
    one.set_ticks(range(len(places)), [str(_plain(place)) for place in places])


def _heat_twin(trace: Any, names: list[str]) -> MatplotlibFigure:
    values, x, y = _grid(trace)
    wide, high = min(WIDTH - 1, 0.5 * len(x)), min(7.0, 0.4 * len(y))
    figure, (axis,) = panels(1, max(3.2, wide + 1), high + 1.6)
    known = limits(values)
    ends = (known[0], trace.zmin if trace.zmin is not None else known[1],
            trace.zmax if trace.zmax is not None else known[2])  # fmt: skip
    heat(axis, values, ends)
    ticks(axis, "x", [shorten(str(name), 16) for name in x], wide)
    ticks(axis, "y", [shorten(str(name), 16) for name in y], high, rotation=0)
    axis.set(xlabel=names[0], ylabel=names[1])
    colour_bar(figure, [axis], "value", bool(np.isnan(values).any()))
    return figure


def _plain(value: Any) -> Any:
    return label(value, "matplotlib") if isinstance(value, str) else value


_TRACES: dict[str, Callable[[Any], pd.DataFrame]] = {
    "bar": _pairs,
    "scatter": _pairs,
    "scattergl": _pairs,
    "heatmap": _squares,
}


# --- circuitsvis ---


def _of_circuitsvis(shown: Any, title: str) -> Drawing:
    component, props = read_circuitsvis(shown)
    if component not in _COMPONENTS:
        raise ValueError(
            f"figure {title!r} is circuitsvis' {component}, which has no still twin here: "
            "use colored_tokens, attention_pattern or attention_heads"
        )
    widget = Widget("circuitsvis", component, rounded(_with_labels(props)))
    return _COMPONENTS[component](props, widget, _caption(shown, title))


def _of_tokens(props: dict[str, Any], widget: Widget, caption: str) -> Drawing:
    tokens, values = list(props["tokens"]), np.asarray(props["values"], float)
    if values.ndim != 1 or len(values) != len(tokens) or not len(tokens):
        raise ValueError(f"{caption!r}: coloured tokens need one value for each token")
    data = pd.DataFrame({"pos": range(len(tokens)), "token": tokens, "value": values})
    return Drawing(
        caption, data, lambda: text_figure(tokens, values, "value"),
        painted(widget, values.tolist(), "value"), kind="colored_tokens",
        alt=f"{len(tokens)} tokens, {number(values.min())} to {number(values.max())}.",
    )  # fmt: skip


def _of_attention(props: dict[str, Any], widget: Widget, caption: str) -> Drawing:
    squares = np.asarray(props["attention"], float)
    squares = squares[None] if squares.ndim == 2 else squares
    tokens = list(props["tokens"])
    names = list(map(str, props.get("attentionHeadNames") or range(len(squares))))
    head, query, key = (axis.ravel() for axis in np.indices(squares.shape))
    data = pd.DataFrame({"head": [names[h] for h in head], "query": query, "key": key,
                         "attention": squares.ravel()})  # fmt: skip
    shown = dict(list(zip(names, squares, strict=True))[:_MOST_ATTENTION])
    alt = f"Attention of {len(squares)} heads over {len(tokens)} tokens."
    return Drawing(caption, data, lambda: attention_figure(shown, tokens), widget,
                   kind="attention_patterns", alt=alt)  # fmt: skip


def _with_labels(props: Any) -> dict[str, Any]:
    """Properties whose tokens and names do nothing: circuitsvis writes them as markup."""
    safe = dict(props)
    for name in ("tokens", "attentionHeadNames"):
        if safe.get(name):
            safe[name] = [label(str(text)) for text in safe[name]]
    return safe


_COMPONENTS: dict[str, Callable[[dict[str, Any], Widget, str], Drawing]] = {
    "ColoredTokens": _of_tokens,
    "AttentionPattern": _of_attention,
    "AttentionHeads": _of_attention,
    "AttentionPatterns": _of_attention,
}
