"""Numbers on a grid: heads by layer, tokens by layer, cells of an addition."""

from functools import partial
from math import ceil, floor
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from viz.canvas import WIDTH, colour_bar, heat, limits, panels, require, split, ticks, title_panel
from viz.drawing import Drawing, Widget
from viz.figures.maps import Side, map_widget, side
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import number, shorten
from viz.style import palette

Grid = tuple[list, list, np.ndarray]
"""Names of the rows, names of the columns, values."""

_TALLEST = 7.6
_WRONG = "share of answers that are wrong"
_FEW_ERRORS = 0.05
"""A scale of errors goes at least so far, so that one in many cases is pale."""
_TOKENS_A_LINE = 32


def head_grid(
    data: pd.DataFrame,
    value: str,
    *,
    caption: str,
    facet: str | None = None,
    label: str = "",
) -> Drawing:
    """One number for each head: layer (down) x head, with a panel for each value of `facet`.

    `data` has the columns layer, head, `value` and `facet`, one row a head and panel; missing
    values are hatched. Panels share one scale of colours, centred on zero where the values
    have both signs. `label` names the value on the scale, with its unit.
    """
    keys = ["layer", "head", *([facet] if facet else [])]
    require(data, *keys, value)
    data = data[[*keys, value]].sort_values(["layer", "head"], kind="stable", ignore_index=True)
    title = label or axis_name(value)

    def static() -> Figure:
        return heads_figure(data, value, title, facet)

    alt = _peaks(data, value, title)
    return Drawing(caption, data, static, _heads_twin(data, value, title, facet), "head_grid", alt)


def _heads_twin(data: pd.DataFrame, value: str, title: str, facet: str | None) -> Widget | None:
    layers, heads = (sorted(data[name].unique()) for name in ("layer", "head"))
    grids = {
        name: part.pivot(index="layer", columns="head", values=value)
        .reindex(layers, columns=heads)
        .to_numpy(float, na_value=np.nan)
        for name, part in split(data, facet).items()
    }
    scale = limits(np.concatenate([values.ravel() for values in grids.values()]), title)
    sides = side("layer", "layer", layers), side("head", "head", heads)
    return map_widget(grids, *sides, scale, title, facet=facet or "")


def heads_figure(data: pd.DataFrame, value: str, title: str, facet: str | None) -> Figure:
    """Layer (down) x head in matplotlib, a panel for each value of `facet`."""
    parts = split(data, facet)
    grids = {name: _grid(part, "layer", "head", value) for name, part in parts.items()}
    layers, heads, _ = next(iter(grids.values()))
    cell = min(0.56, (WIDTH - 1) / len(heads), _TALLEST / len(layers))
    width, height = cell * len(heads) + 0.75, cell * len(layers) + 0.75
    figure, axes = panels(len(grids), max(width, 2.6), height, square=True)
    figure.set_figheight(figure.get_figheight() + 0.7)
    scale = limits(_all_values(grids), title)
    for axis, (name, (rows, columns, values)) in zip(axes, grids.items(), strict=True):
        words = np.vectorize(partial(_brief, scale[2]), otypes=[object])(values)
        written: dict[str, Any] = {"written": words, "size": 8}
        written = written if cell >= 0.44 else {}
        heat(axis, values, scale, square=True, **written)
        ticks(axis, "y", rows, cell * len(rows), rotation=0)
        ticks(axis, "x", columns, cell * len(columns) * 0.7, rotation=0)
        axis.set(xlabel="head", ylabel="layer")
        title_panel(axis, name)
    colour_bar(figure, axes, title, _undefined(grids))
    return figure


def _brief(most: float, value: float) -> str:
    """As many decimals as tell `most` in two digits: all that colours can show.

    With a true minus; nothing where nothing is defined.
    """
    if not np.isfinite(value):
        return ""
    decimals = 2 - ceil(np.log10(most or 1))
    return f"{round(float(value), decimals) + 0.0:.{max(decimals, 0)}f}".replace("-", "−")


