import numpy as np
import pytest
from scipy import stats

from lenses.heads.agreement import LEVELS, adjustment, agreement, phases, prompt_agreement


def test_phases_of_a_text() -> None:
    generated = np.arange(24) >= 9
    found = phases(generated)
    assert found["prompt"].sum() == 9
    assert found["generated"].sum() == 15
    assert np.flatnonzero(found["first_10"]).tolist() == list(range(10))
    assert np.flatnonzero(found["last_10"]).tolist() == list(range(14, 24))


def test_ends_that_would_overlap_are_not_there() -> None:
    found = phases(np.zeros(19, dtype=bool))
    assert not found["first_10"].any()
    assert not found["last_10"].any()
    assert phases(np.zeros(20, dtype=bool))["first_10"].sum() == 10


def test_levels_correlate_what_they_say() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 1, 6, 3, 4))
    chosen = np.array([False, True, True, True, False, True])
    found = agreement(x, y, chosen, methods=("pearson", "spearman"))[0]
    expected = {
        "token": (x[0, chosen].ravel(), y[0, chosen].ravel()),
        "layer_head": (x[0, chosen].mean(0).ravel(), y[0, chosen].mean(0).ravel()),
        "head": (x[0, chosen].mean((0, 1)), y[0, chosen].mean((0, 1))),
    }
    for i, level in enumerate(LEVELS):
        assert found[i, 0] == pytest.approx(stats.pearsonr(*expected[level]).statistic)
        assert found[i, 1] == pytest.approx(stats.spearmanr(*expected[level]).statistic)


def test_the_level_can_reverse_the_sign() -> None:
    # Within each head y falls with x; from head to head both rise together.
    x = np.arange(3.0) * 10 + np.arange(5.0)[:, None]
    y = np.arange(3.0) * 1 - np.arange(5.0)[:, None]
    found = agreement(x[None, :, None], y[None, :, None], np.ones(5, dtype=bool), ("pearson",))
    token, layer_head, head = found[0, :, 0]
    assert layer_head == head == pytest.approx(1)
    assert token < layer_head


def test_undefined_where_there_is_nothing_to_correlate() -> None:
    x = np.random.default_rng(1).normal(size=(1, 4, 1, 2))
    none = agreement(x, x, np.zeros(4, dtype=bool))
    assert np.isnan(none).all()
    found = agreement(x, x, np.ones(4, dtype=bool))
    assert np.allclose(found[0, 0], 1)
    assert np.isnan(found[0, 1:]).all()  # two heads are two points


def test_adjustment_takes_position_and_surprisal_out_and_leaves_the_phase_in() -> None:
    rng = np.random.default_rng(2)
    surprisal, generated = rng.exponential(size=30), np.arange(30) >= 12
    position = np.arange(1, 31)
    values = 5 + 2.0 * generated + 0.3 * position - 4 * np.log1p(position) + 1.7 * surprisal
    adjusted = adjustment(position, surprisal, generated) @ values
    assert np.ptp(adjusted[generated]) < 1e-8
    assert adjusted[-1] - adjusted[0] == pytest.approx(2)
    assert adjusted.mean() == pytest.approx(values.mean())


def test_adjustment_works_in_a_single_phase_and_refuses_short_texts() -> None:
    position, surprisal = np.arange(9), np.random.default_rng(3).exponential(size=9)
    values = 1 + 2 * surprisal
    adjusted = adjustment(position, surprisal, np.zeros(9, dtype=bool)) @ values
    assert np.allclose(adjusted, values.mean())
    assert adjustment(position, surprisal, np.arange(9) > 4) is None


def test_a_prompt_in_three_views() -> None:
    rng = np.random.default_rng(4)
    cosine, l2_norm = rng.normal(size=(2, 25, 2, 3))
    null = rng.normal(size=(5, 25, 2, 3))
    surprisal, generated = rng.exponential(size=25), np.arange(25) >= 12
    surprisal[0] = np.nan
    found = prompt_agreement(cosine, l2_norm, null, surprisal, generated, ("kendall",))
    assert found.shape == (3, 4, 3, 1, 2)
    for control, start in enumerate((0, 1)):
        prompt = stats.kendalltau(cosine[start:12], l2_norm[start:12]).statistic
        assert found[control, 0, 0, 0, 0] == pytest.approx(prompt)
        first = slice(start, start + 10)
        nulls = [stats.kendalltau(draw[first], l2_norm[first]).statistic for draw in null]
        assert found[control, 2, 0, 0, 1] == pytest.approx(np.mean(nulls))
    matrix = adjustment(np.arange(1, 25), surprisal[1:], generated[1:])
    x, y = (np.einsum("pq,qlh->plh", matrix, v[1:])[11:] for v in (cosine, l2_norm))
    assert found[2, 1, 0, 0, 0] == pytest.approx(stats.kendalltau(x, y).statistic)


def test_a_short_prompt_has_no_adjusted_estimate() -> None:
    rng = np.random.default_rng(5)
    cosine, l2_norm = rng.normal(size=(2, 6, 2, 3))
    surprisal, generated = rng.exponential(size=6), np.arange(6) >= 4
    found = prompt_agreement(cosine, l2_norm, cosine[None], surprisal, generated, ("pearson",))
    assert not np.isnan(found[:2, :2]).any()
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2:]).all()
