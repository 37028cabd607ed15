"""A drawing: its caption, its data, and how to draw it once as an image and once to play with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from viz.style import Theme, theme

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_PNG_DPI = 200
_THUMB_PIXELS = (360, 240)


@dataclass(frozen=True)
class Widget:
    """An interactive figure as data: which component of which library, and its properties.

    `props` holds plain JSON values; numbers are finite and rounded, labels harmless.
    For plotly the component is empty and the properties are `data` and `layout`.
    """

    library: Literal["circuitsvis", "plotly"]
    component: str
    props: Mapping[str, Any]


@dataclass(frozen=True)
class Drawing:
    """What a figure shows (`data`, tidy), says (`caption`), and looks like.

    `static` makes a matplotlib figure; it takes its colours from matplotlib's settings, which
    `figure` sets for a theme. `widget` is the interactive twin, where there is one.
    """

    caption: str
    data: "pd.DataFrame"
    static: "Callable[[], Figure]"
    widget: Widget | None = None
    kind: str = "figure"
    alt: str = ""

    def figure(self, name: Theme = "light") -> "Figure":
        """The drawing as a matplotlib figure in one theme."""
        with theme(name):
            return self.static()

    def save(self, folder: Path, title: str) -> None:
        """Write images, data and `figure.json` to a folder, which is made where it is missing.

        Images are `figure.svg`, `figure-dark.svg` (text as outlines), `figure.png` and
        `thumb.png`; the data are `data.parquet` and, as a download, `data.csv`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        width, height = self._save_images(folder)
        frame = storable(self.data)
        frame.to_parquet(folder / "data.parquet", index=False, compression="zstd")
        frame.to_csv(folder / "data.csv", index=False)
        described = self._described(title) | {"width": width, "height": height}
        text = json.dumps(described, ensure_ascii=True, allow_nan=False)
        (folder / "figure.json").write_text(text, encoding="utf-8")

    def _save_images(self, folder: Path) -> tuple[int, int]:
        """Write the images; returns width and height of the figure in CSS pixels."""
        undated = {"Date": None, "Creator": None}
        with theme("dark"):
            self.static().savefig(folder / "figure-dark.svg", metadata=undated)
        with theme("light"):
            figure = self.static()
            figure.savefig(folder / "figure.svg", metadata=undated)
            figure.set_layout_engine("none")  # laid out by now; a second time costs a second
            figure.savefig(folder / "figure.png", dpi=_PNG_DPI)
        _shrink(folder / "figure.png", folder / "thumb.png")
        width, height = figure.get_size_inches() * 96
        return round(width), round(height)

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
        }


def storable(frame: "pd.DataFrame") -> "pd.DataFrame":
    r"""The same table with what UTF-8 cannot hold (halves of characters) written as `\ud83d`."""
    import pandas as pd

    columns = {name: _storable_column(column) for name, column in frame.items()}
    return pd.DataFrame(columns)


def _storable_column(column: "pd.Series") -> "pd.Series":
    if column.dtype.kind != "O":
        return column
    return column.map(
        lambda value: (
            value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        )
    )


def _shrink(picture: Path, thumb: Path) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail(_THUMB_PIXELS, Image.Resampling.LANCZOS)
    small.save(thumb, "PNG", optimize=True)
