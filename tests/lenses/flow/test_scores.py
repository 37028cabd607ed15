"""Rankings of prompt tokens against hand-made ones and pandas."""

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.flow.relevance import AttentionRows, GradientRelevance, over_rows
from lenses.flow.scores import LAYERED, Rankings, agreement, labels, rank_of

PROMPT, NEW, LAYERS = 7, 3, 2
SCORED = np.array([False, True, True, True, True, True, False])


@pytest.fixture(scope="module")
def parts():
    rng = torch.Generator().manual_seed(0)
    rows = torch.rand(len(LAYERED), LAYERS, NEW, PROMPT + NEW - 1, generator=rng)
    whole = torch.rand(2, LAYERS, PROMPT + NEW - 1, generator=rng)
    gradient = GradientRelevance(*torch.randn(3, PROMPT, generator=rng), 0.0)
    truth = torch.randn(2, NEW, PROMPT, generator=rng)
    return AttentionRows(rows, *whole), gradient, truth


@pytest.fixture(scope="module")
def found(parts):
    return Rankings.of(*parts)


def test_every_relevance_is_found_by_its_name(parts, found):
    attention, gradient, _ = parts
    rows = attention.rows[LAYERED.index("attention")]
    expected = {
        ("attention", "first"): over_rows(rows[0], PROMPT)[:PROMPT],
        ("attention", "mean"): over_rows(rows.mean(0), PROMPT)[:PROMPT],
        ("attention", "max"): over_rows(rows.amax(0), PROMPT)[:PROMPT],
        ("attention_all_rows", "mean"): attention.all_rows.mean(0)[:PROMPT],
        ("gradient_x_input", "all"): gradient.x_input,
        ("integrated_gradients", "all"): gradient.integrated,
        ("recency", "none"): torch.arange(PROMPT),
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(values.numpy(), abs=1e-6), name
    assert found.of_token(("attention", "first"), 1) == pytest.approx(rows[0, 1, :PROMPT].numpy())
    assert np.isnan(found.of_token(("integrated_gradients", "all"))).all()


def test_scores_are_rank_correlations_with_the_truth(found):
    scores = found.scores(SCORED)
    told = [label[:2] for label in labels(LAYERS)]
    drops = pd.DataFrame(found.truth[0][:, SCORED].T)
    cell = told.index(("value_weighted_sum", "mean"))
    values = found["value_weighted_sum", "mean"][SCORED]
    whole = drops.sum(axis=1).abs().corr(pd.Series(abs(values)), "spearman")
    assert scores[0, cell, 0, 0] == pytest.approx(whole)
    each = [
        drops[row].corr(pd.Series(found.token[cell, row, SCORED]), "spearman") for row in range(NEW)
    ]
    assert scores[1, cell, 0, 1] == pytest.approx(np.mean(each))
    gradient = told.index(("gradient_x_input", "all"))
    assert np.isnan(scores[1, gradient]).all()
    assert np.isfinite(scores[0]).all()


def test_random_rankings_score_nothing_in_the_mean(found):
    drawn = found.baseline(SCORED, 4000, np.random.default_rng(0))
    assert abs(drawn.mean(axis=1)).max() < 0.05
    # Var of Spearman's rho over random orders is 1 / (n - 1).
    assert drawn[0].var() == pytest.approx(1 / 4, rel=0.1)


def test_too_few_tokens_cannot_be_ranked(found):
    two = np.array([False, True, True, *[False] * 4])
    assert np.isnan(found.scores(two)).all()
    assert np.isnan(found.scores(np.zeros(PROMPT, dtype=bool))).all()


def test_ranks_by_hand():
    values = np.array([[9.0, 1.0, 5.0, 2.0, 7.0], [9.0, 5.0, 5.0, 2.0, 7.0]])
    scored = np.array([False, True, True, True, False])
    assert rank_of(values, [[2]], scored).tolist() == [1, 2]
    assert rank_of(values, [[1, 2]], scored).tolist() == [1, 1]
    assert rank_of(values, [[2], [3]], scored).tolist() == [1, 2]
    assert np.isnan(rank_of(values, [], scored)).all()


def test_agreement_of_sizes_and_of_signed_values():
    truth = np.array([1.0, -2.0, 3.0])
    assert agreement(np.array([1.0, 2.0, 3.0]), truth).tolist() == pytest.approx([1, 0.5])
    assert agreement(np.array([1.0, -2.0, 3.0]), truth).tolist() == pytest.approx([1, 1])
