import numpy as np
import pytest
from scipy import stats

from lenses.directions import random_direction_cosines


def test_cosines_are_distributed_as_with_directions_drawn_in_full() -> None:
    lengths, d_model, draws = np.array([1.0, 2.0, 0.5, 3.0]), 12, 20_000
    rng = np.random.default_rng(0)
    found = random_direction_cosines(lengths, d_model, draws, rng)
    vectors = rng.standard_normal((draws, 4, d_model))
    vectors *= (lengths / np.linalg.norm(vectors, axis=-1))[..., None]
    whole = vectors.sum(axis=1, keepdims=True)
    length = np.linalg.norm(whole, axis=-1)
    expected = (vectors * whole).sum(-1) / (lengths * length)
    for head in range(4):
        assert stats.ks_2samp(found[:, head], expected[:, head]).pvalue > 1e-3
    # Not only each by itself: how the heads go together is the same.
    assert np.allclose(np.corrcoef(found.T), np.corrcoef(expected.T), atol=0.03)


def test_projection_shares_of_random_directions_sum_to_one() -> None:
    lengths = np.random.default_rng(1).exponential(size=(5, 2, 3))
    cosines = random_direction_cosines(lengths, 3, 7, np.random.default_rng(2))
    assert cosines.shape == (7, 5, 2, 3)
    # Shares sum to 1, so length . cosine is norm(o), at most the sum of lengths.
    norm = (lengths * cosines).sum(-1)
    assert (norm >= 0).all()
    assert (norm <= lengths.sum(-1) + 1e-12).all()


def test_one_head_points_where_it_points_and_nothing_points_nowhere() -> None:
    rng = np.random.default_rng(0)
    assert np.allclose(random_direction_cosines(np.full((4, 1), 2.0), 5, 3, rng), 1)
    assert (random_direction_cosines(np.zeros((4, 2)), 5, 3, rng) == 0).all()
    with pytest.raises(ValueError, match="dimensions"):
        random_direction_cosines(np.ones((1, 4)), 3, 1, rng)
