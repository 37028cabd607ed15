"""A flow through a model: rows are layers, columns tokens, widths the shares of one state.

The interactive twin holds the shares of every state by every rule, and traces back from any cell
in the browser (`static/flow.js`); the still picture shows the flow that was given. It is no Sankey
of plotly: that places no token inside a node of an aligned column, and no joint within a layer.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from viz.canvas import WIDTH, require
from viz.drawing import Drawing, Widget
from viz.labels import label, shorten
from viz.style import color_map, ink_on, palette

SHOWN = 0.01
"""Share below which a link or a column is not told apart in the still picture."""
_TALL, _THIN = 0.2, 0.05
_GAPS = (0.05, 0.2, 0.42)
"""Inches between rows: where attention brings nothing; least and most where it does."""
_TALLEST = 5.0
_NARROW, _GUTTER = 0.13, 0.34
_MOST = 13.0
"""Points: the width of a link that carries everything."""
_LETTER = 0.062
_COLOURS = {"attention": 1, "mlp": 2, "residual": None, "past the mlp": None}


@dataclass(frozen=True)
class _Chart:
    """What is drawn: states and links of one rule, and what each state decodes to."""

    states: pd.DataFrame
    links: pd.DataFrame
    words: dict[tuple[int, int], str]
    certainty: dict[tuple[int, int], float]
    key: Sequence[int]


def flow_chart(
    nodes: pd.DataFrame,
    links: pd.DataFrame,
    cells: pd.DataFrame,
    shares: Mapping[str, np.ndarray],
    *,
    rules: Sequence[str],
    rule: str,
    threshold: tuple[str, float],
    traced: str,
    caption: str,
    key: Sequence[int] = (),
) -> Drawing:
    """The flow into one state, as a Sankey whose rows are layers and whose columns are tokens.

    `nodes` (rule, part, depth, pos, weight) and `links` (rule, kind, layer, query, source, weight)
    are the flow by each rule; `cells` (depth, pos, rank, input, decoded, probability, gradient)
    what states decode to. `shares` holds arrays [rule layer ...] attention, bias, residual, mlp,
    head and loading, and `parallel`, with which the page traces any other state, and `clipped`,
    the share of each rule's scores that was cut off below zero. `key` are
    positions that the traced token is known to come from. Raises ValueError for a rule without
    nodes.
    """
    require(nodes, "rule", "part", "depth", "pos", "weight")
    require(links, "rule", "kind", "layer", "query", "source", "weight")
    require(cells, "depth", "pos", "rank", "input", "decoded", "probability", "gradient")
    chart = _chart(nodes[nodes["rule"] == rule], links[links["rule"] == rule], cells, key)
    if chart.states.empty:
        raise ValueError(f"no nodes of the rule {rule!r} to draw")
    opens = {"rule": rule, "threshold": list(threshold)}
    props = _props(cells, shares, rules, key) | {"opens": opens, "traced": label(traced)}
    heaviest = chart.links[chart.links["kind"] == "attention"].nlargest(1, "weight")
    alt = f"Flow into the state that predicts {label(traced)!r}, by the rule {rule}."
    for one in heaviest.itertuples():
        source = label(str(chart.words[0, one.source]))
        alt += f" Most is brought in layer {one.layer}, from {source!r} at pos {one.source}."
    return Drawing(
        caption, chart.links.reset_index(drop=True), lambda: _still(chart),
        Widget("flow", "", props), kind="flow", alt=alt,
    )  # fmt: skip


def _chart(
    nodes: pd.DataFrame, links: pd.DataFrame, cells: pd.DataFrame, key: Sequence[int]
) -> _Chart:
    first = cells[cells["rank"] == 0]
    shown = first["decoded"].where(first["depth"] > 0, first["input"])
    at = list(zip(first["depth"], first["pos"], strict=True))
    return _Chart(
        nodes[nodes["part"] == "state"].astype({"depth": int}),
        links[~links["kind"].isin(["bias", "dropped"])],
        dict(zip(at, shown, strict=True)),
        dict(zip(at, first["probability"], strict=True)),
        key,
    )


# --- interactive ---


def _props(
    cells: pd.DataFrame, shares: Mapping[str, np.ndarray], rules: Sequence[str], key: Sequence[int]
) -> dict[str, Any]:
    """Everything that the page traces and shows, small enough to stand in it."""
    ordered = cells.sort_values(["depth", "pos", "rank"])
    words, index = np.unique(ordered["decoded"].to_numpy(dtype=str), return_inverse=True)
    first = ordered[ordered["rank"] == 0]
    tokens = first[first["depth"] == 0]["input"]
    return {
        "tokens": [label(token) for token in tokens],
        "layers": int(shares["attention"].shape[1]),
        "parallel": bool(shares["parallel"].any()),
        "top": int(shares["head"].shape[-1]),
        "key": [int(pos) for pos in key],
        "rules": {rule: _packed(shares, number) for number, rule in enumerate(rules)},
        "words": [label(word) for word in words],
        "cells": {
            "count": int(ordered["rank"].max()) + 1,
            "index": index.ravel().tolist(),
            "probability": (1000 * ordered["probability"]).round().astype(int).tolist(),
        },
        "gradient": _on_a_log_scale(first["gradient"].to_numpy(float)),
        "clipped": dict(zip(rules, shares["clipped"].tolist(), strict=True)),
        **_decides(shares),
    }


def _decides(shares: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """Percent of what a state decodes to that stream, attention and MLP decide, if that is told."""
    if "vocabulary" not in shares:
        return {}
    return {"vocabulary": (100 * shares["vocabulary"]).round().astype(int).ravel().tolist()}


def _packed(shares: Mapping[str, np.ndarray], rule: int) -> dict[str, str]:
    """One rule's shares in base64: sources up to the query alone, as 16-bit square roots."""
    lower = np.tril_indices(shares["attention"].shape[-1])
    attention = shares["attention"][rule][:, *lower]
    loading = shares["loading"][rule][:, *lower][..., :-1]
    of_link = np.divide(loading, attention[..., None], out=np.zeros_like(loading),
                        where=attention[..., None] > 0)  # fmt: skip
    roots = {name: shares[name][rule] for name in ("bias", "mlp", "residual")}
    packed = {name: _roots(values) for name, values in roots.items()}
    return packed | {
        "attention": _roots(attention),
        "head": _base64(shares["head"][rule][:, *lower].astype(np.uint8)),
        "loading": _base64((255 * of_link.clip(0, 1)).round().astype(np.uint8)),
    }


