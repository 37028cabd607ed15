"""What is drawn of the tables of the primer: parts of them, with names of their own."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.flow.examples import NETWORKS
from lenses.flow.spelled import WALKED
from lenses.statistics.grid import in_order
from prompts.walkthrough import SENTENCES, words

MOST_NAMED = 6
"""Most probable words that are drawn of the corrected walkthrough."""


def example(matrices: pd.DataFrame, name: str) -> pd.DataFrame:
    """The cells of one example."""
    return matrices[matrices["example"] == name].drop(columns="example")


def both_walks(matrices: pd.DataFrame, name: str) -> pd.DataFrame:
    """A sentence's walkthrough as published and corrected (`side`), step by step.

    Of the words that the corrected one names, the most probable.
    """
    published, corrected = (
        example(matrices, f"{name} {side}").assign(side=side) for side in ("published", "corrected")
    )
    named = corrected["step"] == list(WALKED)[-1]
    best = corrected[named].nlargest(MOST_NAMED, "value")
    return in_order(pd.concat([published, corrected[~named], best]), "step", list(WALKED))


def sums_of_weights(matrices: pd.DataFrame) -> pd.DataFrame:
    """The weights of the head of the notes, summed over each word's row and over its column."""
    weights = example(matrices, "notes").query("step == 'Weights'")
    sums = [
        weights.groupby(axis, sort=False)["value"].sum().rename_axis("word")
        .rename("sum of the weights").reset_index().assign(sum=f"its {axis}")
        for axis in ("row", "column")
    ]  # fmt: skip
    return pd.concat(sums)


def with_and_without_mask(matrices: pd.DataFrame) -> pd.DataFrame:
    """Scores, weights and mixed values of one head on either `side`."""
    plain, masked = (example(matrices, name) for name in ("notes", "mask"))
    masked = masked[masked["step"] != "Scores"].replace({"step": {"Mask": "Scores"}})
    sides = {"without a mask": plain, "with a mask": masked}
    both = pd.concat([part.assign(side=side) for side, part in sides.items()])
    steps = ["Scores", "Weights", "Mixed values"]
    return in_order(both[both["step"].isin(steps)], "step", steps)


def written_proposals(matrices: pd.DataFrame) -> pd.DataFrame:
    """What each head proposes, with its numbers written out."""
    rows = example(matrices, "heads")
    written = [f"{v:.2f}".replace("-", "−") for v in rows["value"].round(2) + 0.0]
    rows = rows.rename(columns={"row": "vector", "column": "number of the word’s vector"})
    return rows.assign(written=written)


def middle_half(seconds: Float[np.ndarray, "repeat heads 2"], heads: Sequence[int]) -> pd.DataFrame:
    """The median of the milliseconds that heads take, and between what the middle half lie."""
    rows = []
    for column, way in enumerate(("one after another", "all in one product")):
        low, middle, high = np.quantile(1000 * seconds[:, :, column], [0.25, 0.5, 0.75], axis=0)
        parts = {"time (milliseconds)": middle, "low": low, "high": high}
        rows.append(pd.DataFrame({"heads": heads, "way": way} | parts))
    return pd.concat(rows)


def chances(matrices: pd.DataFrame) -> pd.DataFrame:
    """What a trained head says after each word that another follows; rows name both."""
    parts = []
    for name in SENTENCES:
        follows = dict(zip(words(name), words(name)[1:], strict=False))
        part = example(matrices, f"trained {name}").query("step == 'Next word'")
        part = part[part["row"].isin(list(follows))].rename(columns={"column": "word that is said"})
        pairs = [f"{word}→{follows[word]}" for word in part.pop("row")]
        parts.append(part.assign(**{"word → its next": pairs}))
    return pd.concat(parts)


def right_words(said: pd.DataFrame) -> pd.DataFrame:
    """How many next words each network says, by seed, and which share of all that is."""
    by = said.groupby(["network", "seed"])["right"]
    found = by.agg(right="sum", count="count").reset_index()
    return found.assign(share=found["right"] / found["count"])


def shares_right(said: pd.DataFrame) -> pd.DataFrame:
    """The share of next words that each of NETWORKS says: mean, lowest and highest of seeds."""
    shares = right_words(said).groupby("network")["share"]
    rows = shares.agg(**{"right (share)": "mean", "low": "min", "high": "max"})
    return rows.loc[list(NETWORKS)].rename(NETWORKS).reset_index()


def by_training(seen: pd.DataFrame, name: str) -> pd.DataFrame:
    """What each word of a sentence looks at, every training as a head of one layer."""
    rows = seen[seen["sentence"] == name]
    return rows.assign(layer=0).rename(columns={"seed": "head"})


def sums_of_rows(matrices: pd.DataFrame) -> pd.Series:
    """Sums of the rows of every matrix of weights."""
    weights = matrices.query("step == 'Weights'")
    return weights.groupby(["example", "row"])["value"].sum()
