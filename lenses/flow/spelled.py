"""Matrices as rows of a table, each cell with the sum that it comes from, written out."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.flow.primer import Attended, Maps, attend, softmax
from lenses.flow.walkthrough import Walk

How = Callable[[int, int], str]

ABOUT = {
    "Words": "Each word is a row of numbers, its embedding.",
    "Map to queries": "W_Q: one number for each number of a word and each of a query.",
    "Map to keys": "W_K, of the same shape.",
    "Map to values": "W_V, of the same shape.",
    "Queries": "Each word times W_Q: what the word looks for.",
    "Keys": "Each word times W_K: what the word can be found by.",
    "Values": "Each word times W_V: what the word hands on when it is looked at.",
    "Scores": "Every query (row) meets every key (column): the sum of their products, divided by "
    "the root of their length, so that longer vectors do not make softmax harder.",
    "Mask": "The scores with later words hidden: a word may look at itself and at what came "
    "before it, so it cannot see the word that it is to predict.",
    "Weights": "Softmax of each row of scores: exp of the score, divided by the sum of the row. "
    "Each row sums to 1; columns do not.",
    "Mixed values": "The values, each times its weight, added up: one mixture for each word.",
    "Change": "Each mixture times W_O: what the head proposes to add to the word.",
    "Changed words": "The words plus the changes.",
    "Next word": "Each changed word is compared with every word of the vocabulary; softmax makes "
    "probabilities of it. Each row predicts the word after it: all rows in one pass.",
}
"""What is computed at each step."""


def cells(
    step: str,
    rows: Sequence[str],
    columns: Sequence[str] | int,
    values: Float[np.ndarray, "row column"],
    how: How = lambda row, column: "",
) -> pd.DataFrame:
    """A matrix as rows of step, row, column, value and how; columns that are a number count up."""
    names = [str(n + 1) for n in range(columns)] if isinstance(columns, int) else list(columns)
    if values.shape != (len(rows), len(names)):
        raise ValueError(f"{step}: {values.shape} values, {len(rows)} x {len(names)} names")
    told = [
        (step, rows[row], names[column], values[row, column], how(row, column))
        for row, column in np.ndindex(values.shape)
    ]
    return pd.DataFrame(told, columns=["step", "row", "column", "value", "how"])


def product(left: Float[np.ndarray, "n"], right: Float[np.ndarray, "n"]) -> str:
    """The sum of products of two vectors, term by term."""
    terms = " + ".join(f"{number(a)} × {number(b)}" for a, b in zip(left, right, strict=True))
    return f"{terms} = {number(float(left @ right))}"


def number(value: float) -> str:
    """Two decimals, a true minus, in brackets where it is below zero."""
    text = f"{abs(value):.2f}"
    return f"(−{text})" if value < 0 and text != "0.00" else text


def one_head(
    words: Sequence[str],
    x: Float[np.ndarray, "word width"],
    maps: Maps,
    *,
    causal: bool,
    context: tuple[Sequence[str], Float[np.ndarray, "key width"]] | None = None,
) -> pd.DataFrame:
    """Every matrix of a layer's first head, in order."""
    seen, other = context or (words, x)
    own = attend(x, maps, context=other, causal=causal)
    parts = [cells("Words", words, x.shape[1], x)] if context is None else []
    linear = {
        "Queries": (words, x, maps.W_Q, own.query),
        "Keys": (seen, other, maps.W_K, own.key),
        "Values": (seen, other, maps.W_V, own.value),
    }
    for step, (names, of, weight, found) in linear.items():
        how = _products(of, weight[0])
        parts.append(cells(step, names, found.shape[-1], found[0], how))
    parts += _scored(words, seen, own, causal)
    if own.change is not None:
        changes = own.change[0]
        how = _products(own.mixed[0], maps.W_O[0])
        parts.append(cells("Change", words, x.shape[1], changes, how))
        parts.append(cells("Changed words", words, x.shape[1], x + changes, _sums(x, changes)))
    return pd.concat(parts, ignore_index=True)


def the_maps(maps: Maps) -> pd.DataFrame:
    """W_Q, W_K and W_V of a layer's first head."""
    parts = {"Map to queries": maps.W_Q, "Map to keys": maps.W_K, "Map to values": maps.W_V}
    names = [str(number + 1) for number in range(maps.W_Q.shape[1])]
    shown = [cells(step, names, part.shape[-1], part[0]) for step, part in parts.items()]
    return pd.concat(shown, ignore_index=True)


