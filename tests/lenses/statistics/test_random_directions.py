import numpy as np
import pytest
from scipy import stats

from lenses.heads.agreement import prompt_agreement
from lenses.statistics.random_directions import random_direction_cosines


def test_cosines_are_distributed_as_with_directions_drawn_in_full() -> None:
    lengths, d_model, draws = np.array([1.0, 2.0, 0.5, 3.0]), 12, 20_000
    rng = np.random.default_rng(0)
    found = random_direction_cosines(lengths[None, None], d_model, draws, rng)[:, 0, 0]
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
    assert np.allclose(random_direction_cosines(np.full((4, 1, 1), 2.0), 5, 3, rng), 1)
    assert (random_direction_cosines(np.zeros((4, 1, 2)), 5, 3, rng) == 0).all()
    with pytest.raises(ValueError, match="dimensions"):
        random_direction_cosines(np.ones((1, 1, 4)), 3, 1, rng)


def test_a_phase_is_not_favoured_for_being_long() -> None:
    """Heads of fixed direction in two phases that differ in length alone: no rise beyond null."""
    rng, excess, d_model = np.random.default_rng(3), [], 16
    generated = np.arange(23) >= 3
    for _ in range(150):
        lengths = rng.exponential(size=(23, 6, 5)) * rng.exponential(size=(6, 5))
        direction = rng.standard_normal((6, 5, d_model))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        whole = np.einsum("plh,lhm->plm", lengths, direction)
        cosine = np.einsum("lhm,plm->plh", direction, whole)
        cosine /= np.linalg.norm(whole, axis=-1, keepdims=True)
        null = random_direction_cosines(lengths, d_model, 8, rng)
        surprisal = np.r_[np.nan, rng.exponential(size=22)]
        kinds = {"methods": ("spearman",), "within": ("prompt", "generated")}
        found = prompt_agreement(cosine, lengths, null, surprisal, generated, **kinds)
        rise = found[:, 1, :, 0] - found[:, 0, :, 0]
        excess.append(rise[:2, :, 0] - rise[:2, :, 1])
    mean, error = np.mean(excess, axis=0), stats.sem(excess, axis=0)
    assert (np.abs(mean) < 3.5 * error).all(), (mean, error)
    assert (error < 0.04).all()
