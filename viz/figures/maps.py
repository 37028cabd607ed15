"""The interactive twin of a heat map: hover tells a cell, and a component lights up everywhere."""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from viz.drawing import Widget
from viz.labels import label as label_of
from viz.labels import shorten

MOST_CELLS = 20_000
"""Of all panels of a map; more are shown still."""
_LETTERS = (48, 24)
"""Of the name of a row, which goes over several lines, and of a column."""
_HEAD = re.compile(r"\bL(\d+)H(\d+)\b")
_PARTS = {"layer", "head", "pos"}


class Side(NamedTuple):
    """One side of a map: what it is called, and what stands along it."""

    words: str
    names: Sequence[str]
    parts: Sequence[Mapping[str, Any]]
    """Of which component each row or column is: layer, head, pos and token, as far as known."""


def side(column: str, words: str, values: Sequence[Any]) -> Side:
    """Rows or columns by a column of a table."""
    return Side(words, [str(value) for value in values], [part(column, one) for one in values])


def part(column: str, value: Any) -> dict[str, Any]:
    """The component that a value of a column names, such as head 1 of layer 0 in "carry L0H1"."""
    if named := _HEAD.search(str(value)):
        return {"layer": int(named[1]), "head": int(named[2])}
    number = str(value).removeprefix(f"{column} ").removesuffix(".0")
    return {column: int(number)} if column in _PARTS and number.isdecimal() else {}


def map_widget(
    panels: Mapping[str, Float[np.ndarray, "row column"]],
    down: Side,
    across: Side,
    scale: tuple[bool, float, float],
    title: str,
    *,
    text: Mapping[str, Sequence[Sequence[str]]] | None = None,
    facet: str = "",
) -> Widget | None:
    """Panels of one scale (whether it is centred on zero, its ends); None for too many cells.

    `text` is written into the cells of each panel.
    """
    if sum(values.size for values in panels.values()) > MOST_CELLS:
        return None
    told = [
        {
            "title": label_of(name),
            "part": part(facet, name),
            "values": _packed(values),
            **({"text": _words(text[name])} if text else {}),
        }
        for name, values in panels.items()
    ]
    centred, low, high = scale
    ends = {"centred": centred, "low": low, "high": high, "title": label_of(title)}
    sides = {"down": _said(down, _LETTERS[0]), "across": _said(across, _LETTERS[1])}
    return Widget("maps", "", {"panels": told, "scale": ends, **sides})


def _said(side: Side, letters: int) -> dict[str, Any]:
    names = [shorten(label_of(name), letters) for name in side.names]
    return {"words": label_of(side.words), "names": names, "parts": [dict(p) for p in side.parts]}


def _words(text: Sequence[Sequence[str]]) -> list[str]:
    words = [label_of(str(word)) for row in text for word in row]
    return [shorten(word, 22 if " + " in word else 14) for word in words]


def _packed(values: Float[np.ndarray, "..."]) -> str:
    """Numbers in single precision; NaN where one is not defined."""
    finite = np.where(np.isfinite(values), values, np.nan)
    return base64.b64encode(np.ascontiguousarray(finite).astype("<f4").tobytes()).decode()
