"""Any number for each pair of two axes: rows x columns, with a panel for each facet."""

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viz.canvas import (
    WIDTH,
    colour_bar,
    heat,
    in_lines,
    limits,
    panels,
    require,
    split,
    ticks,
    title_panel,
)
from viz.drawing import Drawing, Widget, storable
from viz.figures.maps import map_widget, side
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import number, shorten

_TALLEST = 7.6
_NARROWEST = 3.2
"""Inches: room for the numbers below a colour bar."""
_CELL = (0.17, 0.5)
"""Inches: the sides of the smallest and of the largest cell."""
_FEW = 12
"""Rows whose names may take two lines each, or columns whose names may be long."""
_TWO_LINES = 0.31
"""Inches: the height of a row with a name in two lines."""
_LETTER = 0.0088
"""Inches that a letter takes of each point of its size."""

_AS_WRITTEN = {"place", "read_place", "column"}
"""Decimal places go from right to left, as digits are written."""

Scale = tuple[bool, float, float]


def heat_map(
    data: pd.DataFrame,
    rows: str,
    columns: str,
    value: str,
    *,
    caption: str,
    facet: str | None = None,
    text: str | None = None,
    diverging: bool = False,
    low: float | None = None,
    high: float | None = None,
    label: str = "",
) -> Drawing:
    """A number for each pair of `rows` (down) and `columns`, with a panel for each `facet`.

    `data` has one row a cell; cells that are missing or not finite are hatched. Axes of numbers
    are sorted (decimal places as digits are written), others keep their order of appearance.
    Panels share one scale of colours, from `low` to `high` where they are given; it is centred on
    zero where values have both signs or `diverging` says so. The column `text` is written into
    the cells, where it can be read.
    Raises ValueError for two rows of one cell.
    """
    keys = [rows, columns, *([facet] if facet else [])]
    require(data, *keys, value, *([text] if text else []))
    if data.duplicated(keys).any():
        raise ValueError(f"two rows for one cell of {', '.join(keys)}")
    if text:
        data = data.assign(**storable(data[[text]]))
    title = label or axis_name(value)
    values = data[value].to_numpy(float, na_value=float("nan"))
    scale = _scale(values, diverging, low, high, title)

    def static() -> Figure:
        return _maps(split(data, facet), (rows, columns, value, text), scale, title)

    alt = _said(data, keys, value, title)
    twin = _twin(data, (rows, columns, value, text), facet, scale, title)
    return Drawing(caption, data, static, twin, kind="heat_map", alt=alt)


def _twin(
    data: pd.DataFrame, names: tuple[str, str, str, str | None], facet: str | None, scale: Scale,
    title: str,
) -> Widget | None:  # fmt: skip
    """The same map to play with."""
    rows, columns, value, text = names
    down, across = _axes(data, rows, columns)
    parts = split(data, facet)
    grids = {
        name: _wide(part, rows, columns, value, down, across).to_numpy(float, na_value=np.nan)
        for name, part in parts.items()
    }
    words = text and {
        name: _wide(part, rows, columns, text, down, across).fillna("").to_numpy().tolist()
        for name, part in parts.items()
    }
    sides = side(rows, axis_name(rows), down), side(columns, axis_name(columns), across)
    return map_widget(grids, *sides, scale, title, text=words or None, facet=facet or "")


def _scale(
    values: np.ndarray, diverging: bool, low: float | None, high: float | None, title: str
) -> Scale:
    """Whether colours are centred on zero, and the two ends."""
    _, least, most = limits(values, title)
    least, most = least if low is None else low, most if high is None else high
    if diverging or least < 0 < most:
        furthest = max(abs(least), abs(most))
        return True, -furthest, furthest
    return False, least, most


