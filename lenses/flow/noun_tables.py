"""What was read of nouns and their adjectives, as tables; frames are the unit of evidence."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lenses.flow.descriptions import Case, Sentence
from lenses.flow.edge_patching import PATCHED, EdgeReading, each_edge, read_edges
from lenses.heads.contributions import attention_patterns
from lenses.kept import PerPrompt
from lenses.statistics.correlations import spearman
from lenses.statistics.frames import best_elsewhere, frame_means, p_any, p_elsewhere
from lenses.statistics.grid import grid
from lenses.statistics.intervals import benjamini_hochberg, bootstrap, sign_flip
from models import Model
from models.text import token_strings, tokenize

MOVED = ("along", "length")
"""Of a movement: its share along that by the noun's own adjective, and its relative length."""


def kept_of(found: EdgeReading) -> dict[str, Float[np.ndarray, "1 *cell"]]:
    """What is kept of a case: attention of the noun and of its controls' mean, and movements."""
    return {
        "own": found.attention[:1],
        "control": found.attention[1:].mean(0, keepdims=True),
        "along": found.along[None],
        "length": found.length[None],
    }


def read_noun(model: Model, case: Case) -> dict[str, Float[np.ndarray, "1 *cell"]]:
    """`kept_of` a case that a model reads."""
    return kept_of(read_edges(model, case))


def read_single_edges(model: Model, case: Case) -> dict[str, Float[np.ndarray, "1 layer edge"]]:
    """The `share` of the movement along each single edge, as `each_edge` has it."""
    return {"share": each_edge(model, case)[None]}