def _scored(
    words: Sequence[str], seen: Sequence[str], own: Attended, causal: bool
) -> list[pd.DataFrame]:
    """Scores, what the mask leaves, weights, and mixed values."""
    scores, weights, value = own.scores[0], own.weights[0], own.value[0]
    root = own.query.shape[-1] ** 0.5
    later = np.triu(np.ones(scores.shape, dtype=bool), 1) & causal
    masked = np.where(later, np.nan, scores)
    meets = _products(own.query[0], own.key[0].T)
    grown = np.nansum(np.exp(masked), axis=1)

    def scored(row: int, column: int) -> str:
        return (
            f"query of “{words[row]}” · key of “{seen[column]}” = {meets(row, column)}; "
            f"divided by {root:.2f}: {number(scores[row, column])}"
        )

    def weighed(row: int, column: int) -> str:
        if later[row, column]:
            return "hidden by the mask"
        grows = np.exp(scores[row, column])
        return f"exp({number(scores[row, column])}) = {grows:.2f}; divided by {grown[row]:.2f}"

    found = [cells("Scores", words, seen, scores, scored)]
    found += [cells("Mask", words, seen, masked, weighed)] if causal else []
    found.append(cells("Weights", words, seen, np.where(later, np.nan, weights), weighed))
    mixed = cells("Mixed values", words, value.shape[1], own.mixed[0], _products(weights, value))
    return [*found, mixed]


def meets(words: Sequence[str], own: Attended) -> pd.DataFrame:
    """For each word how its query meets every key that it may see: products, score, weight."""
    query, key, weights = own.query[0], own.key[0], own.weights[0]
    length = query.shape[-1]
    columns = [*(f"q{n + 1} × k{n + 1}" for n in range(length)), "sum", f"÷ √{length}", "weight"]
    parts = []
    for pos, word in enumerate(words):
        products = query[pos] * key[: pos + 1]
        total = products.sum(axis=1, keepdims=True)
        told = [products, total, total / length**0.5, weights[pos, : pos + 1, None]]
        parts.append(cells(f"“{word}”", words[: pos + 1], columns, np.concatenate(told, axis=1)))
    return pd.concat(parts, ignore_index=True)


def about_meeting(words: Sequence[str]) -> dict[str, str]:
    """What is computed at each step of `meets`."""
    return {
        f"“{word}”": f"The query of “{word}” meets the key of every word up to itself: their "
        "numbers are multiplied, added up and divided by the root of their length; softmax makes "
        "weights."
        for word in words
    }


def _products(left: Float[np.ndarray, "row n"], right: Float[np.ndarray, "n column"]) -> How:
    return lambda row, column: product(left[row], right[:, column])


def _sums(left: Float[np.ndarray, "row column"], right: Float[np.ndarray, "row column"]) -> How:
    return lambda row, column: f"{number(left[row, column])} + {number(right[row, column])}"


def next_words(
    words: Sequence[str], known: Sequence[str], logits: Float[np.ndarray, "word known"]
) -> pd.DataFrame:
    """Probabilities of every known word after each word."""
    chances = softmax(logits)
    return cells("Next word", words, known, chances, lambda row, column: f"after “{words[row]}”")


WALKED = {
    "Words scored": "The words that are scored (keys and values in one), as random numbers. "
    "Published: all words of the sentence. Corrected: the current word and the two before it.",
    "Query": "Published: the mean of the sentence's last three words, the last of which is the one "
    "to be predicted. Corrected: the current word, the last but one.",
    "Score": "Each key times the query, divided by the root of 3. Both do the same.",
    "Attention weights": "Published: exp of the score, without dividing by the sum, so that they "
    "do not sum to 1. Corrected: softmax of the scores.",
    "Softmax again": "Published only: a second softmax, of the weights. The values are never used.",
    "Mixed values": "Corrected only: the values, each times its weight, added up.",
    "Word that is named": "Published: the probability of the first word of the sentence is read as "
    "that of the first word of the vocabulary, and so on; these are words of the fox sentence. "
    "Corrected: the mixture is compared with every word; the most probable are shown.",
}
"""What the published walkthrough and the corrected one compute at each step."""


def of_walk(walk: Walk) -> pd.DataFrame:
    """Every number of one prediction of the published walkthrough, or of the corrected one."""
    is_published = walk.context is None
    grown, window = np.exp(walk.scores), ", ".join(walk.window)
    made = f"mean of {window}" if is_published else f"embedding of “{walk.window[-1]}”"
    divided = "" if is_published else f"; divided by {grown.sum():.2f}"
    vectors = walk.embedded.T

    def weighed(row: int, column: int) -> str:
        return f"exp({number(walk.scores[column])}) = {grown[column]:.2f}{divided}"

    def mixed(row: int, column: int) -> str:
        return product(walk.weights, vectors[column])

    def named(row: int, column: int) -> str:
        return f"this is the probability of “{walk.means[column]}”"

    chances = walk.probabilities[None]
    if is_published:
        middle = cells("Softmax again", ["probability"], walk.keys, chances)
    else:
        middle = cells("Mixed values", ["mixture"], len(vectors), walk.context[None], mixed)
    parts = [
        cells("Words scored", walk.keys, len(vectors), walk.embedded),
        cells("Query", ["query"], len(vectors), walk.query[None], lambda row, column: made),
        cells("Score", ["score"], walk.keys, walk.scores[None]),
        cells("Attention weights", ["weight"], walk.keys, walk.weights[None], weighed),
        middle,
        cells("Word that is named", ["probability"], walk.names, chances, named),
    ]
    return pd.concat(parts, ignore_index=True)
