"""Tables of `token_decoding`: from arrays of decoded states to tidy rows, in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lenses.kept import PerPrompt
from lenses.states.bake_off import PUSHED, SCORES, Plan
from lenses.states.decoders import BASIC, DECODERS, NORMS
from lenses.states.decoding import Part, Site
from lenses.statistics.intervals import bootstrap

STATES: dict[Part, str] = {
    "resid_post": "after the layer",
    "resid_mid": "after attention",
    "attn_out": "what attention adds",
    "mlp_out": "what the MLP adds",
    "embedding": "embedding",
}

LENSES = {
    "E": "embedding",
    "U": "unembedding",
    "linear": "linear mix",
    "quadratic": "quadratic mix",
    "surer": "surer of the two",
    "ridge": "ridge lens",
    "jacobian": "Jacobian lens",
}
"""Decoders in words; with the final norm the unembedding is the logit lens."""

NORM_WORDS = dict(
    zip(
        NORMS,
        ("none", "unit length", "norm, no gain", "final norm", "centred",
         "axes removed", "whitened"),
        strict=True,
    )
)  # fmt: skip


@dataclass(frozen=True)
class DecodingTables:
    """What turns arrays into the tables of `token_decoding`."""

    plan: Plan
    words: Mapping[int, str]
    """Of every token id that is named."""
    lenses: Mapping[str, str]
    """Decoders in words."""
    seed: int

    def of_texts(
        self, found: PerPrompt, pushes: PerPrompt, shown: PerPrompt, read: Sequence[Sequence[int]]
    ) -> dict[str, pd.DataFrame]:
        """All tables but that of random models."""
        plan, words, lenses, seed = self.plan, self.words, self.lenses, self.seed
        every = found["scores"]
        middle = every[:, plan.middle].mean(1)
        layers = [plan.where[row].passed for row in plan.scored]
        within, lengths = [layers[row] for row in plan.middle], [len(ids) for ids in read]
        in_boxes = box_rows(shown, plan.where, lengths, words, lenses)
        tops = top_rows(found["top"][:, plan.middle], within, words, lenses)
        sources = {
            "states": middle, "embedding alone": every[:, 0], "random vectors": found["random"],
            "shuffled vocabulary": shuffled(middle),
        }  # fmt: skip
        streams = [s.passed for s in plan.where if s.part not in ("attn_out", "mlp_out")]
        pushed = [site.passed for site in plan.pushed]
        return {
            "bake_off": bake_off_rows(sources, lenses, seed),
            "best": best_rows(middle, lenses),
            "degeneracy": degeneracy_rows(in_boxes, tops),
            "by_layer": by_layer_rows(every, layers, lenses),
            "pushes": push_rows(pushes["effects"], pushed, lenses, seed),
            "ranks": rank_rows(shown["ranks"], shown["ranked"], streams, words, lenses),
            "parts": part_rows(shown["parts"], lengths, plan.blocks),
            "boxes": in_boxes,
            "read": read_rows(read, words),
            "checks": check_rows(shown["error"], lenses),
        }


def read_rows(read: Sequence[Sequence[int]], words: Mapping[int, str]) -> pd.DataFrame:
    """The tokens of the texts that are shown."""
    return pd.DataFrame(
        [
            {"prompt": prompt, "pos": pos, "token": words[token]}
            for prompt, ids in enumerate(read)
            for pos, token in enumerate(ids)
        ]
    )


def box_rows(
    kept: PerPrompt,
    where: Sequence[Site],
    lengths: Sequence[int],
    words: Mapping[int, str],
    lenses: Mapping[str, str],
) -> pd.DataFrame:
    """A row for each box: the likeliest tokens of a state of a prompt, by a decoder and a norm."""
    axes = [
        (prompt, STATES[site.part], site.passed, pos, NORM_WORDS[norm], lenses[decoder])
        for prompt, length in enumerate(lengths)
        for site in where
        for norm in BASIC
        for decoder in DECODERS
        for pos in range(length)
    ]
    rows = pd.DataFrame(axes, columns=["prompt", "state", "layer", "pos", "norm", "decoder"])
    ids, chances = kept["ids"], kept["p"]
    for k in range(ids.shape[1]):
        end = "" if k == 0 else f"_{k + 1}"
        rows[f"token{end}"] = [words.get(token, "") for token in ids[:, k].tolist()]
        rows[f"probability{end}"] = chances[:, k]
    rows["entropy"] = kept["entropy"]
    return rows[ids[:, 0] >= 0].reset_index(drop=True)


def bake_off_rows(
    scores: Mapping[str, Float[np.ndarray, "text norm decoder score"]],
    lenses: Mapping[str, str],
    seed: int,
) -> pd.DataFrame:
    """Every decoder and norm: divergence, agreement and recovery over texts, by what was read."""
    rows = []
    for source, values in scores.items():
        found = bootstrap(values, seed)
        for norm, decoder in np.ndindex(values.shape[1:3]):
            cell = {name: found.estimate[norm, decoder, i] for i, name in enumerate(SCORES)}
            if np.isnan(cell["kl"]):
                continue
            row = {"source": source, "norm": NORM_WORDS[NORMS[norm]]}
            row |= {"decoder": lenses[DECODERS[decoder]]}
            row |= {name: cell[name] for name in SHOWN}
            for name in ("kl", "agreement"):
                ends = (getattr(found, end)[norm, decoder, SCORES.index(name)] for end in ENDS)
                row |= {f"{name}_{end}": value for end, value in zip(ENDS, ends, strict=True)}
            rows.append(row | {"n": len(values)})
    return pd.DataFrame(rows)


SHOWN = ("kl", "agreement", "agreement_5", "recovery", "recovery_5", "entropy")
ENDS = ("low", "high")


def shuffled(
    scores: Float[np.ndarray, "text norm decoder score"],
) -> Float[np.ndarray, "text norm decoder score"]:
    """The same with the decoder's vocabulary shuffled; what was not asked of it is missing."""
    found = np.full_like(scores, np.nan)
    for name in ("kl", "agreement"):
        found[..., SCORES.index(name)] = scores[..., SCORES.index(f"{name}_shuffled")]
    return found