def _maps(
    parts: dict[str, pd.DataFrame],
    names: tuple[str, str, str, str | None],
    scale: Scale,
    title: str,
) -> Figure:

    rows, columns, value, text = names
    whole = pd.concat(parts.values())
    down, across = _axes(whole, rows, columns)
    shown = [shorten(str(name), 24 if len(across) <= _FEW else 16) for name in across]
    beside = [in_lines(str(name), 16, 2 if len(down) <= _FEW else 1) for name in down]
    margin = 0.45 + 0.075 * max(len(line) for name in beside for line in name.split("\n"))
    abreast = _abreast(len(parts), len(across), bool(text))
    room = WIDTH / abreast - margin
    wide, high = _cell(whole, text, len(down), len(across), room)
    high = max(high, _TWO_LINES) if any("\n" in name for name in beside) else high
    below = 0.85 + (0.05 * max(map(len, shown)) if _is_turned(shown, wide) else 0)
    figure, axes = panels(len(parts), wide * len(across) + margin, high * len(down) + below)
    figure.set_figwidth(max(_NARROWEST, figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + 0.75)
    undefined, letters = False, int((wide * len(across) + 0.3) / (10 * _LETTER))
    under = fill(axis_name(columns), max(8, letters))
    for panel, (axis, (name, part)) in enumerate(zip(axes, parts.items(), strict=True)):
        grid = _wide(part, rows, columns, value, down, across).to_numpy(
            float, na_value=float("nan")
        )
        undefined |= bool((grid != grid).any())
        heat(axis, grid, scale, **_written(part, names, (down, across), (wide, high)))
        ticks(axis, "y", down, high * len(down), rotation=0)
        axis.set_yticklabels([beside[int(place)] for place in axis.get_yticks()])
        _ticks_across(axis, shown, wide)
        axis.set(xlabel=under, ylabel=axis_name(rows) if panel == 0 else "")
        title_panel(axis, name)
    colour_bar(figure, axes, title, undefined)
    return figure


def _abreast(count: int, columns: int, written: bool) -> int:
    """How many panels stand side by side."""
    if written or count < 3:
        return 1
    if columns > 10:
        return 2
    return 4 if count > 6 and columns <= 8 else 3


def _axes(data: pd.DataFrame, rows: str, columns: str) -> tuple[list, list]:
    """What stands at the side and along the bottom, in order."""
    down, across = _order(data[rows]), _order(data[columns])
    return down, across[::-1] if columns in _AS_WRITTEN else across


def _order(axis: pd.Series) -> list:
    """Numbers in order of size, words in order of appearance."""
    names = list(dict.fromkeys(axis))
    return sorted(names) if axis.dtype.kind in "iufb" else names


def _cell(
    whole: pd.DataFrame, text: str | None, rows: int, columns: int, room: float
) -> tuple[float, float]:
    """Width and height of a cell in inches: wider where something is written into it."""
    least, most = _CELL
    roomy = most if text is None else max(most, 8 * _LETTER * _longest(whole[text]) + 0.08)
    wide = max(least if room > 3 else 0.08, min(roomy, room / columns))
    return wide, max(least, min(most, 0.42 if text else most, _TALLEST / rows, wide * 1.6))


def _longest(texts: pd.Series) -> int:
    return max(1, *(len(_word(text)) for text in texts.fillna("")))


def _word(text: object) -> str:
    """What is written into a cell: one line, harmless, and cut where it is long; sums less so."""
    return label_of(shorten(str(text), 22 if " + " in str(text) else 12), "matplotlib")


def _wide(
    part: pd.DataFrame, rows: str, columns: str, value: str, down: list, across: list
) -> pd.DataFrame:
    return part.pivot(index=rows, columns=columns, values=value).reindex(down, columns=across)


def _written(
    part: pd.DataFrame,
    names: tuple[str, str, str, str | None],
    axes: tuple[list, list],
    cell: tuple[float, float],
) -> dict[str, Any]:
    """What is written into the cells, at a size that fits; nothing where none can be read."""
    rows, columns, _, text = names
    if text is None:
        return {}
    size = min(8.0, (cell[0] - 0.04) / _LETTER / _longest(part[text]), cell[1] * 72 / 1.25)
    if size < 3.5:
        return {}
    words = _wide(part, rows, columns, text, *axes).fillna("")
    return {"written": words.map(_word).to_numpy(), "size": size}


def _ticks_across(axis: Axes, names: list[str], wide: float) -> None:
    """Names under the columns, turned where they are too long to stand side by side."""
    turned = _is_turned(names, wide)
    room = wide * len(names) * (1 if turned else 0.7)
    ticks(axis, "x", names, room, rotation=90 if turned else 0)


def _is_turned(names: list[str], wide: float) -> bool:
    longest = max(map(len, names))
    return longest * 9 * _LETTER > wide and longest > 3


def _said(data: pd.DataFrame, keys: list[str], value: str, title: str) -> str:
    """What a reader who cannot see the picture is told: where the ends of the range are."""
    known = data[data[value].notna()]
    if known.empty:
        return f"{title}: no value is defined."
    ends = {"lowest": known.loc[known[value].idxmin()], "highest": known.loc[known[value].idxmax()]}
    parts = [
        f"{end} {number(row[value])} at " + ", ".join(f"{key} {row[key]}" for key in keys)
        for end, row in ends.items()
    ]
    return f"{title}: " + "; ".join(parts) + "."
