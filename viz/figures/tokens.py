"""Text with its tokens coloured, and what each token attends to."""

from collections.abc import Sequence
from unicodedata import east_asian_width

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from viz.canvas import WIDTH, colour_bar, heat, panels, require, ticks, title_panel
from viz.drawing import Drawing
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import number, shorten
from viz.style import color_map, font_families, ink_on, token_scale
from viz.widgets import (
    attended_tokens_widget,
    attention_heatmap,
    attention_widget,
    colored_tokens_widget,
)

_COLUMNS = 64
_NARROWEST = 2.8
"""Inches: room for a scale of colours."""
_MOST_TOKENS = 64
_MOST_PANELS = 12


def colored_tokens(
    data: pd.DataFrame, value: str, *, caption: str, token: str = "token", label: str = ""
) -> Drawing:
    """Text whose tokens are coloured by a column: circuitsvis, with a still twin.

    One row of `data` is a token, in reading order, with the columns `token` and `value`.

    Raises:
        ValueError: a value is missing.
    """
    require(data, token, value)
    title = label or axis_name(value)
    tokens, values = data[token].tolist(), data[value].to_numpy(float)
    widget = colored_tokens_widget(tokens, values.tolist(), title)

    def static() -> Figure:
        return text_figure(tokens, values, title)

    ends = f"from {number(values.min())} to {number(values.max())}"
    alt = f"{title} of {len(data)} tokens, {ends}."
    return Drawing(caption, data, static, widget, kind="colored_tokens", alt=alt)


def text_figure(tokens: list[str], values: np.ndarray, title: str) -> Figure:
    """Text whose tokens are coloured by a number, with its scale below; in the open theme."""
    placed, lines = _flow([shorten(label_of(token, "matplotlib"), 24) for token in tokens])
    columns = max(column + width for column, _, width, _ in placed)
    wide = max(_NARROWEST, WIDTH * columns / _COLUMNS)
    figure = Figure(figsize=(wide, 0.3 * lines + 0.75), layout="constrained")
    axis = figure.subplots()
    centred, low, high = token_scale(values)
    colours = ScalarMappable(Normalize(low, high), color_map(centred))
    for (column, line, width, text), value in zip(placed, values, strict=True):
        _box(axis, (column, line, width), text, tuple(colours.to_rgba(value)))
    axis.set(xlim=(-0.5, _COLUMNS * wide / WIDTH + 0.5), ylim=(lines, 0))
    axis.axis("off")
    _scale_below(figure, axis, colours)
    figure.axes[-1].set_xlabel(title)
    return figure


def _scale_below(figure: Figure, axis: Axes, colours: ScalarMappable) -> None:
    """A thin scale of colours of at most three inches, on the left."""
    wide, high = figure.get_size_inches()
    long, thick = min(wide - 0.3, 3.0), 0.09
    bar = figure.colorbar(colours, ax=axis, location="bottom", fraction=thick / high, pad=0.04,
                          aspect=long / thick, anchor=(0.0, 1.0))  # fmt: skip
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
    bar.outline.set_visible(False)


def _flow(texts: list[str]) -> tuple[list[tuple[float, int, float, str]], int]:
    """Column, line and width (columns) of each text set one after another, and the lines."""
    placed, column, line = [], 0.0, 0
    for text in texts:
        width = sum(2 if east_asian_width(char) in "WF" else 1 for char in text) + 0.8
        if column and column + width > _COLUMNS:
            column, line = 0.0, line + 1
        placed.append((column, line, width, text))
        column += width
    return placed, line + 1


def _box(axis: Axes, where: tuple[float, int, float], text: str, colour: tuple) -> None:

    column, line, width = where
    axis.add_patch(Rectangle((column, line + 0.06), width, 0.88, facecolor=colour, linewidth=0))
    axis.text(column + width / 2, line + 0.52, text, size=9, ha="center", va="center",
              color=ink_on(colour, 0.2), family=_mono())  # fmt: skip


def _mono() -> list[str]:

    return ["DejaVu Sans Mono", *font_families()]


def attention_patterns(
    data: pd.DataFrame,
    tokens: Sequence[str],
    *,
    caption: str,
    by_token: bool = False,
    heading: str = "",
) -> Drawing:
    """What each token attends to, by head: circuitsvis, with a still twin.

    `data` has the columns layer, head, query, key (positions) and attention, one row a pair
    (pairs that are not there count as 0); `tokens` are the token strings by position. Above 64
    tokens the interactive figure is a plotly heat-map; `by_token` it has the text below, in which
    one points at a token to see what it attends to. The still one shows up to 12 heads. Heads of
    one layer stand below `heading`, which names the layer where none is given.
    """
    require(data, "layer", "head", "query", "key", "attention")
    patterns = _patterns(data, len(tokens))
    short = attended_tokens_widget if by_token else attention_widget
    make = short if len(tokens) <= _MOST_TOKENS else attention_heatmap
    if len(patterns) > _MOST_PANELS:
        caption += f" The still picture shows the first {_MOST_PANELS} of {len(patterns)} heads."
    layers = sorted(data["layer"].unique())
    if len(layers) == 1:
        heading = heading or f"Layer {layers[0]}, by head"

    def static() -> Figure:
        return attention_figure(dict(list(patterns.items())[:_MOST_PANELS]), tokens, heading)

    alt = f"Attention of {len(patterns)} heads over {len(tokens)} tokens."
    return Drawing(caption, data, static, make(tokens, patterns), kind="attention_patterns",
                   alt=alt, heading=heading)  # fmt: skip


def _patterns(data: pd.DataFrame, length: int) -> dict[str, np.ndarray]:
    """The square of each head: by its number where there is one layer, else as in L0H3."""
    patterns, one = {}, data["layer"].nunique() == 1
    for (layer, head), part in data.groupby(["layer", "head"]):
        pattern = np.zeros((length, length))
        pattern[part["query"], part["key"]] = part["attention"]
        patterns[str(head) if one else f"L{layer}H{head}"] = pattern
    return patterns


def attention_figure(
    patterns: dict[str, np.ndarray], tokens: Sequence[str], heading: str = ""
) -> Figure:
    """Heat maps from query rows to key columns, a panel a head; in the open theme."""
    one = len(patterns) == 1
    size = min(5.6, max(3.0, 0.2 * len(tokens) + 1)) if one else 2.1
    figure, axes = panels(len(patterns), size, size, square=True)
    figure.set_figheight(figure.get_figheight() + 0.7)
    later = np.triu(np.ones((len(tokens), len(tokens)), dtype=bool), 1)
    for axis, (name, pattern) in zip(axes, patterns.items(), strict=True):
        seen = np.where(later & (pattern == 0), np.nan, pattern)
        heat(axis, seen, (False, 0.0, 1.0), hatched=False, square=True)
        title_panel(axis, f"head {name}" if heading else name)
        axis.set(xticks=[], yticks=[])
        if one and len(tokens) <= _MOST_TOKENS:
            shown = [shorten(token, 12) for token in tokens]
            ticks(axis, "x", shown, size * 1.3, rotation=90, family=_mono(), size=8)
            ticks(axis, "y", shown, size * 1.3, rotation=0, family=_mono(), size=8)
    figure.supylabel("from (query)", size=10)
    colour_bar(figure, axes, f"to (key) →      {axis_name('attention')}", undefined=False)
    return figure
