"""Regression within prompt and position against a fit of every dummy, and its null by hand."""

import itertools

import numpy as np
import pytest

from lenses.statistics import fixed_effects as within
from lenses.statistics.fixed_effects import filler_effects, filler_slopes

PROMPTS, FILLERS, LENGTH, CELLS = 6, 4, 7, 3


@pytest.fixture(scope="module")
def covariates() -> np.ndarray:
    rng = np.random.default_rng(1)
    held = rng.normal(size=(PROMPTS, FILLERS, LENGTH, 2))
    return held + np.arange(FILLERS)[:, None, None] * np.array([1.0, 0.0])


@pytest.fixture(scope="module")
def values(covariates) -> np.ndarray:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(PROMPTS, FILLERS, LENGTH, CELLS))
    return noise + covariates @ np.array([[2.0, 0, 1], [0, 3, 0]])


EVERYWHERE = np.ones((PROMPTS, LENGTH), dtype=bool)


def by_all_dummies(values, covariates, known) -> np.ndarray:
    """Slopes of the fillers in a fit with a dummy for every filler and every place."""
    prompt, filler, pos = (axis.ravel() for axis in np.indices(values.shape[:3]))
    kept = known[prompt, pos]
    place = np.eye(PROMPTS * LENGTH)[prompt * LENGTH + pos]
    dummies = np.eye(values.shape[1])[filler][:, 1:]
    flat = covariates.reshape(len(prompt), covariates.shape[-1])
    design = np.hstack([dummies, flat, place])[kept]
    return np.linalg.lstsq(design, values.reshape(len(prompt), -1)[kept])[0][: FILLERS - 1]


@pytest.mark.parametrize("held", [0, 1, 2])
def test_estimates_are_those_of_a_fit_with_every_dummy(values, covariates, held) -> None:
    known = np.arange(LENGTH) < np.array([7, 7, 3, 5, 4, 7])[:, None]
    found = filler_effects(values, covariates[..., :held], known)
    expected = by_all_dummies(values, covariates[..., :held], known)
    np.testing.assert_allclose(found.estimate, expected, atol=1e-6)


def test_estimates_without_a_prompt_are_fits_of_the_others(values, covariates) -> None:
    _, found = filler_slopes(values, covariates, EVERYWHERE)
    for number in range(PROMPTS):
        rest = np.delete(np.arange(PROMPTS), number)
        padded = np.append(rest, rest[0])  # the design has a place for each of six prompts
        known = np.arange(PROMPTS)[:, None] < np.full(LENGTH, PROMPTS - 1)
        expected = by_all_dummies(values[padded], covariates[padded], known)
        np.testing.assert_allclose(found[number], expected, atol=1e-6)


def test_below_five_prompts_there_is_no_interval(values, covariates) -> None:
    found = filler_effects(values[:4], covariates[:4], EVERYWHERE[:4])
    assert np.isfinite(found.estimate).all()
    assert np.isnan(found.low).all()


def test_what_all_fillers_share_at_a_place_changes_nothing(values, covariates) -> None:
    shared = np.random.default_rng(3).normal(size=(PROMPTS, 1, LENGTH, CELLS)) * 50
    one, other = (filler_effects(v, covariates, EVERYWHERE) for v in (values, values + shared))
    np.testing.assert_allclose(one.estimate, other.estimate, atol=1e-9)
    np.testing.assert_array_equal(one.p_any, other.p_any)


def test_a_planted_effect_is_found_in_its_filler_and_cell_alone(values, covariates) -> None:
    before = filler_effects(values, covariates, EVERYWHERE)
    planted = values.copy()
    planted[:, 2, :, 1] += 3
    found = filler_effects(planted, covariates, EVERYWHERE)
    risen = np.zeros((FILLERS - 1, CELLS))
    risen[1, 1] = 3
    np.testing.assert_allclose(found.estimate, before.estimate + risen, atol=1e-6)
    assert found.low[1, 1] > 1
    np.testing.assert_allclose(found.detectable, before.detectable, atol=1e-6)


def test_p_counts_exchanges_of_a_filler_with_the_reference() -> None:
    """Without covariates an exchange changes the sign of a prompt's mean difference."""
    rng = np.random.default_rng(4)
    values = rng.normal(size=(5, 3, 6, 2)) + np.array([0, 0.5, 0])[:, None, None]
    known = np.ones((5, 6), dtype=bool)
    found = filler_effects(values, np.zeros((5, 3, 6, 0)), known)
    for filler in (1, 2):
        apart = (values[:, filler] - values[:, 0]).mean(axis=1)
        signs = np.array(list(itertools.product([-1, 1], repeat=5)))
        np.testing.assert_allclose(found.estimate[filler - 1], apart.mean(axis=0), atol=1e-9)
        p = (np.abs(signs @ apart) >= np.abs(apart.sum(axis=0)) - 1e-9).mean(axis=0)
        np.testing.assert_allclose(found.p[filler - 1], p, atol=0.03)
        assert (found.p_any[filler - 1] >= found.p[filler - 1] - 0.03).all()


def test_it_seldom_finds_what_is_not_there() -> None:
    known, hits = np.ones((20, 8), dtype=bool), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        held = rng.normal(size=(20, 3, 8, 1)) + np.array([0, -1, 1])[:, None, None]
        texts = rng.normal(size=(20, 3, 1, 4)) * 0.3  # tokens of a text resemble each other
        values = rng.normal(size=(20, 3, 8, 4)) + texts + held * 0.7
        hits.append(filler_effects(values, held, known, seed).p_any.min(axis=1))
    assert np.mean(np.array(hits) <= 0.05) <= 0.1


def test_a_detectable_effect_is_found_in_four_of_five_cases() -> None:
    known, found, size = np.ones((20, 8), dtype=bool), [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values, nothing = rng.normal(size=(20, 3, 8, 4)), np.zeros((20, 3, 8, 0))
        size.append(filler_effects(values, nothing, known).detectable[0, 0])
        values[:, 1, :, 0] += size[-1]
        found.append(filler_effects(values, nothing, known).p_any[0, 0] <= 0.05)
    assert 0.6 <= np.mean(found) <= 0.95
    assert np.mean(size) == pytest.approx(0.37, abs=0.06)  # (2.5 + 0.84) sqrt(2 / 160)


def test_undefined_cells_stay_undefined_and_change_no_other(values, covariates) -> None:
    broken = values.copy()
    broken[0, 1, 2, 0] = np.nan
    found = filler_effects(broken, covariates, EVERYWHERE)
    without = filler_effects(values[..., 1:], covariates, EVERYWHERE)
    assert np.isnan(found.estimate[:, 0]).all()
    np.testing.assert_array_equal(found.p_any[:, 1:], without.p_any)
    nothing = filler_effects(values * np.nan, covariates, EVERYWHERE)
    assert np.isnan(nothing.low).all()


def test_a_covariate_that_does_not_vary_has_no_say(values, covariates) -> None:
    constant = np.concatenate([covariates, np.full_like(covariates[..., :1], 4)], axis=-1)
    one, other = (filler_effects(values, c, EVERYWHERE) for c in (covariates, constant))
    np.testing.assert_allclose(one.estimate, other.estimate, atol=1e-6)
    assert within.DRAWS >= 1_000
