"""A published NumPy walkthrough of self-attention: what it does, and what it should (SCIENCE 10).

The walkthrough is that of the repository ranfysvalle02/ai-self-attention on GitHub, in its form
with three sentences. `published` computes what it computes, `corrected` what it says it does; each
fault is a measurement that is made of both.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.flow.primer import softmax
from prompts.walkthrough import CURRENT, SENTENCES, WINDOW, numbered, vocabulary, words

SAME = 1e-12
WIDTH = 3
"""Numbers of an embedding, drawn evenly from 0 to 1."""


@dataclass(frozen=True)
class Walk:
    """One prediction and all numbers on the way to it."""

    window: list[str]
    """The words of which the query is made."""
    keys: list[str]
    """The words that are scored."""
    query: Float[np.ndarray, "width"]
    embedded: Float[np.ndarray, "key width"]
    scores: Float[np.ndarray, "key"]
    weights: Float[np.ndarray, "key"]
    """What is called attention weights."""
    given: Float[np.ndarray, "key"]
    """What softmax is taken of, as it was given."""
    after: Float[np.ndarray, "key"]
    """The same array after softmax was taken."""
    context: Float[np.ndarray, "width"] | None
    """The values mixed by the weights; None where they are not mixed."""
    names: list[str]
    """The words that are named, one beside each probability."""
    means: list[str]
    """The words whose probability it is."""
    probabilities: Float[np.ndarray, "name"]
    idle: int
    """Branches of the code that no key takes."""


def embeddings(seed: int) -> Float[np.ndarray, "word width"]:
    """Random embeddings of the vocabulary, as the walkthrough draws them."""
    return np.random.default_rng(seed).random((len(vocabulary()), WIDTH))


def published(
    name: str,
    embedded: Float[np.ndarray, "word width"],
    current: str = CURRENT,
    values: Float[np.ndarray, "key width"] | None = None,
) -> Walk:
    """What the walkthrough computes for a sentence; `current` and `values` come to nothing."""
    sentence, known = words(name), vocabulary()
    window = sentence[-(WINDOW + 1) :]
    keys = embedded[numbered(name)]
    query = embedded[[known.index(word) for word in window]].mean(axis=0)
    scores = keys @ query / np.sqrt(WIDTH)
    weights = np.exp(scores)
    after = weights.copy()
    probabilities = _softmax_in_place(after)
    idle = int(all(key.ndim == 1 for key in keys))  # another branch is for keys of two axes
    return Walk(
        window, sentence, query, keys, scores, weights, weights, after, None,
        known[: len(sentence)], sentence, probabilities, idle,
    )  # fmt: skip


def _softmax_in_place(x: Float[np.ndarray, "key"]) -> Float[np.ndarray, "key"]:
    np.subtract(x, x.max(), out=x)
    return np.exp(x) / np.exp(x).sum()


def corrected(
    name: str,
    embedded: Float[np.ndarray, "word width"],
    current: str | None = None,
    values: Float[np.ndarray, "key width"] | None = None,
) -> Walk:
    """The same with its faults mended: the word after `current`, the last but one unless told.

    The query is the current word's; keys and values are its own and those of the two words before
    it; the mixed values are compared with every word of the vocabulary.
    """
    sentence, known = words(name), vocabulary()
    at = sentence.index(current) if current else len(sentence) - 2
    window = sentence[max(0, at - WINDOW) : at + 1]
    keys = embedded[[known.index(word) for word in window]]
    query = keys[-1]
    scores = keys @ query / np.sqrt(WIDTH)
    after = scores.copy()
    weights = softmax(after)
    context = weights @ (keys if values is None else values)
    probabilities = softmax(embedded @ context)
    return Walk(
        window, window, query, keys, scores, weights, scores, after, context, known, known,
        probabilities, 0,
    )  # fmt: skip


Code = Callable[..., Walk]


def _changed_argument(code: Code, name: str, embedded: np.ndarray) -> float:
    """The most that softmax changes of the array that it is given."""
    walk = code(name, embedded)
    return float(np.abs(walk.after - walk.given).max())


def _beyond_one(code: Code, name: str, embedded: np.ndarray) -> float:
    """How far the sum of the attention weights is from 1."""
    return abs(float(code(name, embedded).weights.sum()) - 1)


def _twice(code: Code, name: str, embedded: np.ndarray) -> float:
    """Share of the weight that moves to other words when what is used is not softmax(scores)."""
    walk = code(name, embedded)
    used = walk.probabilities if walk.context is None else walk.weights
    return float(np.abs(used - softmax(walk.scores)).sum() / 2)


def _misnamed(code: Code, name: str, embedded: np.ndarray) -> float:
    """Probability that stands beside a word other than the one it belongs to."""
    walk = code(name, embedded)
    wrong = [one != other for one, other in zip(walk.names, walk.means, strict=True)]
    return float(walk.probabilities[wrong].sum())


def _deaf_to_the_current_word(code: Code, name: str, embedded: np.ndarray) -> float:
    """Share of other current words with which nothing changes."""
    own = code(name, embedded, current=words(name)[0]).probabilities
    others = [code(name, embedded, current=word).probabilities for word in words(name)[1:]]
    return float(np.mean([np.abs(other - own).max() < SAME for other in others]))


def _window_of_the_end(code: Code, name: str, embedded: np.ndarray) -> float:
    """Words of the window that are neither the current word nor one of the two before it."""
    sentence = words(name)
    at = len(sentence) - 2
    allowed = sentence[max(0, at - WINDOW) : at + 1]
    return float(sum(word not in allowed for word in code(name, embedded).window))


def _deaf_to_the_values(code: Code, name: str, embedded: np.ndarray) -> float:
    """1 if other values change nothing, else 0."""
    own = code(name, embedded)
    other = code(name, embedded, values=np.ones_like(own.embedded))
    return float(np.abs(other.probabilities - own.probabilities).max() < SAME)


def _idle_branches(code: Code, name: str, embedded: np.ndarray) -> float:
    """Branches of the code that no key takes."""
    return float(code(name, embedded).idle)


@dataclass(frozen=True)
class Fault:
    """A fault of the published code, and what measures it: 0 where there is none."""

    label: str
    sentence: str
    """With `size`, its mean size, where that says something."""
    measure: Callable[[Code, str, np.ndarray], float]


FAULTS = {
    "softmax in place": Fault(
        "softmax changes what it is given",
        "The published softmax overwrites the array that it is given (by up to {size:.1f}, on "
        "average), so that the weights are gone after it.",
        _changed_argument,
    ),
    "no sum": Fault(
        "weights do not sum to 1",
        "The published attention weights are exp of the scores, not divided by their sum: the sum "
        "is beyond 1 by {size:.1f}, on average.",
        _beyond_one,
    ),
    "softmax twice": Fault(
        "exp is taken twice",
        "The published probabilities are softmax of exp of the scores, not of the scores: a share "
        "of {size:.3f} of the probability moves to other words.",
        _twice,
    ),
    "first sentence": Fault(
        "words of the first sentence are named",
        "In the second and in the third sentence the published code names words of the first: it "
        "takes the number of a word in the sentence for its number in the vocabulary.",
        _misnamed,
    ),
    "current word": Fault(
        "the current word is ignored",
        "The published code is given a current word (“fox”) and never uses it: with any other the "
        "result is the same.",
        _deaf_to_the_current_word,
    ),
    "window": Fault(
        "three words instead of two",
        "The published window is the last three words of the sentence, not two words before the "
        "current one: the word that is to be predicted is among them.",
        _window_of_the_end,
    ),
    "values": Fault(
        "the values are never mixed",
        "The published code never uses the values: with any others the result is the same.",
        _deaf_to_the_values,
    ),
    "dead branch": Fault(
        "a branch never runs",
        "The published code has a branch for keys of two axes, and no key has two: it never runs.",
        _idle_branches,
    ),
}
"""By name, in the order in which a run comes across them."""


def fault_table(draws: int, seed: int) -> pd.DataFrame:
    """How often each fault shows, and how large it is, over embeddings and sentences.

    Names of the first sentence are right by luck in the first sentence: it is left out there.
    """
    drawn = [embeddings(seed + number) for number in range(draws)]
    rows = []
    for key, fault in FAULTS.items():
        names = list(SENTENCES)[key == "first sentence" :]
        sizes = np.array(
            [
                [fault.measure(code, name, embedded) for code in (published, corrected)]
                for embedded in drawn
                for name in names
            ]
        )
        shown, mended = (sizes > SAME).sum(axis=0).tolist()
        size = {"size": sizes[:, 0].mean(), "corrected_size": sizes[:, 1].mean()}
        rows.append({"fault": key, "n": len(sizes), "shown": shown, "mended": mended} | size)
    return pd.DataFrame(rows)
