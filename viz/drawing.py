"""A drawing: its caption, its data, and how to draw it once as an image and once to play with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from viz.canvas import PHONE, on_phone
from viz.recolour import darkened
from viz.style import PAPER, Theme, theme

_PNG_DPI = 200
_THUMB_PIXELS = (360, 240)


@dataclass(frozen=True)
class Widget:
    """An interactive figure as data: which component of which library, and its properties.

    `props` holds plain JSON values; numbers are finite and rounded, labels harmless.
    For plotly the component is empty and the properties are `data` and `layout`.
    """

    library: Literal["circuitsvis", "decoded", "flow", "heads", "maps", "plotly"]
    component: str
    props: Mapping[str, Any]
    legend: Mapping[str, Any] | None = None
    """Scale of the colours: `title`, `low`, `high` and the colours between them as `ramp`."""


@dataclass(frozen=True, repr=False)
class Drawing:
    """What a figure shows (`data`, tidy), says (`caption`), and looks like.

    `static` makes a matplotlib figure; it takes its colours from matplotlib's settings, which
    `figure` sets for a theme. `widget` is the interactive twin, where there is one.
    """

    caption: str
    data: pd.DataFrame
    static: Callable[[], Figure]
    widget: Widget | None = None
    kind: str = "figure"
    alt: str = ""
    heading: str = ""
    """What all of the figure is about, such as one layer; set above it."""
    on_white: bool = False
    """Whether it was drawn elsewhere and keeps its own inks: on white paper in both themes."""

    def __repr__(self) -> str:
        """Kind, rows and caption in a line: the data would fill a screen."""
        return f"<{self.kind} of {len(self.data)} rows: {self.caption}>"

    def figure(self, name: Theme = "light") -> Figure:
        """The drawing as a matplotlib figure in one theme."""
        with theme(name):
            return self.static()

    def save(self, folder: Path, title: str) -> None:
        """Write images, data and `figure.json` to a folder, which is made where it is missing.

        Images are `figure.svg`, `figure-dark.svg` (text as outlines), `figure.png` and
        `thumb.png`; of one that is too wide for a phone also `phone.svg` and `phone-dark.svg`,
        with panels below one another. The data are `data.parquet` and, as a download, `data.csv`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        width, height = self._save_images(folder)
        phone = None if self.widget else self._save_for_phone(folder, width)
        frame = storable(self.data)
        frame.to_parquet(folder / "data.parquet", index=False, compression="zstd")
        frame.to_csv(folder / "data.csv", index=False)
        described = self._described(title) | {"width": width, "height": height, "phone": phone}
        text = json.dumps(described, ensure_ascii=True, allow_nan=False)
        (folder / "figure.json").write_text(text, encoding="utf-8")

    def _save_images(self, folder: Path) -> tuple[int, int]:
        """Write the images; returns width and height of the figure in CSS pixels.

        The figure is laid out once; of the two themes only the inks differ.
        """
        with theme("light"):
            figure = self.static()
            figure.set_facecolor(PAPER["light"])
            svg, picture = _svg(figure), _pixels(figure)
        self._write(folder, "figure", svg)
        picture.save(folder / "figure.png", dpi=(_PNG_DPI, _PNG_DPI))
        picture.thumbnail(_THUMB_PIXELS, Image.Resampling.LANCZOS)
        picture.save(folder / "thumb.png", optimize=True)
        return _size(figure)

    def _save_for_phone(self, folder: Path, desk: int) -> tuple[int, int] | None:
        """Write it again where it is narrower on a phone than on a desk; returns its size then."""
        if desk <= PHONE * 96:
            return None
        with theme("light"), on_phone():
            figure = self.static()
            figure.set_facecolor(PAPER["light"])
            width, height = _size(figure)
            if width >= desk:
                return None
            self._write(folder, "phone", _svg(figure))
        return width, height

    def _write(self, folder: Path, name: str, svg: str) -> None:
        """One picture in both themes."""
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        dark = svg if self.on_white else darkened(svg)
        (folder / f"{name}-dark.svg").write_text(dark, encoding="utf-8")

    def _described(self, title: str) -> dict[str, Any]:
        widget = self.widget
        return {
            "title": title,
            "caption": self.caption,
            "kind": self.kind,
            "alt": self.alt or self.caption,
            "library": widget.library if widget else None,
            "component": widget.component if widget else None,
            "props": dict(widget.props) if widget else None,
            "legend": dict(widget.legend) if widget and widget.legend else None,
            "heading": self.heading,
            "on_white": self.on_white,
        }


def _size(figure: Figure) -> tuple[int, int]:
    """Width and height in CSS pixels."""
    width, height = figure.get_size_inches() * 96
    return round(width), round(height)


def texts_of(drawing: Drawing) -> list[str]:
    """Every text that the still picture of a drawing shows, tick labels included.

    A test holds that none has an underscore: names of columns become words before they are drawn.
    """
    figure = drawing.figure()
    with theme("light"):
        figure.draw_without_rendering()
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text.get_text() for text in shown]


def storable(frame: pd.DataFrame) -> pd.DataFrame:
    r"""The same table with what UTF-8 cannot hold (halves of characters) written as `\ud83d`."""

    columns = {name: _storable_column(column) for name, column in frame.items()}
    return pd.DataFrame(columns)


def _storable_column(column: pd.Series) -> pd.Series:
    if column.dtype.kind != "O":
        return column
    return column.map(
        lambda value: (
            value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        )
    )


def _svg(figure: Figure) -> str:
    """The figure as outlines. Its parts are placed first; savefig draws all of it to do so."""
    canvas, dpi, out = FigureCanvasSVG(figure), figure.dpi, StringIO()
    if engine := figure.get_layout_engine():
        figure.set_dpi(72)  # of an SVG, in which words are measured
        engine.execute(figure)
        figure.set_dpi(dpi)
        figure.set_layout_engine("none")
    canvas.print_svg(out, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _pixels(figure: Figure) -> Image.Image:
    """A figure that was placed, as an image without transparency."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(_PNG_DPI)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