def by_layer_rows(
    scores: Float[np.ndarray, "text site norm decoder score"],
    layers: Sequence[float],
    lenses: Mapping[str, str],
) -> pd.DataFrame:
    """Means over texts at each site."""
    mean = scores.mean(0)
    names = ("kl", "agreement", "recovery", "next_gain", "entropy")
    rows = [
        {"layer": layers[site], "norm": NORM_WORDS[NORMS[norm]], "decoder": lenses[DECODERS[d]]}
        | {name: mean[site, norm, d, SCORES.index(name)] for name in names}
        for site, norm, d in np.ndindex(mean.shape[:3])
    ]
    return pd.DataFrame(rows).dropna(subset="kl").reset_index(drop=True)


def degeneracy_rows(boxes: pd.DataFrame, tops: pd.DataFrame) -> pd.DataFrame:
    """Share of positions that decode to the single most common token, mean over layers.

    States after blocks are those of the bake-off (`tops`), all others those of the boxes.
    """
    shown = boxes[boxes["state"] != STATES["resid_post"]]
    columns = ["state", "norm", "decoder", "layer", "token"]
    every = pd.concat([tops[columns], shown[columns]], ignore_index=True)
    keys = ["state", "norm", "decoder", "layer"]
    counts = every.groupby([*keys, "token"], sort=False).size().rename("count").reset_index()
    counts["of"] = counts.groupby(keys, sort=False)["count"].transform("sum")
    first = counts.sort_values("count", ascending=False, kind="stable").drop_duplicates(keys)
    first = first.assign(share=first["count"] / first["of"])
    found = first.groupby(keys[:3], sort=False).agg(
        share=("share", "mean"), highest=("share", "max"), token=("token", "first"), n=("of", "max")
    )
    return found.reset_index()


