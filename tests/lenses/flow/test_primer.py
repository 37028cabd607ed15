"""Attention in NumPy against plain loops and torch's own."""

import numpy as np
import pytest
import torch

from lenses.flow import primer
from lenses.flow.primer import (
    CASES,
    Maps,
    attend,
    by_multihead,
    heads_seconds,
    pattern,
    random_maps,
    relative_error,
    softmax,
    torch_error,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_every_matrix_is_what_loops_compute(causal, cross):
    maps, x, other = (
        random_maps(2, 5, 3, rng()),
        rng(1).normal(size=(4, 5)),
        rng(2).normal(size=(6, 5)),
    )
    seen = other if cross else x
    own = attend(x, maps, context=seen if cross else None, causal=causal)
    for head in range(2):
        for query in range(4):
            allowed = range(query + 1) if causal else range(len(seen))
            q = x[query] @ maps.W_Q[head]
            grown = {key: np.exp(q @ (seen[key] @ maps.W_K[head]) / 3**0.5) for key in allowed}
            weights = np.array([grown.get(key, 0) for key in range(len(seen))]) / sum(
                grown.values()
            )
            assert np.allclose(own.weights[head, query], weights)
            mixed = sum(w * (seen[key] @ maps.W_V[head]) for key, w in enumerate(weights))
            assert np.allclose(own.mixed[head, query], mixed)
            assert np.allclose(own.change[head, query], mixed @ maps.W_O[head])


def test_without_an_output_map_nothing_is_proposed():
    assert attend(np.ones((2, 4)), random_maps(1, 4, 3, rng(), output=False)).change is None


def test_softmax_leaves_what_it_is_given_and_bears_large_scores():
    scores = np.array([[1000.0, 1001.0, -np.inf], [0.0, 0.0, 0.0]])
    kept = scores.copy()
    found = softmax(scores)
    assert np.array_equal(scores, kept)
    assert found == pytest.approx(np.array([[1 / (1 + np.e), np.e / (1 + np.e), 0], [1 / 3] * 3]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_torch_agrees(case, precision):
    errors = [torch_error(case, precision, rng(seed)) for seed in range(5)]
    assert max(errors) < (1e-6 if precision == "float32" else 1e-12)
    assert attend(
        np.ones((2, 4), precision), random_maps(1, 4, 3, rng()), causal=True
    ).weights.dtype == np.dtype("float64" if precision == "float64" else "float32")


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_scale_is_seen(case, monkeypatch):
    def wrong(x, maps, **how):
        own = attend(x, Maps(2 * maps.W_Q, maps.W_K, maps.W_V, maps.W_O), **how)
        return own._replace(query=own.query / 2)

    monkeypatch.setattr(primer, "attend", wrong)
    assert torch_error(case, "float64", rng()) > 1e-3


def test_heads_add_up_to_what_torch_makes_of_them_side_by_side():
    maps, x = random_maps(4, 8, 2, rng()), rng(1).normal(size=(5, 8))
    found, weights = by_multihead(x, maps, causal=True)
    own = attend(x, maps, causal=True)
    assert np.allclose(own.change.sum(0), found)
    assert weights.shape == own.weights.shape == (4, 5, 5)
    assert not np.allclose(own.change[:3].sum(0), found)


def test_relative_error_is_of_the_largest_number():
    assert relative_error(np.array([2.0, -4.0]), np.array([2.0, -3.0])) == 0.25


def test_times_are_times_and_both_ways_are_the_same(monkeypatch):
    found = heads_seconds(3, 2, 0)
    assert found.shape == (2, 2)
    assert (found > 0).all()
    monkeypatch.setattr(primer, "_one_after_another", lambda x, *maps: torch.zeros(()))
    with pytest.raises(ArithmeticError, match="one of them is wrong"):
        heads_seconds(3, 1, 0)


def test_a_pattern_has_a_number_for_each_pair():
    assert [pattern(tokens, 8, 0)[0] for tokens in (16, 32)] == [4 * 16**2, 4 * 32**2]
    assert pattern(16, 8, 0)[1] > 0
