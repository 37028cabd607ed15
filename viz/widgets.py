"""Interactive figures as data: what circuitsvis and plotly would draw, without their HTML.

circuitsvis' own HTML needs the network and runs what tokens contain; its figures say which
component they are and with which properties, and a page draws that from a local copy of the
script. Importing circuitsvis imports torch: this module is used only to make such a figure.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from viz.drawing import Widget
from viz.labels import label, shorten
from viz.style import PALETTE

if TYPE_CHECKING:
    import numpy as np
    from circuitsvis.utils.render import RenderedHTML

_CALL = re.compile(r'render\(\s*"[^"]+",\s*(\w+),\s*')
_DIGITS = 4


def colored_tokens_widget(tokens: Sequence[str], values: Sequence[float]) -> Widget:
    """circuitsvis ColoredTokens: text on which each token is coloured by its value."""
    from circuitsvis.tokens import colored_tokens

    most = max(map(abs, values)) or 1.0
    shown = colored_tokens(
        [label(token) for token in tokens],
        list(values),
        min_value=-most,
        max_value=most,
        positive_color=PALETTE[0],
        negative_color=PALETTE[1],
    )
    return _circuitsvis(shown)


def attention_widget(tokens: Sequence[str], heads: "dict[str, np.ndarray]") -> Widget:
    """circuitsvis AttentionHeads (one head: AttentionPattern), from query rows to key columns."""
    from circuitsvis.attention import attention_heads, attention_pattern

    labels = [shorten(label(token), 16) for token in tokens]
    colour = {"min_value": 0.0, "max_value": 1.0, "positive_color": PALETTE[0]}
    patterns = [pattern.tolist() for pattern in heads.values()]
    if len(heads) == 1:
        return _circuitsvis(attention_pattern(labels, patterns[0], **colour))
    return _circuitsvis(attention_heads(patterns, labels, list(heads), **colour))


def attention_heatmap(tokens: Sequence[str], heads: "dict[str, np.ndarray]") -> Widget:
    """A plotly heat-map with a menu of heads, for texts too long for circuitsvis."""
    import plotly.graph_objects as go

    names = [f"{pos} {shorten(label(token, 'plotly'), 16)}" for pos, token in enumerate(tokens)]
    hover = "from %{y}<br>to %{x}<br>%{z:.3f}<extra></extra>"
    maps = [
        go.Heatmap(z=pattern.astype("float32"), x=names, y=names, zmin=0, zmax=1, name=head,
                   colorscale="Blues", hovertemplate=hover, visible=number == 0)
        for number, (head, pattern) in enumerate(heads.items())
    ]  # fmt: skip
    buttons = [
        {"label": head, "method": "restyle", "args": ["visible", [h == head for h in heads]]}
        for head in heads
    ]
    figure = go.Figure(maps)
    figure.update_layout(
        height=560,
        margin={"l": 10, "r": 10, "t": 60, "b": 10},
        yaxis={"autorange": "reversed", **_axis("from (query)", 30)},
        xaxis=_axis("to (key)", 14),
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.13}],
    )
    return _plotly(figure.to_plotly_json())


def _axis(title: str, labels: int) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 12},
        "tickfont": {"size": 10},
        "automargin": True,
        "nticks": labels,
    }


def _circuitsvis(shown: "RenderedHTML") -> Widget:
    """Component and properties, read from the figure's public code."""
    code = shown.show_code()
    call = _CALL.search(code)
    if call is None:
        raise ValueError("circuitsvis wrote a figure that this adapter does not know")
    props, _ = json.JSONDecoder().raw_decode(code, call.end())
    return Widget("circuitsvis", call[1], _rounded(props))


def _plotly(figure: dict[str, Any]) -> Widget:
    from plotly.io.json import to_json_plotly

    plain = json.loads(to_json_plotly({"data": figure["data"], "layout": figure["layout"]}))
    plain["layout"].pop("template", None)
    return Widget("plotly", "", _rounded(plain))


def _rounded(value: Any) -> Any:
    """The same JSON with four digits after the point.

    Raises:
        ValueError: a number is not finite; a browser would read no JSON at all.
    """
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"an interactive figure cannot show {value}: drop or fill it first")
        return round(value, _DIGITS)
    return value
