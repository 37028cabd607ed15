"""Numbers on a grid: heads by layer, tokens by layer, cells of an addition."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from viz.drawing import Drawing


def head_grid(
    data: "pd.DataFrame", value: str, *, caption: str, facet: str | None = None, label: str = ""
) -> "Drawing":
    """One number for each head: layer x head, a panel for each value of `facet`."""
    raise NotImplementedError


def along_text(
    data: "pd.DataFrame",
    value: str,
    *,
    caption: str,
    rows: str = "layer",
    token: str = "token",
    label: str = "",
) -> "Drawing":
    """A number along a text: `rows` x pos, with columns pos, `token`, optionally phase."""
    raise NotImplementedError


def cell_grid(
    data: "pd.DataFrame", value: str = "accuracy", *, caption: str, label: str = ""
) -> "Drawing":
    """Cells of additions: place x run, a panel for each carry, `value` and `n` in each cell."""
    raise NotImplementedError
