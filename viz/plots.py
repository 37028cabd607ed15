"""Points, lines and bars with their intervals."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from viz.drawing import Drawing


def scatter(
    data: "pd.DataFrame",
    x: str,
    y: str,
    *,
    caption: str,
    facet: str | None = None,
    correlations: "pd.DataFrame | None" = None,
) -> "Drawing":
    """One point a row of `data`; `correlations` (`facet`, method, estimate) are written in."""
    raise NotImplementedError


def curves(
    data: "pd.DataFrame",
    x: str,
    y: str,
    *,
    caption: str,
    series: str | None = None,
    facet: str | None = None,
    low: str = "low",
    high: str = "high",
) -> "Drawing":
    """A line for each `series`, with a band from `low` to `high` where those columns exist."""
    raise NotImplementedError


def bars(
    data: "pd.DataFrame",
    category: str,
    value: str,
    *,
    caption: str,
    series: str | None = None,
    facet: str | None = None,
    low: str = "low",
    high: str = "high",
    reference: float | None = None,
) -> "Drawing":
    """A point for each `category` (and `series`) with its interval; `reference` is a line."""
    raise NotImplementedError
