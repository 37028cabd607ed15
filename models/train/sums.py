"""The additions that an adder is trained on, and what it should predict."""

import numpy as np
from jaxtyping import Bool, Int

from prompts.additions import (
    ANY,
    PASS,
    AdditionFormat,
    Sums,
    Written,
    draw,
    number_of,
)

MARK = "<bos>"
"""Begins every sequence and, as in GPT-2, also ends it."""


def longest(places: int) -> Sums:
    """An addition that no other takes more tokens to write: 99+99=."""
    nines = np.array([10**places - 1])
    return Sums(nines, nines, places)


def training_sums(rng: np.random.Generator, style: AdditionFormat, count: int) -> Sums:
    """A batch: 50 % uniform, 40 % rich in columns that sum to nine, 10 % of short addends.

    Uniform batches alone leave an adder right on 99.99 % of uniform sums and wrong on one in
    eight of the longest carries. Where numbers are not padded, the whole batch is of addends whose
    lengths are drawn one by one, from 1 digit to all.
    """
    places = style.digits
    classes = np.full((count, places), ANY)
    share = np.zeros((count, 1))
    share[: count * 2 // 5] = rng.uniform(0.3, 0.95, (count * 2 // 5, 1))
    classes[rng.random((count, places)) < share] = PASS
    sums = draw(classes, rng)
    short = count // 10 if style.pad else count
    length = np.full((2, count), places)
    length[:, count - short :] = rng.integers(1, places + 1, (2, short))
    return cut(sums, length, passes=classes == PASS)


def cut(sums: Sums, length: Int[np.ndarray, "2 n"], passes: Bool[np.ndarray, "n places"]) -> Sums:
    """Both addends cut to their lowest `length` digits.

    A column that passes a carry on, and of which one digit is left, gets a nine: it still does.
    """
    has = np.arange(sums.places) < length[:, :, None]
    left = np.stack([sums.a_digits, sums.b_digits]) * has
    alone = has & ~has[::-1] & passes
    a, b = (number_of(digits) for digits in np.where(alone, 9, left))
    return Sums(a, b, sums.places)


def targets(
    style: AdditionFormat, written: Written
) -> tuple[
    Int[np.ndarray, "batch answer"],
    Int[np.ndarray, "batch answer"],
    Bool[np.ndarray, "batch answer"],
]:
    """Where an adder is read, what it should say there, and whether that is asked of it.

    Asked for are the digits of the answer, then the end; shorter answers leave the rest unasked.
    """
    after = len(style.layout) - 1 - style.layout.index("c")
    last = written.at.max(axis=1, keepdims=True) + after
    reads = written.prompt[:, None] - 1 + np.arange(style.digits + after + 2)
    asked = reads <= last
    nexts = np.minimum(reads + 1, written.tokens.shape[1] - 1)
    said = np.take_along_axis(written.tokens, nexts, axis=1)
    end = style.vocabulary[MARK]
    return np.minimum(reads, last), np.where(reads < last, said, end), asked


def marked(
    style: AdditionFormat, sums: Sums, said: Int[np.ndarray, "n pos"]
) -> Bool[np.ndarray, "n answer"]:
    """Which answer digits are right, given the token said at each pos of what was read."""
    written = style.write(sums)
    digits = np.take_along_axis(said, np.maximum(written.at - 1, 0), axis=1)
    right = (digits == style.digit_ids[sums.answer_digits]) | ~written.written
    if style.pad:
        return right
    last = written.at.max(axis=1, keepdims=True)
    ends = np.take_along_axis(said, last, axis=1) == style.vocabulary[MARK]
    return right & (ends | (written.at != last))
