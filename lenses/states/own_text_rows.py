"""What is drawn of tables about a model's own text: parts of them, with names of their own."""

from collections.abc import Mapping

import pandas as pd

from lenses.states.fillers import FILLERS, MAIN, OWN
from lenses.states.policy import STATISTICS
from lenses.statistics.intervals import bootstrap

APART = "difference (standard deviations)"
TEXTS = {
    "given": "given text", **{name: f"own {text}" for name, text in OWN.items()},
    "other": "other text", "shuffled": "given text, shuffled",
}  # fmt: skip
"""Fillers in words."""
TIMES = "entropy, as a share of that on the other text"
LOWER = (0.33, "2605.25459: 3 to 4 times lower, post-trained models, surprisal not held fixed")
"""The published share, with its source."""
STEPS = 5
"""About so many parts a long text is divided into, where means are drawn along it."""


def spaced(statistic: str) -> str:
    """The name of a statistic as words."""
    return statistic.replace("filler", "what_follows").replace("_", " ")


def in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences with statistics and fillers as words, and which own `text` it is, if one."""
    words, text = rows["statistic"].map(spaced), rows["filler"].map(OWN)
    named = rows["filler"].map(TEXTS)
    return rows.assign(statistic=words, text=text, filler=named, **{APART: rows["estimate"]})


def with_held(effects: pd.DataFrame) -> pd.DataFrame:
    """Differences of all fillers, with what is `held` fixed."""
    rows = in_words(effects)
    rows = rows.assign(held=rows["control"] + " held fixed")
    return rows[["held", "filler", "statistic", APART, "low", "high", "p_any", "n"]]


def beside_random(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Differences of own text, position and surprisal held fixed, by `weights`: own and random.

    Of the tables `effects` and `against_random`.
    """
    own, excess = (in_words(tables[name]) for name in ("effects", "against_random"))
    own = own[own["text"].notna() & (own["control"] == MAIN)]
    keys = ["control", "filler", "statistic"]
    random = excess.merge(own[[*keys, APART]], on=keys, suffixes=(" more", ""))
    random[APART] -= random[APART + " more"]
    random["weights"] = "random weights " + random["random_model"].astype(str)
    parts = [own.assign(weights="these weights"), random.drop(columns=["low", "high"])]
    both = pd.concat(parts, ignore_index=True)
    return both[["text", "statistic", "weights", APART, "low", "high"]]


def certainty_in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """Ratios of entropies that are known, with the `pair` of texts and the weights in words."""
    rows = rows.dropna(subset="estimate")
    held = rows["held"].replace("surprisal", "surprisal of the token just read") + " held fixed"
    pair = rows["filler"].map(OWN) + " against " + rows["against"]
    weights = rows["weights"].replace("own", "these")
    weights = weights.replace(r"^([a-z]+)", r"\1 weights", regex=True)
    return rows.assign(pair=pair, held=held, weights=weights, **{TIMES: rows["estimate"]})


def certainty_of(rows: pd.DataFrame, filler: str, against: str) -> pd.DataFrame:
    """By weights, ratios of entropies on a filler and another text at the same surprisals."""
    rows = rows.set_index(["filler", "against", "held"]).sort_index()
    return rows.loc[[(filler, against, "surprisal")]].set_index("weights")


def along_text(tokens: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Surprisal, then statistics that vary, along the text: means over prompts by filler.

    Of long texts a few positions together, by the first (`token`).
    """
    step, parts = max(1, (tokens["pos"].max() + 1) // STEPS), []
    first = tokens.assign(token=tokens["pos"] // step * step)
    for name in ("surprisal", *STATISTICS):
        means = first.groupby(["prompt", "filler", "token"])[name].mean().unstack([1, 2])
        ends = vars(bootstrap(means.to_numpy(float)))
        labels = means.columns.to_frame(index=False)
        parts.append(labels.assign(**ends, statistic=spaced(name)))
    rows = pd.concat(parts, ignore_index=True).rename(columns={"estimate": "mean"})
    rows = rows.sort_values("filler", key=lambda names: names.map(FILLERS.index), kind="stable")
    rows["filler"] = rows["filler"].map(TEXTS)
    surprisal = rows["statistic"] == "surprisal"
    return (
        rows[surprisal].rename(columns={"mean": "surprisal"}),
        rows[~surprisal].dropna(subset="mean"),
    )
