"""Whether a relation (France to Paris) is one direction among the vectors of tokens (SCIENCE 9).

A relation is a list of ordered pairs. Where its target is looked for is a query, compared by cosine
with every token of the vocabulary. Only ranks are kept, so no table of all scores is ever made.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

Space = Literal["raw", "centred", "causal"]
SPACES: tuple[Space, ...] = ("raw", "centred", "causal")
Method = Literal[
    "mean offset", "one other pair", "nearest neighbour", "mean with the test pair",
    "unordered pairs",
]  # fmt: skip
METHODS: tuple[Method, ...] = (
    "mean offset", "one other pair", "nearest neighbour", "mean with the test pair",
    "unordered pairs",
)  # fmt: skip
CHUNK = 2**13
"""Tokens compared at a time."""
RIDGE = 1e-3
"""Of the mean variance, added before whitening: small vocabularies span few directions."""
NEAR = 1e-6
"""Cosines that differ by less are equal."""
DRAWS = 20
"""Times that targets are dealt out anew among the sources of a relation."""


@dataclass(frozen=True)
class Relation:
    """Ordered pairs of words that are one token each."""

    name: str
    words: tuple[tuple[str, str], ...]
    ids: Int[np.ndarray, "pair 2"]

    @cached_property
    def apart(self) -> Bool[np.ndarray, "pair pair"]:
        """Which pairs share no word, whatever its case: only such pairs may tell of each other."""
        sets = [{plain(word) for word in pair} for pair in self.words]
        return np.array([[not one & other for other in sets] for one in sets])

    def shuffled(self, rng: np.random.Generator) -> "Relation":
        """The same sources with the same targets, dealt out anew."""
        order = rng.permutation(len(self.words))
        words = [(pair[0], self.words[at][1]) for pair, at in zip(self.words, order, strict=True)]
        ids = np.stack([self.ids[:, 0], self.ids[order, 1]], axis=1)
        return Relation(self.name, tuple(words), ids)

    def among(self, ids: Mapping[str, int]) -> tuple[list[int], "Relation"]:
        """The pairs whose words are there in small letters: their numbers, and they alone."""
        every = [(plain(source), plain(target)) for source, target in self.words]
        kept = [n for n, pair in enumerate(every) if pair[0] in ids and pair[1] in ids]
        words = tuple(every[n] for n in kept)
        rows = np.array([[ids[word] for word in pair] for pair in words]).reshape(-1, 2)
        return kept, Relation(self.name, words, rows)


def plain(word: str) -> str:
    """A word without space and case."""
    return word.strip().casefold()


def forms_of(names: Sequence[str]) -> Mapping[str, list[int]]:
    """Tokens by their word without space and case."""
    found: dict[str, list[int]] = defaultdict(list)
    for token, name in enumerate(names):
        found[plain(name)].append(token)
    return found


class Metric:
    """Vectors of tokens in one space: as they are, less their mean, or whitened after that.

    `causal` whitens with the covariance of the unembedding, under which directions that vary
    separately are orthogonal (Park et al. 2023, 2311.03658, section 3).
    """

    def __init__(
        self, vectors: Float[Tensor, "token d"], space: Space, U: Float[Tensor, "token_out d"]
    ) -> None:
        self.vectors = vectors
        self._mean = 0 if space == "raw" else mean_of(vectors)
        self._whiten = whitening(U) if space == "causal" else None

    def __call__(self, rows: Int[Tensor, "n"] | slice) -> Float[Tensor, "n d"]:
        """Vectors of some tokens."""
        found = self.vectors[rows].float() - self._mean
        return found if self._whiten is None else found @ self._whiten

    def of(self, ids: Int[np.ndarray, "n"]) -> Float[Tensor, "n d"]:
        """Vectors of some tokens."""
        return self(torch.from_numpy(ids).to(self.vectors.device))


def mean_of(rows: Float[Tensor, "token d"]) -> Float[Tensor, "d"]:
    """The mean vector, summed in float64."""
    total = torch.stack([part.double().sum(0) for part in rows.split(CHUNK)]).sum(0)
    return (total / len(rows)).float()


def whitening(U: Float[Tensor, "token d"]) -> Float[Tensor, "d d"]:
    """The inverse square root of the covariance of rows (with a small ridge)."""
    mean, square = mean_of(U), torch.zeros(U.shape[1], U.shape[1], dtype=torch.float64)
    for part in U.split(CHUNK):
        rows = part.float() - mean
        square += (rows.mT @ rows).double().cpu()
    values, vectors = torch.linalg.eigh(square / len(U))
    root = (values.clamp(min=0) + RIDGE * values.clamp(min=0).mean()).sqrt()
    return ((vectors / root) @ vectors.mT).float().to(U.device)


@dataclass(frozen=True)
class Queries:
    """Where targets are looked for, and the words that led there."""

    at: Float[Tensor, "pair d"]
    words: tuple[tuple[str, ...], ...]


def queries(metric: Metric, relation: Relation, method: Method, seed: int) -> Queries:
    """The query of each pair of a relation.

    `mean offset` adds the mean of (target - source) over all other pairs that share no word with
    this one. `one other pair` adds the offset of one of them, of unit vectors (3CosAdd: Mikolov
    et al. 2013, NAACL). The last two are errors of a published notebook: the test pair was in the
    mean; pairs were stored as sets, which have no order.
    """
    source, target = (metric.of(relation.ids[:, part]) for part in (0, 1))
    own = tuple((pair[0],) for pair in relation.words)
    rng = np.random.default_rng(seed)
    if method == "nearest neighbour":
        return Queries(source, own)
    if method == "one other pair":
        other = [int(rng.choice(np.flatnonzero(row))) for row in relation.apart]
        s, t = normalize(source, dim=-1), normalize(target, dim=-1)
        words = ((*mine, *relation.words[at]) for mine, at in zip(own, other, strict=True))
        return Queries(s + t[other] - s[other], tuple(words))
    offsets = target - source
    if method == "unordered pairs":
        signs = torch.from_numpy(rng.choice([-1.0, 1.0], len(offsets))).to(offsets)
        offsets = offsets * signs[:, None]
    if method == "mean with the test pair":
        return Queries(source + offsets.mean(0), own)
    return Queries(source + mean_of_others(offsets, relation.apart), own)


def mean_of_others(
    offsets: Float[Tensor, "pair d"], apart: Bool[np.ndarray, "pair pair"]
) -> Float[Tensor, "pair d"]:
    """For each pair, the mean offset of those that are apart from it."""
    weight = torch.from_numpy(apart / apart.sum(1, keepdims=True)).to(offsets)
    return weight @ offsets


def parallelism(
    metric: Metric, relation: Relation, seed: int
) -> Float[np.ndarray, "pair true_or_shuffled"]:
    """Cosine of each pair's offset with the mean offset of the others; the same when shuffled.

    Shuffled, sources and targets are the same and only their pairing is lost, so what is left is
    the way from one kind of word to another (Fournier et al. 2020, CoNLL, section 3).
    """
    rng = np.random.default_rng(seed)
    drawn = [_cosines(metric, relation.shuffled(rng)) for _ in range(DRAWS)]
    return np.stack([_cosines(metric, relation), np.mean(drawn, axis=0)], axis=1)


def _cosines(metric: Metric, relation: Relation) -> Float[np.ndarray, "pair"]:
    source, target = (metric.of(relation.ids[:, part]) for part in (0, 1))
    offsets = target - source
    others = mean_of_others(offsets, relation.apart)
    return torch.cosine_similarity(offsets, others, dim=-1).double().cpu().numpy()


@dataclass(frozen=True)
class Found:
    """What queries lead to: the rank of each target (1 is the nearest), and the nearest tokens."""

    rank: Int[np.ndarray, "pair"]
    """With every token a candidate."""
    rank_without: Int[np.ndarray, "pair"]
    """Without the words of the query, in any form."""
    nearest: Int[np.ndarray, "pair some"]
    """Without the words of the query."""


@torch.inference_mode()
def find(
    metric: Metric,
    asked: Queries,
    targets: Int[np.ndarray, "pair"],
    names: Sequence[str],
    forms: Mapping[str, list[int]],
    some: int = 5,
) -> Found:
    """Ranks of the targets among all tokens by cosine; equals count as nearer.

    Other forms of the target (another case, no space before it) do not stand in its way.
    """
    query = normalize(asked.at, dim=-1)
    wanted = (query * normalize(metric.of(targets), dim=-1)).sum(-1, keepdim=True) - NEAR
    twins = _Hidden([[t for t in forms[plain(names[at])] if t != at] for at in targets.tolist()])
    used = _Hidden([[t for word in words for t in forms[plain(word)]] for words in asked.words])
    rank, rank_without = query.new_zeros(2, len(query)).long()
    best, nearest = query.new_full((len(query), some), -2.0), rank.new_zeros(len(query), some)
    for start in range(0, len(metric.vectors), CHUNK):
        rows = metric(slice(start, start + CHUNK))
        scores = query @ normalize(rows, dim=-1).mT
        twins.hide(scores, start)
        rank += (scores >= wanted).sum(-1)
        used.hide(scores, start)
        rank_without += (scores >= wanted).sum(-1)
        top = scores.topk(min(some, scores.shape[1]))
        both = torch.cat([best, top.values], -1).topk(some)
        best = both.values
        nearest = torch.cat([nearest, top.indices + start], -1).gather(-1, both.indices)
    return Found(*(x.cpu().numpy() for x in (rank, rank_without, nearest)))


class _Hidden:
    """Tokens that are no candidates, of each query."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        pairs = [(row, token) for row, some in enumerate(tokens) for token in some]
        self.row, self.token = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)

    def hide(self, scores: Float[Tensor, "pair token"], start: int) -> None:
        """Put those of a chunk of the vocabulary below all others."""
        here = (self.token >= start) & (self.token < start + scores.shape[1])
        row, token = self.row[here], self.token[here] - start
        scores[row.to(scores.device), token.to(scores.device)] = -2.0
