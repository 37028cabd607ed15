"""One grid of heads for every measure of them: choose a measure, and open a head."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from viz.canvas import require
from viz.drawing import Drawing, Widget
from viz.figures.grids import heads_figure
from viz.glossary import axis_name
from viz.labels import head_name, number, shorten
from viz.labels import label as label_of


@dataclass(frozen=True)
class HeadText:
    """A text that heads read: what each of them does at each of its tokens."""

    tokens: Sequence[str]
    pattern: Float[np.ndarray, "layer head query key"]
    values: Mapping[str, Float[np.ndarray, "layer head pos"]] = field(default_factory=dict)
    """By measure; those of the explorer's measures that have a value at each token."""


def head_explorer(
    data: pd.DataFrame,
    *,
    caption: str,
    facets: Sequence[str] = (),
    value: str = "estimate",
    titles: Mapping[str, str] | None = None,
    text: HeadText | None = None,
    still: Mapping[str, Sequence[str]] | None = None,
) -> Drawing:
    """Every measure of every head on one grid, layer (down) x head.

    `data` has a row for each measure, layer, head and value of the `facets` (such as the phase).
    `titles` says what a measure is, with its unit, where the glossary does not. On a page measure
    and facets are chosen, and a head that is clicked shows its numbers, its rank among all heads
    and, with a `text`, its attention and the text coloured by the measure; which head and measure
    stand in the address. The still picture is of the first measure, a panel for each value of the
    first facet; or, a panel each, of the measures that `still` names by the unit they share.
    """
    require(data, "measure", "layer", "head", value, *facets)
    said = {name: (titles or {}).get(name) or axis_name(name) for name in data["measure"].unique()}
    unit, shown = next(iter((still or {}).items()), (next(iter(said.values())), ()))
    first = data[data["measure"].isin(shown or [next(iter(said))])]
    for name in facets if still else facets[1:]:
        first = first[first[name] == first[name].iloc[0]]
    panels = "measure" if still else next(iter(facets), None)

    def static() -> Figure:
        rows = first.assign(measure=first["measure"].map(said))
        return heads_figure(rows, value, unit, panels)

    top = first.loc[first[value].abs().idxmax()]
    most = number(float(top[value]))
    alt = f"{said[top['measure']]}: the largest is {most}, of {head_name(top)}; "
    alt += f"{len(said)} measures of {first.groupby(['layer', 'head']).ngroups} heads."
    widget = Widget("heads", "", _props(data, said, list(facets), value, text))
    return Drawing(caption, data, static, widget, kind="head_explorer", alt=alt)


def _props(
    data: pd.DataFrame, said: Mapping[str, str], facets: list[str], value: str,
    text: HeadText | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that can be shown, packed: a measure's grids one after the other."""
    choices = [list(dict.fromkeys(data[name])) for name in facets]
    shape = int(data["layer"].max()) + 1, int(data["head"].max()) + 1
    parts = dict(list(data.groupby("measure", sort=False)))
    measures = [
        _measure(parts[name], name, title, facets, choices, shape, value)
        for name, title in said.items()
    ]
    axes = [
        {"name": axis_name(name), "values": [label_of(str(value)) for value in values]}
        for name, values in zip(facets, choices, strict=True)
    ]
    told = {"layers": shape[0], "heads": shape[1], "measures": measures, "facets": axes}
    return told | ({"text": _text(text)} if text else {})


def _measure(
    rows: pd.DataFrame, name: str, title: str, facets: list[str], choices: list[list[Any]],
    shape: tuple[int, int], value: str,
) -> dict[str, Any]:  # fmt: skip
    places = [rows[facet].map({v: i for i, v in enumerate(values)}).to_numpy()
              for facet, values in zip(facets, choices, strict=True)]  # fmt: skip
    full = np.full((*map(len, choices), *shape), np.nan)
    full[(*places, rows["layer"].to_numpy(), rows["head"].to_numpy())] = rows[value]
    return {"name": name, "title": label_of(title), "values": _packed(full)}


def _text(text: HeadText) -> dict[str, Any]:
    """Tokens, attention in steps of 1/255, and values at each token."""
    pattern = np.clip(np.nan_to_num(text.pattern), 0, 1) * 255
    packed = base64.b64encode(np.ascontiguousarray(pattern.round().astype(np.uint8)).tobytes())
    return {
        "tokens": [shorten(label_of(str(token)), 20) for token in text.tokens],
        "pattern": packed.decode(),
        "values": {name: _packed(np.asarray(given)) for name, given in text.values.items()},
    }


def _packed(values: np.ndarray) -> str:
    """Numbers in single precision; NaN where one is not defined."""
    return base64.b64encode(np.ascontiguousarray(values).astype("<f4").tobytes()).decode()
