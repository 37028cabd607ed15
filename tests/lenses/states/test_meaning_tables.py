"""Tables of rank correlations against loops over their cells."""

import numpy as np
import pytest

from lenses.states.meaning import CONTROLS, DISTANCES, STEPS, WEIGHTS
from lenses.states.meaning_tables import head_rows, layer_rows, text_rows

TEXTS, DRAWN, LAYERS, HEADS = 6, 19, 2, 3
KINDS = (len(CONTROLS), len(WEIGHTS), len(STEPS), len(DISTANCES))


@pytest.fixture(scope="module")
def each():
    """Correlations, of which some are undefined in one text, and of one head in every text."""
    values = np.random.default_rng(0).normal(size=(TEXTS, *KINDS, LAYERS, HEADS))
    values[0, 1] = np.nan
    values[:, 0, 0, 0, 0, 1, 2] = np.nan
    return values


@pytest.fixture(scope="module")
def drawn():
    return np.random.default_rng(1).normal(scale=0.5, size=(DRAWN, *KINDS, LAYERS, HEADS))


def cells(rows):
    """Rows with the place of each in the arrays."""
    names = {"control": CONTROLS, "weight": WEIGHTS, "step": STEPS, "distance": DISTANCES}
    for row in rows.to_dict("records"):
        yield tuple(list(names[name]).index(row[name]) for name in names), row


def test_heads_are_held_against_the_draws_of_their_own_kind(each, drawn):
    rows = head_rows(each, drawn, seed=0)
    assert len(rows) == np.prod(KINDS) * LAYERS * HEADS - 1
    for kind, row in cells(rows):
        at = (*kind, row["layer"], row["head"])
        values = each[(slice(None), *at)]
        assert row["estimate"] == pytest.approx(np.nanmean(values))
        assert row["n"] == np.isfinite(values).sum()
        reached = np.where(np.isnan(values), 0, values).mean()
        draws = drawn[(slice(None), *at)]
        best = [draw[kind].max() for draw in drawn]
        assert row["p"] == pytest.approx((1 + sum(draws >= reached)) / (1 + DRAWN))
        assert row["p_any"] == pytest.approx((1 + sum(np.array(best) >= reached)) / (1 + DRAWN))
        assert row["null"] == pytest.approx(draws.mean())
        assert row["largest_by_chance"] == pytest.approx(np.quantile(best, 0.95))
        assert row["q"] >= row["p"]


def test_layers_are_means_over_heads_and_recency_has_rows_of_its_own(each):
    recency = np.random.default_rng(2).normal(size=(TEXTS, *KINDS[2:], LAYERS))
    rows = layer_rows(each, recency, seed=0)
    own = rows[rows["weight"] != "recency"]
    for kind, row in cells(own):
        values = [np.nanmean(text[(*kind, row["layer"])]) if np.isfinite(text[kind]).any() else
                  np.nan for text in each]  # fmt: skip
        assert row["estimate"] == pytest.approx(np.nanmean(values))
    recent = rows[rows["weight"] == "recency"]
    assert recent["control"].unique().tolist() == ["none"]
    np.testing.assert_allclose(recent["estimate"], recency.mean(axis=0).ravel())


def test_a_text_has_the_mean_over_all_heads_less_its_null(each):
    null = np.full_like(each, 0.25)
    rows = text_rows(each, null, "own")
    assert (rows["weights"] == "own").all()
    assert len(rows) == TEXTS * np.prod(KINDS) - np.prod(KINDS[1:]), "undefined ones are left out"
    np.testing.assert_allclose(rows["excess"], rows["value"] - 0.25)
    for kind, row in cells(rows):
        assert row["value"] == pytest.approx(np.nanmean(each[(row["prompt"], *kind)]))
        others = np.delete(each[(slice(None), *kind)].reshape(TEXTS, -1), row["prompt"], axis=0)
        best = np.nanargmax(np.nanmean(others, axis=0))
        here = each[(row["prompt"], *kind)].ravel()[best]
        assert row["best_elsewhere"] == pytest.approx(here - 0.25, nan_ok=True)
