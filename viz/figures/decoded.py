"""Which token each hidden state is: layers x positions, with the token in the box."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from viz.canvas import WIDTH, colour_bar, heat, require, ticks
from viz.drawing import Drawing, Widget
from viz.labels import label as label_of
from viz.labels import shorten

_COLUMNS = 16
"""Positions that the still picture shows: the last ones."""
_CELL = (0.34, 0.21)
"""Inches: the sides of the smallest box."""
_TALLEST = 30
"""Rows that the still picture shows."""
_LETTER = 0.0088
"""Inches that a letter takes of each point of its size."""
_BY = ("prompt", "state", "layer", "pos", "norm", "decoder")


@dataclass(frozen=True)
class View:
    """What is shown first."""

    state: str
    decoder: str
    norm: str


def decoded_table(
    data: pd.DataFrame, prompts: Mapping[int, list[str]], first: View, *, caption: str
) -> Drawing:
    """The likeliest token of each state in its box, coloured by its probability.

    `data` has a row for each prompt, state, layer, pos, norm and decoder, with `token` and
    `probability`, further `token_2`, `probability_2` and so on, and `entropy` in nats. `prompts`
    are their tokens. On a page all of these can be chosen; the still picture is of `first`.
    Raises ValueError where a box is missing or twice.
    """
    require(data, *_BY, "token", "probability", "entropy")
    here = data.assign(prompt=data["prompt"].astype(int))
    shown = here[
        (here["prompt"] == here["prompt"].min())
        & (here["state"] == first.state)
        & (here["decoder"] == first.decoder)
        & (here["norm"] == first.norm)
    ]
    require(shown)
    read = prompts[int(shown["prompt"].iloc[0])]
    last = shown[shown["layer"] == shown["layer"].max()].sort_values("pos")
    said = ", ".join(label_of(token) for token in last["token"].tail(5))
    alt = f"Tokens decoded by {first.decoder}; in the last layer, at the last positions: {said}."
    widget = Widget("decoded", "", _props(here, prompts, first))
    return Drawing(caption, shown, lambda: _still(shown, read), widget, kind="decoded", alt=alt)


def _still(data: pd.DataFrame, read: list[str]) -> Figure:
    """The boxes of one view; the last layer on top."""
    layers = sorted(data["layer"].unique(), reverse=True)
    every = -(-len(layers) // _TALLEST)
    layers, positions = layers[::every], sorted(data["pos"].unique())[-_COLUMNS:]
    wide = max(_CELL[0], min(0.8, (WIDTH * 1.25 - 0.6) / len(positions)))
    figure = Figure(
        figsize=(wide * len(positions) + 0.6, _CELL[1] * len(layers) + 1.5), layout="constrained"
    )
    axis = figure.subplots()
    grid = data.pivot(index="layer", columns="pos").reindex(layers)
    values = grid["probability"].reindex(columns=positions).to_numpy(float)
    words = grid["token"].reindex(columns=positions).fillna("")
    most = int((wide - 0.03) / _LETTER / 5.2)
    text = words.map(lambda token: label_of(shorten(token, most), "matplotlib")).to_numpy()
    heat(axis, values, (False, 0.0, 1.0), written=text, size=5.2)
    ticks(axis, "y", [f"{layer:g}" for layer in layers], _CELL[1] * len(layers), rotation=0)
    ticks(axis, "x", [shorten(read[pos], 10) for pos in positions], 99, rotation=90, size=7.5)
    axis.set_xlabel("the text that is read")
    axis.set_ylabel("layers\npassed", rotation=0, ha="right", va="center")
    colour_bar(figure, [axis], "probability of the token in the box", False)
    return figure


# --- interactive ---


def _props(data: pd.DataFrame, prompts: Mapping[int, list[str]], first: View) -> dict[str, Any]:
    """Everything that can be chosen, packed: a page that switches asks no server."""
    norms, decoders = (list(dict.fromkeys(data[axis])) for axis in ("norm", "decoder"))
    states = list(dict.fromkeys(data["state"]))
    data = data.assign(
        state=data["state"].map(states.index), norm=data["norm"].map(norms.index),
        decoder=data["decoder"].map(decoders.index),
    ).sort_values(list(_BY), ignore_index=True)  # fmt: skip
    views, starts = [], {}
    for (prompt, state), part in data.groupby(["prompt", "state"]):
        layers, count = part["layer"].unique().tolist(), part["pos"].nunique()
        boxes = len(layers) * count * len(norms) * len(decoders)
        if boxes != len(part) or part.duplicated(list(_BY)).any():
            raise ValueError(f"prompt {prompt}, {states[state]}: {len(part)} rows, {boxes} boxes")
        starts[prompt, state] = {"start": int(part.index[0]), "layers": layers}
    for prompt in dict.fromkeys(data["prompt"]):
        tokens = [label_of(token) for token in prompts[int(prompt)]]
        views.append({"tokens": tokens, "states": [starts[prompt, s] for s in range(len(states))]})
    return {
        "prompts": views, "states": states, "decoders": decoders, "norms": norms,
        "first": [states.index(first.state), decoders.index(first.decoder),
                  norms.index(first.norm)],
        **_packed(data),
    }  # fmt: skip


def _packed(data: pd.DataFrame) -> dict[str, Any]:
    """Tokens as numbers in a list of their labels, chances and entropies as 16-bit numbers."""
    tokens = [name for name in data if name == "token" or name.startswith("token_")]
    chances = [name.replace("token", "probability") for name in tokens]
    known = pd.unique(data[tokens].to_numpy().ravel())
    number = {token: i for i, token in enumerate(known)}
    wide = len(known) > 2**16
    ids = np.stack([data[name].map(number.__getitem__).to_numpy() for name in tokens], axis=1)
    p = np.clip(data[chances].to_numpy(float), 0, 1)
    most = max(float(data["entropy"].max()), 1e-9)
    entropy = np.clip(data["entropy"].to_numpy(float) / most, 0, 1)
    return {
        "vocabulary": [label_of(token) for token in known], "count": len(tokens), "most": most,
        "ids": _base64(ids.astype("<u4" if wide else "<u2")), "wide": wide,
        "p": _base64(np.round(p * 65535).astype("<u2")),
        "entropy": _base64(np.round(entropy * 65535).astype("<u2")),
    }  # fmt: skip


def _base64(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.tobytes()).decode()
