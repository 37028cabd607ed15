"""Several tokens in each cell of a grid, one below the other, each coloured by its number."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from viz.canvas import WIDTH, limits, require
from viz.drawing import Drawing
from viz.glossary import axis_name
from viz.labels import label as label_of
from viz.labels import shorten
from viz.style import color_map, font_families, ink_on

_LINE, _GAP = 0.155, 0.09
"""Inches: the height of a chip, and what lies between two rows of cells."""
_LETTERS = 13
_SIZE = 7.0


def token_chips(
    data: pd.DataFrame,
    rows: str,
    value: str,
    *,
    caption: str,
    token: str = "token",
    order: str = "step",
    heading: str = "heading",
    label: str = "",
) -> Drawing:
    """Tokens in the cells of `rows` (down, the last one on top) x pos, in the order of `order`.

    `data` has the columns `rows`, pos, `heading` (what is written above a pos), `order`, `token`
    and `value`, one row a token. More `value` is a deeper colour, on one scale for all.
    """
    require(data, rows, "pos", heading, order, token, value)
    title = label or axis_name(value)

    def static() -> Figure:
        return _chips(data, rows, value, token, order, heading, title)

    first = data.sort_values(value).iloc[-1]
    alt = (
        f"Tokens of {data[rows].nunique()} rows at {data['pos'].nunique()} positions; {title} is "
        f"highest for {label_of(first[token])!r} at {rows} {first[rows]}, {first[heading]}."
    )
    return Drawing(caption, data, static, kind="token_chips", alt=alt)


def _chips(
    data: pd.DataFrame, rows: str, value: str, token: str, order: str, heading: str, title: str
) -> Figure:
    down = sorted(data[rows].unique(), reverse=True)
    across = data.drop_duplicates("pos").sort_values("pos").set_index("pos")[heading]
    lines = int(data.groupby([rows, "pos"]).size().max())
    high = lines * _LINE + _GAP
    figure = Figure(figsize=(WIDTH, high * len(down) + 1.35), layout="constrained")
    axis = figure.subplots()
    _, low, most = limits(data[value].to_numpy(float), title)
    colours = ScalarMappable(Normalize(low, most), color_map(False))
    for (row, pos), cell in data.groupby([rows, "pos"]):
        top, left = down.index(row) * high, across.index.get_loc(pos)
        chips = cell.sort_values(order)
        for line, (text, number) in enumerate(zip(chips[token], chips[value], strict=True)):
            where = (left + 0.02, top + line * _LINE + _GAP / 2)
            _chip(axis, where, str(text), tuple(colours.to_rgba(number)))
    axis.set(xlim=(0, len(across)), ylim=(high * len(down), 0), ylabel=axis_name(rows))
    axis.set_yticks([(number + 0.5) * high for number in range(len(down))], map(str, down))
    words = [shorten(label_of(str(text), "matplotlib"), _LETTERS) for text in across]
    axis.set_xticks([place + 0.5 for place in range(len(across))], words, family=_mono(), size=8)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    _scale_below(figure, axis, colours, title)
    return figure


def _chip(axis: Axes, where: tuple[float, float], text: str, colour: tuple) -> None:
    patch = FancyBboxPatch(where, 0.96, _LINE * 0.88, boxstyle="square,pad=0", linewidth=0)
    patch.set_facecolor(colour)
    axis.add_patch(patch)
    text = shorten(label_of(text, "matplotlib"), _LETTERS)
    axis.text(where[0] + 0.03, where[1] + _LINE * 0.46, text, size=_SIZE, ha="left", va="center",
              color=ink_on(colour, 0.2), family=_mono(), clip_on=True)  # fmt: skip


def _scale_below(figure: Figure, axis: Axes, colours: ScalarMappable, title: str) -> None:
    bar = figure.colorbar(colours, ax=axis, location="bottom", fraction=0.03, pad=0.02, aspect=40)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.set_label(title)


def _mono() -> list[str]:
    return ["DejaVu Sans Mono", *font_families()]
