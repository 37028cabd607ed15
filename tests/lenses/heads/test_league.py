"""The league against scipy, one measure, effect and resample at a time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lenses.heads.league import RESOLUTION, SCOPES, League

SIGNED = np.array([False, True, False])
OUTCOMES = ("delta_nll", "kl", "delta_logit")


@pytest.fixture(scope="module")
def league() -> League:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(9, 2, 2, 7, 3))
    effects[..., 1] = np.abs(effects[..., 1])
    return League(("a", "b", "c"), rng.normal(size=(9, 3, 2, 7)), effects, SIGNED, seed=4)


def naive(x, y, signed: bool, outcome: str, scope: str, score) -> float:
    """One score of a measure [layer head] and an effect, as documented."""
    y = -y if outcome == "delta_logit" else y
    y = np.round(y / RESOLUTION)
    if not signed or outcome == "kl":
        x, y = np.abs(x), np.abs(y)
    groups = zip(x, y, strict=True) if scope == "within layers" else [(x.ravel(), y.ravel())]
    return float(np.mean([score(*pair).statistic for pair in groups]))


def every(league: League):
    for s, scope in enumerate(SCOPES):
        for m in range(3):
            for mode in range(2):
                for o, outcome in enumerate(OUTCOMES):
                    yield (s, m, mode, o), scope, outcome


def test_prompts_without_such_tokens_are_not_counted(league) -> None:
    effects = league.effects.copy()
    effects[3] = np.nan
    assert (league.prompts, replace(league, effects=effects).prompts) == (9, 8)


def test_scores_equal_the_naive_ones(league) -> None:
    matters = np.zeros((2, 2, 7, 3), dtype=bool)
    matters[:, :, :3] = True
    found = league.scores(matters)
    x, y = league.measures.mean(0), league.effects.mean(0)
    for at, scope, outcome in every(league):
        _, m, mode, o = at
        for name, score in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
            expected = naive(x[m], y[mode, ..., o], SIGNED[m], outcome, scope, score)
            assert found[name][at] == pytest.approx(expected), (name, at)
        sizes = np.abs(x[m])
        groups = [(g, slice(3)) for g in sizes] if scope == SCOPES[0] else [(sizes.ravel(), None)]
        inside = np.arange(14) % 7 < 3
        areas = []
        for sizes_of, _ in groups:
            is_in = inside[: len(sizes_of)]
            pairs = sizes_of[is_in][:, None] - sizes_of[~is_in]
            areas.append((pairs > 0).mean())
        assert found["auc"][at] == pytest.approx(np.mean(areas))
    np.testing.assert_allclose(league.point()[0], found["spearman"])


def test_resamples_equal_the_naive_ones(league) -> None:
    found = league.resampled(20)
    draws = np.random.default_rng(4).multinomial(9, np.full(9, 1 / 9), size=20) / 9
    for number in (0, 7, 19):
        x = np.tensordot(draws[number], league.measures, axes=1)
        y = np.tensordot(draws[number], league.effects, axes=1)
        for at, scope, outcome in every(league):
            _, m, mode, o = at
            signed = bool(SIGNED[m])
            expected = naive(x[m], y[mode, ..., o], signed, outcome, scope, stats.spearmanr)
            assert found[(number, *at)] == pytest.approx(expected)


def test_a_measure_that_is_the_effect_is_perfect_and_depth_ranks_nothing_within_layers() -> None:
    rng = np.random.default_rng(1)
    effects = rng.random((5, 1, 3, 4, 3))
    depth = np.broadcast_to(np.arange(3.0)[:, None], (5, 3, 4))
    measures = np.stack([effects[:, 0, ..., 0], depth], axis=1)
    league = League(("truth", "layer_index"), measures, effects, np.array([True, False]))
    found = league.point()[0, :, :, 0, 0]
    assert found[0].tolist() == [1, 0]
    assert found[1, 0] == 1


def test_effects_below_resolution_are_ties(league) -> None:
    tiny = League(league.names, league.measures, league.effects * 1e-7, SIGNED)
    assert np.isnan(tiny.point()).all()


def test_what_exceeds_its_null_matters(league) -> None:
    null = np.zeros_like(league.effects)
    assert league.matters(null).all()
    assert not league.matters(league.effects * 3).any()
    null[:, :, 0] = 100
    found = league.matters(null)
    assert not found[:, 0].any()
    assert found[:, 1].all()


def test_p_by_lot_is_that_of_all_orders() -> None:
    rng = np.random.default_rng(0)
    effects = rng.random((4, 1, 1, 4, 3))
    perfect = League(("a",), effects[:, 0, None, ..., 0], effects, np.zeros(1, dtype=bool))
    p = perfect.by_lot(perfect.point()[0])
    assert p[0, 0, 0, 0] == pytest.approx(1 / 24, abs=0.006)  # one of 4! orders is as good
    worst = perfect.by_lot(-np.ones((2, 1, 1, 3)))
    assert (worst == 1).all()
    assert np.isnan(perfect.by_lot(np.full((2, 1, 1, 3), np.nan))).all()


def test_agreement_of_modes(league) -> None:
    found = league.agreement()
    y = league.effects.mean(0)
    np.testing.assert_allclose(found[:, [0, 1], [0, 1]], 1)
    expected = np.mean([stats.spearmanr(y[0, i, :, 0], y[1, i, :, 0]).statistic for i in range(2)])
    assert found[0, 0, 1, 0] == pytest.approx(expected)
    assert found[0, 1, 0, 0] == pytest.approx(expected)


def test_ranks_share_what_differs_by_rounding() -> None:
    measures = np.zeros((2, 1, 2, 3))
    measures[:, 0] = [[1, 1 + 1e-9, 0], [-2, 0, 0]]
    effects = np.zeros((2, 1, 2, 3, 3))
    effects[:, :, 1, 2] = -1
    league = League(("a",), measures, effects, np.ones(1, dtype=bool))
    assert league.ranks_of(1, 0)["measure"].tolist() == [1]
    assert league.ranks_of(0, 1)["measure"].tolist() == [2.5]
    assert league.ranks_of(1, 2)["effect"].tolist() == [[1, 1, 1]]


def test_a_part_is_a_league_of_some_prompts_and_one_mode(league) -> None:
    part = league.part(slice(None, None, 2), 1)
    alone = League(league.names, league.measures[::2], league.effects[::2, 1:2], SIGNED)
    np.testing.assert_array_equal(part.point(), alone.point())
