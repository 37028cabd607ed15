"""What a model answers to additions."""

import numpy as np
from jaxtyping import Bool, Int

from lenses.texts import likeliest
from models import Model
from prompts.additions import AdditionFormat, Sums


def answered(
    model: Model, style: AdditionFormat, sums: Sums
) -> tuple[Int[np.ndarray, "n answer"], Int[np.ndarray, "n answer"], Bool[np.ndarray, "n"]]:
    """Digits said after the right prefix, those written freely, and whether the answer then ends.

    Writing is greedy. Every answer is first read with the right digits in it, then with the digits
    just said, until what is said is what was read: then each digit is the likeliest after the
    model's own, as if they had been written one by one, and few passes are needed.
    """
    written = style.write(sums)
    tokens, is_digit = written.tokens, written.written
    last = written.at.max(axis=1, keepdims=True)
    reads = np.concatenate([np.maximum(written.at - 1, 0), last], axis=1)
    said = likeliest(model, tokens, reads)
    given = _digits(said[:, :-1], style, is_digit)
    for _ in range(style.digits + 1):
        row, place = np.nonzero(is_digit)
        differs = tokens[row, written.at[row, place]] != said[row, place]
        changed = np.unique(row[differs])
        if not changed.size:
            break
        tokens[row, written.at[row, place]] = said[row, place]
        said[changed] = likeliest(model, tokens[changed], reads[changed])
    return given, _digits(said[:, :-1], style, is_digit), ~np.isin(said[:, -1], style.digit_ids)


def _digits(
    ids: Int[np.ndarray, "n answer"], style: AdditionFormat, is_digit: Bool[np.ndarray, "n answer"]
) -> Int[np.ndarray, "n answer"]:
    """The digits that token ids stand for; -1 where there is none to be said or none is said."""
    same = ids[..., None] == style.digit_ids
    return np.where(same.any(-1) & is_digit, same.argmax(-1), -1)