class NounTables:
    """Tables from what is kept of cases, and the frame of each."""

    def __init__(self, kept: PerPrompt, frames: Sequence[str], seed: int) -> None:
        self.seed, self.frames = seed, list(dict.fromkeys(frames))
        self.means = {name: frame_means(kept[name], frames) for name in ("own", "control", *MOVED)}
        self.difference = self.means["own"] - self.means["control"]
        """Attention [frame layer head], own less control."""
        self._flat = self.difference.reshape(len(self.frames), -1)

    def best(self) -> pd.DataFrame:
        """Per frame the head with the largest difference in all others, and what it is here."""
        chosen, value = best_elsewhere(self._flat)
        heads = self.difference.shape[-1]
        where = {"layer": chosen // heads, "head": chosen % heads}
        return pd.DataFrame({"frame": self.frames} | where | {"estimate": value})

    def p_of_best(self) -> float:
        """p of the mean estimate of `best`, which counts that a head was chosen."""
        return p_elsewhere(self._flat, self.seed)

    def attention(self) -> pd.DataFrame:
        """Own, control and their difference by layer and head, with interval, p, q and p_any."""
        layers, heads = self.difference.shape[1:]
        means = {name: self.means[name].mean(0) for name in ("own", "control")}
        ends = bootstrap(self.difference, self.seed).within(-1, 1)
        found = {name: value.ravel() for name, value in vars(ends).items()}
        p = sign_flip(self._flat, self.seed)
        tests = {"p": p, "q": benjamini_hochberg(p), "p_any": p_any(self._flat, self.seed)}
        rows = grid({"layer": layers, "head": heads}, **means)
        return rows.assign(**(found | tests))

    def movement(self) -> pd.DataFrame:
        """Movement by statistic, by what is exchanged, and by layer."""
        values = np.stack([self.means[name] for name in MOVED], axis=1)
        axes = {"statistic": MOVED, "patched": PATCHED, "layer": values.shape[-1]}
        rows = grid(axes, **vars(bootstrap(values, self.seed)))
        return rows[rows["n"] > 0].reset_index(drop=True)

    def compared(self, weights: str) -> pd.DataFrame:
        """Numbers of each frame that are held against random weights; movements over all layers.

        Lengths are compared by the logarithm of their ratio, which no scale of a model changes.
        """
        along, length = (
            dict(zip(PATCHED, np.moveaxis(self.means[name], 1, 0), strict=True)) for name in MOVED
        )
        values = {
            "best head": self.best()["estimate"].to_numpy(),
            "attention": self.difference.mean(axis=(1, 2)),
            "all": _mean_log_ratio(length["all"], length["control"]),
            "edge": _mean_log_ratio(length["edge"], length["control edge"]),
            "other ways": 1 - _mean(along["edge"]),
        }
        axes = {"weights": [weights], "statistic": list(values), "frame": self.frames}
        rows = grid(axes, value=np.stack(list(values.values())))
        return rows.dropna().reset_index(drop=True)


def _mean_log_ratio(
    one: Float[np.ndarray, "frame layer"], other: Float[np.ndarray, "frame layer"]
) -> Float[np.ndarray, "frame"]:
    """Over the layers in which both move."""
    both = (one > 0) & (other > 0)
    ratio = np.where(both, one, 1) / np.where(both, other, 1)
    return _mean(np.where(both, np.log(ratio), np.nan))


def _mean(values: Float[np.ndarray, "frame layer"]) -> Float[np.ndarray, "frame"]:
    """Over the layers that have a value; NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def chosen_most(best: pd.DataFrame) -> tuple[int, int]:
    """Layer and head that `NounTables.best` chooses in most frames."""
    layer, head = best[["layer", "head"]].value_counts().index[0]
    return int(layer), int(head)


def first_of_frames(cases: Sequence[Case]) -> list[Case]:
    """The first case of each frame, frames as they first come."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.frame, case)
    return list(first.values())


def sentence_rows(
    read: Sequence[Sentence],
    attention: Float[np.ndarray, "case 2"],
    skipped: Sequence[dict[str, str]],
) -> pd.DataFrame:
    """A row for each sentence, with attention (own, control) by one head; then those skipped."""
    rows = [
        one.told
        | {"distance": one.case.distance, "tokens": one.case.clean.shape[1]}
        | {"own_attention": own, "control_attention": control, "skipped": ""}
        for one, (own, control) in zip(read, attention.tolist(), strict=True)
    ]
    return pd.DataFrame([*rows, *skipped]).astype({"distance": "Int64", "tokens": "Int64"})


def example_rows(model: Model, read: Sentence, layer: int, head: int) -> pd.DataFrame:
    """A head's attention from the noun to every token of its text, and of its control."""
    whole = model.card.arithmetic is None
    frames = []
    for number, name in enumerate(("own", "control")):
        ids = tokenize(model, read.told["text" if name == "own" else name]) if whole else []
        ids = np.array(ids) if whole else read.case.clean[number]
        every = attention_patterns(model, torch.from_numpy(ids).to(model.cfg.device)).numpy()
        told = {"pos": range(len(ids)), "token": token_strings(model, ids)}
        row = every[layer, head, read.case.at[number]]
        frames.append(pd.DataFrame({"adjective": name} | told | {"attention": row}))
    return pd.concat(frames, ignore_index=True)


def by_distance(
    attention: Float[np.ndarray, "case 2"],
    distance: Sequence[int],
    frames: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """Means over frames of attention (own, control), for each distance from adjective to noun."""
    parts = []
    for number in sorted(set(distance)):
        rows = [i for i, other in enumerate(distance) if other == number]
        found = bootstrap(frame_means(attention[rows], [frames[i] for i in rows]), seed).within(
            0, 1
        )
        axes = {"distance": [number], "adjective": ["own", "control"]}
        parts.append(grid(axes, **vars(found)))
    return pd.concat(parts, ignore_index=True)


def edge_table(shares: Float[np.ndarray, "frame layer edge"], seed: int) -> pd.DataFrame:
    """Shares of single edges by layer and head; the last edge, of all heads, has none."""
    layers, edges = shares.shape[1:]
    rows = grid({"layer": layers, "head": edges}, **vars(bootstrap(shares, seed)))
    head = rows["head"].astype("Int64")
    return rows.assign(head=head.mask(head == edges - 1))


def attending_and_moving(
    attention: pd.DataFrame, edges: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Each single head's edge; with the difference of its attention; their rank correlation.

    `attention` is that of `NounTables`, `edges` an `edge_table`. The correlation has a row
    (method, estimate), and none where either does not vary.
    """
    single = edges[edges["head"].notna()].astype({"head": int})
    single = single[["layer", "head", "estimate"]].rename(columns={"estimate": "movement_share"})
    both = attention.rename(columns={"estimate": "attention_difference"})
    both = both[["layer", "head", "attention_difference"]].merge(single)
    values = (both[[name]].to_numpy().T for name in ("attention_difference", "movement_share"))
    rank = pd.DataFrame({"method": ["spearman"], "estimate": spearman(*values)})
    return single, both, rank.dropna()