def along_text(
    data: pd.DataFrame,
    value: str,
    *,
    caption: str,
    rows: str = "layer",
    token: str = "token",
    label: str = "",
) -> Drawing:
    """A number along a text: `rows` (down) x tokens, in equal lines of at most 32 tokens.

    `data` has the columns `rows`, pos, `token` and `value`, one row a cell; with a column
    phase, the first generated token is marked.
    """
    require(data, rows, "pos", token, value)
    title = label or axis_name(value)

    def static() -> Figure:
        return _lines_of_text(data, value, rows, token, title)

    names, positions, values = _grid(data, rows, "pos", value)
    tokens = data.drop_duplicates("pos").set_index("pos")[token]
    read = [str(tokens[pos]) for pos in positions]
    parts = [
        {"pos": int(pos), "token": label_of(one)} for pos, one in zip(positions, read, strict=True)
    ]
    new = data.loc[data["phase"] == "generated", "pos"].min() if "phase" in data else None
    marked = [f"→{word}" if pos == new else word for pos, word in zip(positions, read, strict=True)]
    sides = side(rows, axis_name(rows), names), Side("token", marked, parts)
    twin = map_widget({"": values}, *sides, limits(values, title), title)
    return Drawing(caption, data, static, twin, "along_text", _peaks(data, value, title))