def _roots(values: Float[np.ndarray, "..."]) -> str:
    return _base64((65535 * np.sqrt(values.clip(0, 1))).round().astype("<u2"))


def _base64(values: Integer[np.ndarray, "..."]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _on_a_log_scale(values: Float[np.ndarray, "cell"]) -> list[int]:
    """Thousandths: 1 for the largest, 0 for what is a ten-thousandth of it or less."""
    most = values.max(initial=0.0)
    if most == 0:
        return [0] * len(values)
    logs = np.log10(np.maximum(values / most, 1e-4))
    return (1000 * (1 + logs / 4)).round().astype(int).tolist()


# --- still ---


@dataclass(frozen=True)
class _Grid:
    """Where rows and columns lie, in inches from the top left."""

    left: list[float]
    wide: list[float]
    top: dict[int, float]
    high: dict[int, float]
    width: float
    height: float

    def x(self, pos: int) -> float:
        """The middle of a column."""
        return self.left[pos] + self.wide[pos] / 2

    def gap(self, layer: int) -> tuple[float, float, float]:
        """Top, joint and bottom of the room between two rows."""
        top, bottom = self.top[layer + 1] + self.high[layer + 1], self.top[layer]
        return top, top + 0.32 * (bottom - top), bottom


def _grid(chart: _Chart) -> _Grid:
    """Rows between which attention brings nothing lie close; columns without weight are narrow."""
    tokens, depth = 1 + max(pos for _, pos in chart.words), int(chart.states["depth"].max())
    heaviest = chart.states.groupby("pos")["weight"].max().reindex(range(tokens), fill_value=0.0)
    is_wide = (heaviest >= SHOWN).tolist()
    wide = [_NARROW] * tokens
    across = WIDTH - _GUTTER - _NARROW * is_wide.count(False)
    column = min(0.95, max(0.3, across / max(1, sum(is_wide))))
    wide = [column if on else _NARROW for on in is_wide]
    left = [_GUTTER, *(_GUTTER + np.cumsum(wide)).tolist()]
    strong = chart.links[(chart.links["kind"] == "attention") & (chart.links["weight"] >= SHOWN)]
    busy = set(strong["layer"])
    room = min(_GAPS[2], max(_GAPS[1], _TALLEST / max(1, len(busy))))
    top, high, y = {}, {}, 0.1
    for row in range(depth, -1, -1):
        tall = row in {0, depth} or row in busy or row - 1 in busy
        top[row], high[row] = y, _TALL if tall else _THIN
        y += high[row] + ((room if row - 1 in busy else _GAPS[0]) if row else 0)
    return _Grid(left[:-1], wide, top, high, left[-1], y + 0.55)


def _still(chart: _Chart) -> Figure:
    grid = _grid(chart)
    figure = Figure(figsize=(max(grid.width + 0.05, WIDTH), grid.height), layout="none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, figure.get_figwidth()), ylim=(grid.height, 0))
    axis.set_axis_off()
    for link in chart.links.sort_values("weight").itertuples():
        if link.weight >= SHOWN:
            _ribbon(axis, grid, link)
    passing = {(one.depth, one.pos) for one in chart.states.itertuples() if one.weight >= SHOWN}
    for depth, pos in sorted(passing | {(0, pos) for pos in range(len(grid.left))}):
        _state(axis, grid, chart, depth, pos)
    _words_around(axis, grid, chart)
    return figure


def _ribbon(axis: Axes, grid: _Grid, link: Any) -> None:
    """A link; the stream runs straight, the MLP bulges to the right, attention bends across."""
    top, mid, bottom = grid.gap(link.layer)
    x, end = grid.x(link.query), grid.x(link.source)
    way = {"past the mlp": (top, mid, 0.0), "residual": (mid, bottom, 0.0), "mlp": (top, mid, 0.16)}
    start, stop, bulge = way.get(link.kind, (mid, bottom, -0.2 if x == end else 0.0))
    half = (start + stop) / 2
    points = [(x, start), (x + bulge, half), (end + bulge, half), (end, stop)]
    colour = _COLOURS[link.kind]
    style = {"color": "0.6" if colour is None else palette()[colour], "alpha": 0.6}
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    axis.add_patch(PathPatch(path, fill=False, linewidth=max(0.4, _MOST * link.weight), **style,
                             capstyle="butt"))  # fmt: skip


def _state(axis: Axes, grid: _Grid, chart: _Chart, depth: int, pos: int) -> None:
    wide, high = grid.wide[pos] - 0.06, grid.high[depth]
    sure = chart.certainty[depth, pos]
    colour = color_map(False)(0.06 + 0.7 * sure)
    box = FancyBboxPatch(
        (grid.left[pos] + 0.03, grid.top[depth]), wide, high,
        boxstyle="round,pad=0,rounding_size=.03", facecolor=colour, edgecolor="0.6", linewidth=0.4,
    )  # fmt: skip
    axis.add_patch(box)
    if high == _TALL and wide > _NARROW:
        shown = label(
            shorten(str(chart.words[depth, pos]), max(1, int(wide / _LETTER))), "matplotlib"
        )
        axis.text(grid.x(pos), grid.top[depth] + high / 2, shown, ha="center", va="center_baseline",
                  size=6.5, color=ink_on(colour, 0.2))  # fmt: skip


def _words_around(axis: Axes, grid: _Grid, chart: _Chart) -> None:
    """Numbers of layers at the left; at the bottom each token's place and share."""
    bottom = chart.states[chart.states["depth"] == 0].set_index("pos")["weight"]
    for depth in sorted(grid.top)[1:]:
        if grid.high[depth] == _TALL or grid.high[depth - 1] == _TALL:
            axis.text(0.04, grid.gap(depth - 1)[1], str(depth - 1), va="center", size=6.5)
    axis.text(0.04, 0.06, "layer", va="center", size=6)
    for pos in range(len(grid.left)):
        y = grid.top[0] + grid.high[0] + 0.05
        style = {"ha": "center", "va": "top", "size": 6.5}
        if pos in chart.key:
            style["weight"] = "bold"
        if grid.wide[pos] > _NARROW:
            axis.text(grid.x(pos), y, f"{pos}\n{bottom.get(pos, 0.0):.0%}", **style)
        else:
            word = label(shorten(str(chart.words[0, pos]), 8), "matplotlib")
            axis.text(grid.x(pos), y, word, rotation=90, **style)
