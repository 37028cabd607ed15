"""Interactive figures as data: what circuitsvis and plotly would draw, without their HTML.

circuitsvis' own HTML needs the network and runs what tokens contain; its figures say which
component they are and with which properties, and a page draws that from a local copy of the
script. Importing circuitsvis imports torch: this module is used only to make such a figure.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_hex

from viz.drawing import Widget
from viz.labels import label, number, shorten
from viz.style import PALETTE, color_map, theme, token_scale

if TYPE_CHECKING:
    from circuitsvis.utils.render import RenderedHTML

_CALL = re.compile(r'render\(\s*"[^"]+",\s*(\w+),\s*')
_DIGITS = 4


def colored_tokens_widget(
    tokens: Sequence[str], values: Sequence[float], title: str = ""
) -> Widget:
    """circuitsvis ColoredTokens: text on which each token is coloured by its value.

    circuitsvis mixes its colours from white at zero; the page paints over them with `colors`,
    which span the range of the values, and shows the scale of `legend`.
    """
    from circuitsvis.tokens import colored_tokens  # imports torch

    most = max(map(abs, values)) or 1.0
    shown = colored_tokens(
        [label(token) for token in tokens],
        list(values),
        min_value=-most,
        max_value=most,
        positive_color=PALETTE[0],
        negative_color=PALETTE[1],
    )
    return painted(circuitsvis_widget(shown), values, title)


def painted(widget: Widget, values: Sequence[float], title: str) -> Widget:
    """Coloured tokens in the colours of their still twin on white, with a legend."""
    centred, low, high = token_scale(np.asarray(values, dtype=float))
    with theme("light"):
        scale = color_map(centred)
    colours = [to_hex(scale((value - low) / (high - low))) for value in values]
    ramp = [to_hex(scale(step / 8)) for step in range(9)]
    legend = {"title": label(title), "low": number(low), "high": number(high), "ramp": ramp}
    return replace(widget, props={**widget.props, "colors": colours}, legend=legend)


def attended_tokens_widget(tokens: Sequence[str], heads: dict[str, np.ndarray]) -> Widget:
    """circuitsvis AttentionPatterns: a text in which a token shows what it attends to."""
    labels = [shorten(label(token), 16) for token in tokens]
    patterns = [pattern.tolist() for pattern in heads.values()]
    props = {"tokens": labels, "attention": patterns, "headLabels": list(heads)}
    return Widget("circuitsvis", "AttentionPatterns", rounded(props))


def attention_widget(tokens: Sequence[str], heads: dict[str, np.ndarray]) -> Widget:
    """circuitsvis AttentionHeads (one head: AttentionPattern), from query rows to key columns."""
    # imports torch
    from circuitsvis.attention import attention_heads, attention_pattern

    labels = [shorten(label(token), 16) for token in tokens]
    colour = {"min_value": 0.0, "max_value": 1.0, "positive_color": PALETTE[0]}
    patterns = [pattern.tolist() for pattern in heads.values()]
    if len(heads) == 1:
        return circuitsvis_widget(attention_pattern(labels, patterns[0], **colour))
    return circuitsvis_widget(attention_heads(patterns, labels, list(heads), **colour))


def attention_heatmap(tokens: Sequence[str], heads: dict[str, np.ndarray]) -> Widget:
    """A plotly heat-map with a menu of heads, for texts too long for circuitsvis."""
    import plotly.graph_objects as go  # half a second, for long texts only

    names = [f"{pos} {shorten(label(token, 'plotly'), 16)}" for pos, token in enumerate(tokens)]
    with theme("light"):
        blues = [[step / 8, to_hex(color_map(False)(step / 8))] for step in range(9)]
    hover = "from %{y}<br>to %{x}<br>%{z:.3f}<extra></extra>"
    maps = [
        go.Heatmap(z=pattern.astype("float32"), x=names, y=names, zmin=0, zmax=1, name=head,
                   colorscale=blues, hovertemplate=hover, visible=number == 0)
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
    return plotly_widget(figure.to_plotly_json())


def _axis(title: str, labels: int) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 12},
        "tickfont": {"size": 10},
        "automargin": True,
        "nticks": labels,
    }


def circuitsvis_widget(shown: "RenderedHTML") -> Widget:
    """A figure of circuitsvis as data, with rounded numbers."""
    component, props = read_circuitsvis(shown)
    return Widget("circuitsvis", component, rounded(props))


def read_circuitsvis(shown: "RenderedHTML") -> tuple[str, dict[str, Any]]:
    """Component and properties, read from the figure's public code."""
    code = shown.show_code()
    call = _CALL.search(code)
    if call is None:
        raise ValueError("circuitsvis wrote a figure that this adapter does not know")
    props, _ = json.JSONDecoder().raw_decode(code, call.end())
    return call[1], props


def plotly_widget(figure: dict[str, Any]) -> Widget:
    """A figure of plotly as data, with rounded numbers and without its template."""

    from plotly.io.json import to_json_plotly  # as above

    plain = json.loads(to_json_plotly({"data": figure["data"], "layout": figure["layout"]}))
    plain["layout"].pop("template", None)
    return Widget("plotly", "", rounded(plain))


def rounded(value: Any) -> Any:
    """The same JSON with four digits after the point, and four that count below 1.

    Raises:
        ValueError: a number is not finite; a browser would read no JSON at all.
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"an interactive figure cannot show {value}: drop or fill it first")
        return round(value, _DIGITS) if abs(value) >= 1 else float(f"{value:.{_DIGITS}g}")
    return value