def _lines_of_text(data: pd.DataFrame, value: str, rows: str, token: str, title: str) -> Figure:
    names, positions, values = _grid(data, rows, "pos", value)
    tokens = data.drop_duplicates("pos").set_index("pos")[token]
    tall = max(0.9, min(0.24 * len(names), 5.0))
    count = -(-len(positions) // _TOKENS_A_LINE)
    longest = -(-len(positions) // count)
    lines = range(0, len(positions), longest)
    width = max(3.4, 0.75 + (WIDTH - 0.75) * longest / _TOKENS_A_LINE)
    figure, axes = _stacked(len(lines), width, tall + 0.95)
    scale = limits(values, title)
    for axis, start in zip(axes, lines, strict=True):
        part = slice(start, start + longest)
        heat(axis, values[:, part], scale)
        ticks(axis, "y", names, tall, rotation=0)
        shown = [shorten(str(tokens[pos]), 12) for pos in positions[part]]
        ticks(axis, "x", shown, 99, rotation=90, family="monospace", size=8)
        axis.set_ylabel(axis_name(rows))
        axis.set_xlim(0, longest)
        _mark_generated(axis, data, positions[part])
    colour_bar(figure, axes, title, _undefined({"": (names, positions, values)}))
    return figure


def _stacked(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:

    figure = Figure(figsize=(width, count * height + 0.7), layout="constrained")
    return figure, list(figure.subplots(count, 1, squeeze=False).ravel())


def _mark_generated(axis: Axes, data: pd.DataFrame, positions: list[int]) -> None:
    if "phase" not in data:
        return
    generated = set(data.loc[data["phase"] == "generated", "pos"])
    first = next((i for i, pos in enumerate(positions) if pos in generated), None)
    if first is not None:
        axis.axvline(first, color=palette()[1], linewidth=1.5)
        side = "left" if first < 0.75 * _TOKENS_A_LINE else "right"
        words = "generated →" if side == "left" else "← given  "
        axis.text(first, -0.25, words, size=9, ha=side, va="bottom")


def cell_grid(data: pd.DataFrame, *, caption: str) -> Drawing:
    """Errors in cells of additions: run of nines (down) x decimal place, a panel for each carry.

    `data` has the columns place, run, carry, n and accuracy (a share, 0 to 1), one row a cell;
    the share of wrong answers, and n, are written in each. Places run from right to left, as
    digits are written; cells that cannot occur are hatched.
    """
    require(data, "place", "run", "carry", "n", "accuracy")
    data = data.assign(wrong=1 - data["accuracy"])
    high, worst = max(data["wrong"].max(), _FEW_ERRORS), data.loc[data["wrong"].idxmax()]

    def static() -> Figure:
        return _cells(data, high)

    alt = (
        f"{_WRONG} in {len(data)} cells of place, run and carry; the worst, {worst['wrong']:.3f}, "
        f"at place {worst['place']:.0f}, run {worst['run']:.0f}, carry {worst['carry']:.0f}."
    )
    return Drawing(caption, data, static, _cells_twin(data, high), "cell_grid", alt)


def _cells_twin(data: pd.DataFrame, high: float) -> Widget | None:
    places, runs, panels = _by_carry(data)
    grids = {name: shares.to_numpy(float) for name, (shares, _) in panels.items()}
    text = {
        name: [[word.replace("\n", " · n ") for word in row] for row in _in_cells(*pair)]
        for name, pair in panels.items()
    }
    sides = side("run", axis_name("run"), runs), side("place", axis_name("place"), places)
    return map_widget(grids, *sides, (False, 0.0, high), _WRONG, text=text)


def _by_carry(
    data: pd.DataFrame,
) -> tuple[list[int], list[int], dict[str, tuple[pd.DataFrame, pd.DataFrame]]]:
    """Places and runs, and for each carry the shares and how many cases [run place]."""
    places = sorted(data["place"].unique(), reverse=True)
    runs = sorted(data["run"].unique())
    panels = {}
    for carry, part in sorted(data.groupby("carry")):
        shares, counts = (
            part.pivot(index="run", columns="place", values=name).reindex(runs, columns=places)
            for name in ("wrong", "n")
        )
        panels[f"errors where {'a' if carry else 'no'} carry comes in"] = shares, counts
    return places, runs, panels


def _in_cells(shares: pd.DataFrame, counts: pd.DataFrame) -> list[list[str]]:
    return [
        [_in_cell(share, n) for share, n in zip(*pair, strict=True)]
        for pair in zip(shares.to_numpy(float), counts.to_numpy(float), strict=True)
    ]


def _cells(data: pd.DataFrame, high: float) -> Figure:
    places, runs, by_carry = _by_carry(data)
    width, height = 0.62 * len(places) + 0.8, 0.46 * len(runs) + 1.0
    figure, axes = panels(len(by_carry), width, height)
    figure.set_figheight(figure.get_figheight() + 0.6)
    for axis, (name, (shares, counts)) in zip(axes, by_carry.items(), strict=True):
        heat(axis, shares.to_numpy(float), (False, 0.0, high),
             written=_in_cells(shares, counts), size=8, linespacing=1.1)  # fmt: skip
        ticks(axis, "y", runs, 9, rotation=0)
        ticks(axis, "x", places, 99, rotation=0)
        axis.set(xlabel=axis_name("place"), ylabel=axis_name("run"))
        title_panel(axis, name)
    colour_bar(figure, axes, _WRONG, undefined=False)
    return figure


def _in_cell(share: float, n: float) -> str:
    """Rounded towards a half, so that only a cell without a single error shows 1, or 0."""
    if share != share:
        return ""
    rounded = floor(share * 1000 + 1e-9) if share > 0.5 else ceil(share * 1000 - 1e-9)
    digits = str(int(share)) if share in (0, 1) else f"{rounded / 1000:.3f}".lstrip("0")
    return f"{digits}\n{n:,.0f}"


def _grid(data: pd.DataFrame, rows: str, columns: str, value: str) -> Grid:
    wide = data.pivot(index=rows, columns=columns, values=value)
    return list(wide.index), list(wide.columns), wide.to_numpy(float, na_value=float("nan"))


def _all_values(grids: dict[str, Grid]) -> np.ndarray:

    return np.concatenate([values.ravel() for _, _, values in grids.values()])


def _undefined(grids: dict[str, Grid]) -> bool:
    return bool((_all_values(grids) != _all_values(grids)).any())


def _peaks(data: pd.DataFrame, value: str, title: str) -> str:
    """What a reader who cannot see the picture is told: the range, and where its ends are."""
    known = data[data[value].notna()]
    if known.empty:
        return f"{title}: no value is defined."
    ends = {"lowest": known.loc[known[value].idxmin()], "highest": known.loc[known[value].idxmax()]}
    keys = [name for name in data.columns if name != value][:4]
    parts = [
        f"{end} {number(row[value])} at " + ", ".join(f"{key} {row[key]}" for key in keys)
        for end, row in ends.items()
    ]
    return f"{title}: " + "; ".join(parts) + "."
