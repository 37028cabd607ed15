"""Does the word of a place mark the place, or a carry into it? (A rival reading: 2603.26828.)"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from lenses.digits.reading import DigitReading
from lenses.digits.words import lens_of
from lenses.statistics.intervals import bootstrap
from lenses.statistics.resampled import leave_one_out, pseudo_values
from lenses.statistics.word_scores import scores

HUNDREDS = 2


def beside_random(own: DigitReading, random: Sequence[pd.DataFrame], seed: int) -> pd.DataFrame:
    """`flag_rows` of a model, and as `null` the mean of those of models with random weights."""
    rows = flag_rows(own, seed)
    if rows.empty:
        return rows
    return rows.assign(null=np.mean([flags["estimate"] for flags in random], axis=0))


def flag_rows(own: DigitReading, seed: int, place: int = HUNDREDS) -> pd.DataFrame:
    """How much a place's word stands out by the place and by a carry into it, by layer.

    Over answer digits of additions, of answers as long as the longer addend: a carry out of the top
    moves all digits of an answer. `word by place`: its score at the place's digits minus that at
    others', the same digit and carry compared. `word by carry`: at the place's digits, with a carry
    into their column minus without, the same digit compared. `place minus carry`: the first minus
    the size of the second (chance makes a size too large, never too small: that favours the
    carry). First digits of answers are compared with first digits only, and announced numbers with
    announced ones. Intervals: over prompts, from the jackknife. No rows without the word, or
    without digits to compare.
    """
    if place not in own.scored:
        return pd.DataFrame({"statistic": []})
    rows = own.of("generated") & (own.digits["kind"] == "addition").to_numpy() & _as_long(own)
    digits = own.digits[rows]
    label = np.full(len(digits), own.scored.index(place))
    logits = own.logits[rows, lens_of(own), :, : len(own.scored)].astype(float)
    score, is_place = scores(logits, label), (digits["place"] == place).to_numpy()
    digit, carry = digits["digit"].to_numpy(), digits["carry"].to_numpy()
    first, announced = (digits["index"] == 0).to_numpy(), digits["announced"].to_numpy()
    alike = 4 * digit + 2 * first + announced
    weight = _all_but_one(digits["prompt"].to_numpy())
    by_place = matched_difference(score, is_place, 2 * alike + carry, weight)
    here = is_place.nonzero()[0]
    by_carry = matched_difference(score[here], carry[here] == 1, alike[here], weight[:, here])
    values = {
        "word by place": by_place,
        "word by carry": by_carry,
        "place minus carry": by_place - abs(by_carry),
    }
    if np.isnan(values["place minus carry"]).any():
        return pd.DataFrame({"statistic": []})
    frames = [_by_layer(own, name, found, len(here), seed) for name, found in values.items()]
    return pd.concat(frames, ignore_index=True)


def _as_long(own: DigitReading) -> Bool[np.ndarray, "n"]:
    """Digits of texts whose answer is as long as the longest number that is given."""
    given = own.digits["part"] != "c"
    prompt, length = own.digits["prompt"], own.digits["length"]
    longest = (length.where(side).groupby(prompt).transform("max") for side in (given, ~given))
    return np.equal(*longest).to_numpy()


def matched_difference(
    score: Float[np.ndarray, "n site"],
    treated: Bool[np.ndarray, "n"],
    group: Int[np.ndarray, "n"],
    weight: Float[np.ndarray, "draw n"],
) -> Float[np.ndarray, "draw site"]:
    """Mean score of the treated minus that of the others, within groups; NaN without any pair.

    A group with n1 treated and n0 others counts as n1 n0 / (n1 + n0), as its precision does.
    """
    total = np.zeros((len(weight), score.shape[1]))
    precision = np.zeros(len(weight))
    for one in np.unique(group):
        parts = [np.flatnonzero((group == one) & (treated == side)) for side in (True, False)]
        n1, n0 = (weight[:, part].sum(axis=1) for part in parts)
        both = (n1 > 0) & (n0 > 0)
        if not both.any():
            continue
        s1, s0 = (weight[:, part] @ score[part] for part in parts)
        some = np.where(both, n1 * n0 / np.maximum(n1 + n0, 1), 0)
        means = s1 / np.maximum(n1, 1)[:, None] - s0 / np.maximum(n0, 1)[:, None]
        total += some[:, None] * means
        precision += some
    with np.errstate(invalid="ignore"):
        return np.where(precision[:, None] > 0, total / precision[:, None], np.nan)


def _all_but_one(prompt: Int[np.ndarray, "n"]) -> Float[np.ndarray, "draw n"]:
    """Which digits count: all of them, then all but those of each prompt in turn."""
    prompts, at = np.unique(prompt, return_inverse=True)
    return np.vstack([np.ones(len(prompts)), leave_one_out(len(prompts))])[:, at]


def _by_layer(
    own: DigitReading,
    statistic: str,
    found: Float[np.ndarray, "draw site"],
    n: int,
    seed: int,
) -> pd.DataFrame:
    """A statistic of all prompts, with intervals from its pseudovalues (Efron & Stein 1981)."""
    whole, without = found[0], found[1:]
    spread = bootstrap(pseudo_values(whole, without), seed).either_side()
    ends = {
        "low": whole + spread.low - spread.estimate,
        "high": whole + spread.high - spread.estimate,
    }
    return pd.DataFrame(
        {"statistic": statistic, "layer": own.layers, "estimate": whole, **ends, "n": n}
    )
