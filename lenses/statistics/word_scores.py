"""Does each class of states decode to its own word? Scores against nulls (SCIENCE 5).

Classes are decimal places, say, and class i has the i-th word. The score of a state is the logit of
its class's word minus the mean of the others', which is the same difference of log-probabilities.
Its mean over the states of a class, averaged over classes, is called the advantage: every class
weighs the same, so a word that is likely everywhere has none.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from lenses.statistics.intervals import luck_as_far
from lenses.statistics.resampled import leave_one_out, pseudo_values

DRAWS = 10_000
ROUNDING = 1e-9
"""Nats; logits come in float32, so this is nothing."""


def scores(
    logits: Float[np.ndarray, "n *site word"], label: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n *site"]:
    """Logit of each state's own word minus the mean of all the other words."""
    own = logits[np.arange(len(label)), ..., label].astype(float)
    words = logits.shape[-1]
    return (own * words - logits.sum(-1, dtype=float)) / (words - 1)


def class_means(
    logits: Float[np.ndarray, "n site word"], label: Int[np.ndarray, "n"], classes: int
) -> Float[np.ndarray, "site class word"]:
    """Mean logit of every word over the states of each class; NaN for a class without a state."""
    member = (label == np.arange(classes)[:, None]).astype(float)
    with np.errstate(invalid="ignore"):
        mean = member / member.sum(1, keepdims=True)
    return np.einsum("cn,nsw->scw", mean, logits.astype(float))


def advantage(means: Float[np.ndarray, "*site class class"]) -> Float[np.ndarray, "*site"]:
    """Mean over the classes of own word minus the mean of the others."""
    classes = means.shape[-1]
    own = np.trace(means, axis1=-2, axis2=-1) / classes
    return (own - means.mean((-2, -1))) * classes / (classes - 1)


def other_words_null(
    means: Float[np.ndarray, "site class word"], seed: int, draws: int = DRAWS
) -> Float[np.ndarray, "draw site"]:
    """Advantages if every class had a random word of the pool, no word being given twice.

    The pool holds the true words and others of like frequency. Where words are directions drawn
    independently of the classes, as in an untrained model, the true words are one such draw.
    """
    rng = np.random.default_rng(seed)
    classes, words = means.shape[1:]
    drawn = rng.random((draws, words)).argsort(1)[:, :classes]
    above = means - means.mean(1, keepdims=True)
    own = sum(above[:, number, drawn[:, number]] for number in range(classes))
    return (own / (classes - 1)).T


def shuffled_labels_null(
    logits: Float[np.ndarray, "n site class"],
    label: Int[np.ndarray, "n"],
    block: Int[np.ndarray, "n"],
    seed: int,
    draws: int = DRAWS // 5,
) -> Float[np.ndarray, "draw site"]:
    """Advantages if, within each block, the classes there traded their labels at random.

    All states of a class in a block trade alike: what tells classes of a block apart, whatever it
    is, is kept, and only which of them is called which is lost.
    """
    rng, classes = np.random.default_rng(seed), logits.shape[-1]
    sums = np.zeros((draws, logits.shape[1], classes, classes))
    count = np.zeros((draws, classes))
    for number in np.unique(block):
        inside = block == number
        member = (label[inside] == np.arange(classes)[:, None]).astype(float)
        total = np.einsum("cn,nsw->csw", member, logits[inside].astype(float))
        there = np.flatnonzero(member.sum(1))
        traded = there[rng.random((draws, len(there))).argsort(1)]
        for new, old in zip(there, traded.T, strict=True):
            sums[:, :, new] += total[old]
            count[:, new] += member.sum(1)[old]
    return advantage(sums / count[:, None, :, None])


def max_t(
    observed: Float[np.ndarray, "site"], null: Float[np.ndarray, "draw site"]
) -> Float[np.ndarray, "site"]:
    """One-sided p of each site, corrected for having looked at all of them.

    Sites are made comparable by the null's mean and deviation, and each is set against the largest
    of all sites in each draw. (Westfall & Young 1993, section 2.5.)
    """
    spread = null.std(axis=0)
    known = spread > ROUNDING
    z, drawn = (
        np.where(known, (values - null.mean(axis=0)) / np.where(known, spread, 1), -np.inf)
        for values in (observed, null)
    )
    return luck_as_far(z - ROUNDING, drawn.max(axis=1)[:, None])


def one_sided_p(
    observed: Float[np.ndarray, "site"], null: Float[np.ndarray, "draw site"]
) -> Float[np.ndarray, "site"]:
    """Share of draws that reach what was observed, up to rounding; it counts as one of them."""
    return luck_as_far(observed - ROUNDING, null)


def advantage_by_prompt(
    score: Float[np.ndarray, "n *site"],
    label: Int[np.ndarray, "n"],
    prompt: Int[np.ndarray, "n"],
    chosen: Bool[np.ndarray, "n"] | None = None,
) -> Float[np.ndarray, "prompt *site"]:
    """Each prompt's own number of the advantage, of the `chosen` states, for an interval.

    A prompt without such a state is NaN. A class that stands in one prompt alone has no part in
    the mean without that prompt. Differences of two calls on the same prompts are by prompt.
    """
    names, row = np.unique(prompt, return_inverse=True)
    chosen = np.ones(len(label), dtype=bool) if chosen is None else chosen
    weights = np.concatenate([np.ones((1, len(names))), leave_one_out(len(names))])
    flat = score.reshape(len(label), -1).astype(float)
    means = []
    for number in np.unique(label[chosen]):
        of = chosen & (label == number)
        weight = weights[:, row[of]]
        with np.errstate(invalid="ignore"):
            means.append(weight @ flat[of] / weight.sum(1, keepdims=True))
    whole, *without = _mean_of_known(np.stack(means))
    found = pseudo_values(whole, np.stack(without))
    found[~np.isin(np.arange(len(names)), row[chosen])] = np.nan
    return found.reshape(len(names), *score.shape[1:])


def _mean_of_known(values: Float[np.ndarray, "class *cell"]) -> Float[np.ndarray, "*cell"]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / known.sum(0)
