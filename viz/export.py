"""A drawing as one file for a paper: at a given width, with fonts that journals take."""

from pathlib import Path
from typing import Literal, get_args

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

from viz.drawing import Drawing, storable
from viz.labels import label
from viz.style import PAPER, theme

Format = Literal["pdf", "svg", "png", "csv"]
FORMATS: tuple[str, ...] = get_args(Format)

_EMBEDDED = {"pdf.fonttype": 42, "ps.fonttype": 42}
"""TrueType: many journals refuse matplotlib's default, Type 3."""
_SMALLEST = 0.7
"""Of the size of text: ten points become seven, which journals still take."""
_DPI = 300


def export(
    drawing: Drawing, path: Path | str, *, width: float | None = None, title: str = ""
) -> Path:
    """Write a drawing, or as .csv its data, in the format of the path's suffix.

    `width` is in inches: a narrower figure is laid out anew, its text at most 30 % smaller.
    `title` stands above it; without one there is none, since a paper has its own.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        storable(drawing.data).to_csv(path, index=False)
        return path
    with theme("light"), matplotlib.rc_context(_EMBEDDED):
        figure = drawing.static()
        if title:
            figure.suptitle(label(title, "matplotlib"), parse_math=False)
        if width is not None:
            _resize(figure, width)
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:])
        figure.savefig(path, dpi=_DPI, metadata=undated, facecolor=PAPER["light"])
    return path


def _resize(figure: Figure, width: float) -> None:
    """Another width, the same proportions; text shrinks less than the rest."""
    before, height = figure.get_size_inches()
    factor = width / before
    figure.set_size_inches(width, height * factor)
    size = min(1.0, max(factor, _SMALLEST))
    for axis in (part for axes in figure.axes for part in (axes.xaxis, axes.yaxis)):
        ticks = axis.get_ticklabels()
        if ticks:
            axis.set_tick_params(labelsize=ticks[0].get_fontsize())
    for text in figure.findobj(Text):
        text.set_fontsize(text.get_fontsize() * size)
