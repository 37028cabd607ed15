"""A model as a grid of positions x layers, with the components that were found in their places."""

from itertools import accumulate

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from viz.canvas import WIDTH, require
from viz.drawing import Drawing
from viz.labels import label as label_of
from viz.labels import shorten
from viz.style import palette

_ROLES = {
    "carry": "carry", "base_add": "own sum", "both": "both", "combiner": "over nines",
    "digit": "digit",
}  # fmt: skip
"""Roles as tables name them, and in words."""
_NONE = "none"
_BOX = 0.22
"""Inches: the height of a component's box."""
_BARE = 3
"""Tokens, or layers, before the first with a component that are still drawn."""
_LETTER = 0.12
"""Inches: of a token's name."""
_GAP = 0.9
"""Boxes: the space between two layers."""


def model_map(data: pd.DataFrame, *, caption: str) -> Drawing:
    """Which component does what: tokens (across) x layers (upwards), a box for each with a role.

    `data` has the columns layer, pos, token, component (a head's number, or a word such as
    `mlp`) and role, one row a component; one of role `none` is not drawn, and where a layer has
    no other at a position there is a faint dot. A box holds the head's number, or the word's
    first letter. A role is one of _ROLES; ValueError otherwise.
    """
    require(data, "layer", "pos", "token", "component", "role")
    if unknown := set(data["role"]) - {*_ROLES, _NONE}:
        raise ValueError(f"unknown role {min(unknown)!r}: a role is one of {', '.join(_ROLES)}")
    found = data[data["role"] != _NONE]
    found = found.drop_duplicates(["layer", "pos", "component", "role"])

    def static() -> Figure:
        return _map(data, found)

    count = found.groupby("role", sort=False).size()
    told = ", ".join(f"{number} x {_ROLES[role]}" for role, number in count.items()) or "none found"
    return Drawing(caption, data, static, kind="model_map", alt=f"Components by role: {told}.")


def _map(data: pd.DataFrame, found: pd.DataFrame) -> Figure:

    bare, positions = _without_bare(data["pos"], found["pos"])
    below, layers = _without_bare(data["layer"], found["layer"])
    boxes = found.groupby(["layer", "pos"]).size().groupby("layer").max()
    tall = [int(boxes.get(layer, 1)) for layer in layers]
    base = [0.0, *accumulate(height + _GAP for height in tall)]
    width = max(5.4, min(WIDTH, 0.9 + 0.36 * len(positions)))
    figure = Figure(figsize=(width, 1.5 + _BOX * base[-1]), layout="constrained")
    axis = figure.subplots()
    for layer, bottom, height in zip(layers, base, tall, strict=False):
        _layer(axis, found[found["layer"] == layer], positions, bottom, height)
    middle = [bottom + height / 2 for bottom, height in zip(base, tall, strict=False)]
    axis.set_yticks(middle, [str(layer) for layer in layers])
    _finish(axis, data.drop_duplicates("pos").set_index("pos")["token"], positions, base[-1])
    if bare:
        axis.set_xlabel(f"token ({bare} before these have no part in it)")
    if below:
        axis.set_ylabel(f"layer ({below} below have no part)")
    _name_roles(figure, [role for role in _ROLES if role in set(found["role"])])
    return figure


def _without_bare(every: pd.Series, found: pd.Series) -> tuple[int, list]:
    """How many there are long before the first with a component, and the rest in order."""
    ordered = sorted(every.unique())
    bare = max(0, ordered.index(found.min()) - 1) if len(found) else 0
    return (bare, ordered[bare:]) if bare > _BARE else (0, ordered)


def _layer(axis: Axes, found: pd.DataFrame, positions: list, bottom: float, height: int) -> None:
    """One layer's boxes, stacked at their positions; dots where there are none."""

    empty = [x for x, pos in enumerate(positions) if pos not in set(found["pos"])]
    middle = [bottom + height / 2] * len(empty)
    axis.plot(empty, middle, "o", markersize=3, color=rcParams["grid.color"])
    for pos, part in found.groupby("pos"):
        for number, row in enumerate(part.itertuples()):
            _box(axis, positions.index(pos), bottom + number, str(row.component), row.role)


def _box(axis: Axes, x: int, y: float, component: str, role: str) -> None:

    shape = {"boxstyle": "round,pad=0,rounding_size=0.12", "linewidth": 0}
    colour = _colour(role)
    axis.add_patch(FancyBboxPatch((x - 0.4, y + 0.06), 0.8, 0.88, facecolor=colour, **shape))
    text = component if component.isdigit() else component[:1].upper()
    style = {"size": 8, "weight": "bold", "color": rcParams["figure.facecolor"]}
    axis.text(x, y + 0.47, text, ha="center", va="center", **style)


def _colour(role: str) -> str:
    """The same role has the same colour on every page."""
    return palette()[list(_ROLES).index(role)]


def _finish(axis: Axes, tokens: pd.Series, positions: list, top: float) -> None:
    shown = [label_of(shorten(str(tokens[pos]), 10), "matplotlib") for pos in positions]
    turned = max(map(len, shown)) * _LETTER * len(positions) > axis.figure.get_figwidth() - 0.9
    size = min(9.0, 0.8 * 72 * (WIDTH - 0.9) / len(positions))
    axis.set_xticks(range(len(positions)), shown, rotation=90 if turned else 0, size=size)
    axis.set(xlim=(-0.6, len(positions) - 0.4), ylim=(-0.5, top))
    axis.set(xlabel="token", ylabel="layer")
    axis.tick_params(length=0)
    axis.spines[["left", "bottom"]].set_visible(False)


def _name_roles(figure: Figure, roles: list[str]) -> None:

    if roles:
        handles = [Patch(color=_colour(role), label=_ROLES[role]) for role in roles]
        figure.legend(handles=handles, loc="outside upper left", ncols=5, handlelength=1.0)
