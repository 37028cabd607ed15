"""Analogies against naive computations, and with a pair that is poisoned."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from lenses.states import analogies
from lenses.states.analogies import (
    METHODS,
    Metric,
    Queries,
    Relation,
    find,
    forms_of,
    parallelism,
    plain,
    queries,
    whitening,
)

NAMES = [f" w{number}" for number in range(20)] + ["W1", "w3", "W3", " W0"]


@pytest.fixture
def vectors():
    return torch.randn(len(NAMES), 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def relation():
    pairs = [(0, 1), (2, 3), (3, 4), (5, 6), (20, 7), (8, 9)]
    words = tuple((NAMES[a], NAMES[b]) for a, b in pairs)
    return Relation("numbers", words, np.array(pairs))


def test_pairs_that_share_a_word_in_any_case_are_not_apart(relation):
    apart = relation.apart
    assert not apart.diagonal().any()
    assert not apart[0, 4]  # " w1" and "W1"
    assert not apart[1, 2]  # " w3" ends one and begins the other
    assert apart[0, 1]


def test_pairs_of_words_elsewhere_keep_their_numbers(relation):
    ids = {name: number for number, name in enumerate(["w9", "w8", "w0", "w1", "w4", "w5"])}
    kept, there = relation.among(ids)
    assert kept == [0, 5]
    assert there.words == (("w0", "w1"), ("w8", "w9"))
    assert there.ids.tolist() == [[2, 3], [1, 0]]


@pytest.mark.parametrize("method", ["mean offset", "one other pair"])
def test_a_poisoned_pair_tells_nothing_of_itself(vectors, relation, method):
    for number, (_, target) in enumerate(relation.ids):
        poisoned = vectors.clone()
        poisoned[target] = 1e6
        for twin in forms_of(NAMES)[plain(NAMES[target])]:
            poisoned[twin] = 1e6
        clean, other = (
            queries(Metric(v, "raw", v), relation, method, 0).at[number]
            for v in (vectors, poisoned)
        )
        assert torch.equal(clean, other)


def test_the_published_error_is_poisoned(vectors, relation):
    poisoned = vectors.clone()
    poisoned[9] = 1e6
    clean, other = (
        queries(Metric(v, "raw", v), relation, "mean with the test pair", 0).at[5]
        for v in (vectors, poisoned)
    )
    assert not torch.allclose(clean, other)


def test_the_mean_offset_is_that_of_pairs_apart(vectors, relation):
    found = queries(Metric(vectors, "raw", vectors), relation, "mean offset", 0).at
    for number, (source, _) in enumerate(relation.ids):
        others = [vectors[t] - vectors[s] for (s, t), ok in
                  zip(relation.ids, relation.apart[number], strict=True) if ok]  # fmt: skip
        assert torch.allclose(found[number], vectors[source] + torch.stack(others).mean(0))


def test_one_other_pair_is_3cosadd(vectors, relation):
    asked = queries(Metric(vectors, "raw", vectors), relation, "one other pair", 0)
    unit = normalize(vectors, dim=-1)
    for number, words in enumerate(asked.words):
        s, t = (NAMES.index(word) for word in words[1:])
        wanted = unit[relation.ids[number, 0]] + unit[t] - unit[s]
        assert torch.allclose(asked.at[number], wanted, atol=1e-6)
        assert relation.apart[number][[p[0] for p in relation.words].index(words[1])]


def test_ranks_are_those_of_a_full_sort(vectors, relation, monkeypatch):
    monkeypatch.setattr(analogies, "CHUNK", 7)
    metric = Metric(vectors, "centred", vectors)
    asked = queries(metric, relation, "mean offset", 0)
    found = find(metric, asked, relation.ids[:, 1], NAMES, forms_of(NAMES))
    moved = normalize(vectors - vectors.mean(0), dim=-1)
    for number, (source, target) in enumerate(relation.ids):
        scores = moved @ normalize(asked.at[number], dim=-1)
        order = [t for t in scores.argsort(descending=True).tolist()
                 if t == target or plain(NAMES[t]) != plain(NAMES[target])]  # fmt: skip
        without = [t for t in order if plain(NAMES[t]) != plain(NAMES[source])]
        assert found.rank[number] == order.index(target) + 1
        assert found.rank_without[number] == without.index(target) + 1
        assert found.nearest[number].tolist() == without[:5]


def test_whitened_vectors_vary_alike_in_all_directions(monkeypatch):
    monkeypatch.setattr(analogies, "CHUNK", 64)
    rng = torch.Generator().manual_seed(0)
    mixed = torch.eye(5) + 0.3 * torch.randn(5, 5, generator=rng)
    rows = torch.randn(4000, 5, generator=rng) @ mixed + 3
    white = (rows - rows.mean(0)) @ whitening(rows)
    assert torch.allclose(white.mT @ white / len(rows), torch.eye(5), atol=0.02)
    assert not torch.allclose(rows.T.cov(), torch.eye(5), atol=0.1)


def test_on_a_line_offsets_are_parallel_and_found():
    steps = torch.arange(10.0)
    vectors = torch.stack([steps, torch.full_like(steps, 3.0)], dim=1)
    names = [f" {number}" for number in range(10)]
    ids = np.array([(0, 2), (1, 3), (4, 6), (5, 7)])
    relation = Relation("two", tuple((names[a], names[b]) for a, b in ids), ids)
    metric = Metric(vectors, "raw", vectors)
    true, shuffled = parallelism(metric, relation, 0).T
    assert true == pytest.approx(1)
    assert shuffled.mean() < 0.9
    found = {
        method: find(
            metric, queries(metric, relation, method, 0), ids[:, 1], names, forms_of(names)
        )
        for method in METHODS
    }
    assert (found["mean offset"].rank == 1).all()
    assert (found["nearest neighbour"].rank_without > 1).all()


def test_equals_count_as_nearer():
    vectors = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    metric = Metric(vectors, "raw", vectors)
    names = [" a", " b", " c", " d"]
    asked = Queries(vectors[:1], ((" a",),))
    found = find(metric, asked, np.array([1]), names, forms_of(names), some=2)
    assert (found.rank, found.rank_without) == (3, 2)