def top_rows(
    top: Int[np.ndarray, "text site norm decoder n"],
    layers: Sequence[float],
    words: Mapping[int, str],
    lenses: Mapping[str, str],
) -> pd.DataFrame:
    """The likeliest token of every state of the bake-off."""
    _text, site, norm, decoder, _n = (axis.ravel() for axis in np.indices(top.shape))
    found = pd.DataFrame(
        {
            "state": STATES["resid_post"],
            "norm": np.array([*NORM_WORDS.values()])[norm],
            "decoder": np.array([lenses[name] for name in DECODERS])[decoder],
            "layer": np.asarray(layers)[site],
            "token_id": top.ravel(),
        }
    )
    found = found[found["token_id"] >= 0]
    return found.assign(token=found["token_id"].map(words)).reset_index(drop=True)


def best_rows(
    scores: Float[np.ndarray, "text norm decoder score"], lenses: Mapping[str, str]
) -> pd.DataFrame:
    """For each text the decoder and norm nearest to the model in all other texts."""
    kl = scores[..., SCORES.index("kl")]
    rows = []
    for text in range(len(kl)):
        others = np.delete(kl, text, axis=0) if len(kl) > 1 else kl
        mean = np.where(np.isnan(others).any(0), np.inf, others.mean(0))
        norm, decoder = np.unravel_index(mean.argmin(), mean.shape)
        own = scores[text, norm, decoder]
        logit = scores[text, NORMS.index("final"), DECODERS.index("U")]
        rows.append(
            {"text": text, "norm": NORM_WORDS[NORMS[norm]], "decoder": lenses[DECODERS[decoder]]}
            | {name: own[SCORES.index(name)] for name in ("kl", "agreement")}
            | {f"logit_lens_{n}": logit[SCORES.index(n)] for n in ("kl", "agreement")}
        )
    return pd.DataFrame(rows)


def part_rows(
    shares: Float[np.ndarray, "row part"], lengths: Iterable[int], blocks: Sequence[int]
) -> pd.DataFrame:
    """What each part makes of the state after a block, at every token."""
    axes = [
        (prompt, block, pos, part)
        for prompt, length in enumerate(lengths)
        for block in blocks
        for pos in range(length)
        for part in PARTS
    ]
    rows = pd.DataFrame(axes, columns=["prompt", "layer", "pos", "part"])
    return rows.assign(share=shares.ravel())


PARTS = ("residual stream", "attention", "MLP")


def push_rows(
    effects: Float[np.ndarray, "text site decoder effect"],
    layers: Sequence[float],
    lenses: Mapping[str, str],
    seed: int,
) -> pd.DataFrame:
    """Rises of decoded tokens, and what a random direction does to them."""
    found, noise = bootstrap(effects[..., 0], seed), effects[..., 1].mean(0)
    rows = [
        {"decoder": lenses[name], "layer": layer, "estimate": found.estimate[site, n]}
        | {"low": found.low[site, n], "high": found.high[site, n], "noise": noise[site, n]}
        | {"n": int(found.n[site, n])}
        for n, name in enumerate(PUSHED)
        for site, layer in enumerate(layers)
    ]
    return pd.DataFrame(rows).dropna(subset="estimate").reset_index(drop=True)


def rank_rows(
    ranks: Int[np.ndarray, "prompt decoder site token"],
    tokens: Int[np.ndarray, "prompt token"],
    layers: Sequence[float],
    words: Mapping[int, str],
    lenses: Mapping[str, str],
) -> pd.DataFrame:
    """Ranks of a few tokens along the residual stream."""
    rows = [
        {"prompt": prompt, "decoder": lenses[DECODERS[decoder]], "layer": layers[site]}
        | {"token": words[int(tokens[prompt, n])], "rank": rank}
        for (prompt, decoder, site, n), rank in np.ndenumerate(ranks)
        if rank > 0
    ]
    keys = ["prompt", "decoder", "token", "layer"]
    return pd.DataFrame(rows).drop_duplicates(keys, ignore_index=True)


def check_rows(
    errors: Float[np.ndarray, "prompt decoder"], lenses: Mapping[str, str]
) -> pd.DataFrame:
    """The largest error of each decoder that should be the model's own output."""
    rows = pd.DataFrame({"decoder": [lenses[name] for name in DECODERS], "error": errors.max(0)})
    return rows.dropna(ignore_index=True)
