"""A flow as plain tables and arrays: what other front ends read (see `Diagram`).

`nodes` has a row a state (part "state", depth 0 to L) or joint (part "joint", depth l + 1/2) with
its weight. `links` has a row a link with its weight: kind "past the mlp" and "mlp" from state l + 1
to joint l + 1/2 of the same token, "residual" from there to state l of the same token, "attention"
to state l of `source`; "bias" and "dropped" end at the joint. Weights are shares of the traced
state: in every layer they sum to 1 with what ended above.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from lenses.flow.decoded import Decoded
from lenses.flow.splits import Splits
from lenses.flow.trace import Flow
from models import Model
from models.text import token_strings

LEAST = 1e-9
"""Weight below which a link or a state is rounding, and no row."""
KINDS = ("past the mlp", "mlp", "residual", "attention", "bias", "dropped")


@dataclass(frozen=True)
class Diagram:
    """What is drawn of a flow, as plain data that goes to JSON and back."""

    tokens: list[str]
    """The text that was read."""
    traced: str
    """The token that its last state predicts, or whichever state was traced."""
    rule: str
    threshold: str
    nodes: pd.DataFrame
    """Columns part, depth, pos, weight, and label, certainty and gradient where they are known."""
    links: pd.DataFrame
    """Columns kind, layer, query, source, weight."""

    def to_json(self) -> str:
        """One object; nodes and links are lists of objects with the columns' names."""
        records = {
            name: json.loads(frame.to_json(orient="records", double_precision=9))
            for name, frame in (("nodes", self.nodes), ("links", self.links))
        }
        told = {"tokens": self.tokens, "traced": self.traced, "rule": self.rule}
        return json.dumps(told | {"threshold": self.threshold} | records, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> "Diagram":
        """What `to_json` wrote, or the page's own export."""
        told = json.loads(text)
        frames = {name: pd.DataFrame(told.pop(name)) for name in ("nodes", "links")}
        return cls(**told, **frames)


def node_rows(flows: Mapping[str, Flow]) -> pd.DataFrame:
    """States and joints that weight passes, rule by rule."""
    frames = []
    for rule, flow in flows.items():
        for part, weight, up in (("state", flow.state, 0.0), ("joint", flow.mid, 0.5)):
            depth, pos = (x.numpy() for x in (weight > LEAST).nonzero(as_tuple=True))
            frames.append(pd.DataFrame({
                "rule": rule, "part": part, "depth": depth + up, "pos": pos,
                "weight": weight.numpy()[depth, pos],
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def link_rows(flows: Mapping[str, Flow]) -> pd.DataFrame:
    """Links that weight passes, rule by rule."""
    frames = []
    for rule, flow in flows.items():
        each = (flow.through, flow.mlp, flow.residual, flow.attention, flow.bias, flow.dropped)
        for kind, weight in zip(KINDS, each, strict=True):
            is_row = weight > LEAST
            layer, query, *source = (x.numpy() for x in is_row.nonzero(as_tuple=True))
            frames.append(pd.DataFrame({
                "rule": rule, "kind": kind, "layer": layer, "query": query,
                "source": source[0] if source else query,
                "weight": weight[is_row].numpy(),
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def cell_rows(
    model: Model, ids: Sequence[int], states: Decoded, gradient: Float[Tensor, "depth pos"]
) -> pd.DataFrame:
    """What each state decodes to, and how steeply the prediction changes with it."""
    depth, pos, rank = (x.ravel() for x in np.indices(states.ids.shape))
    return pd.DataFrame({
        "depth": depth, "pos": pos, "rank": rank,
        "input": np.array(token_strings(model, ids), dtype=object)[pos],
        "decoded": token_strings(model, states.ids.flatten().tolist()),
        "probability": states.probability.flatten().double().numpy(),
        "gradient": gradient.double().numpy()[depth, pos],
    })  # fmt: skip


def page_arrays(found: Splits) -> dict[str, np.ndarray]:
    """All shares of all rules, with which a page traces back from any state."""
    names = ("attention", "bias", "residual", "mlp", "loading", "head")
    kept = {
        name: np.stack([getattr(split, name).numpy() for split in found.by_rule.values()])
        for name in names
    }
    kept["head"] = kept["head"].astype(np.int32)
    parallel = any(split.parallel for split in found.by_rule.values())
    return kept | {"parallel": np.array([parallel]).astype(np.int32)}


def fetched_rows(links: pd.DataFrame) -> pd.DataFrame:
    """What the last token of one text's flow fetches from each other token, by rule, as shares."""
    last = links["query"].max()
    links = links[(links["kind"] == "attention") & (links["query"] == last)]
    links = links[links["source"] != last]
    rows = links.groupby(["rule", "source"], sort=False)["weight"].sum().rename("share")
    return (rows / rows.groupby("rule").transform("sum")).dropna().reset_index()
