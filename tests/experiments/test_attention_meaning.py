"""Attention and movement of meaning against pandas, and on models that move as they attend."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results, UsageError
from experiments.attention_meaning import DRAWS, AttentionMeaning, _mean, _pairs
from lenses.states.meaning import movement, moves_with_weight, permutations
from models import load
from prompts.additions import Addition


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def experiment():
    return AttentionMeaning(additions=5)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


@pytest.fixture(scope="module")
def by_hand(adder):
    """Estimates and null draws of the same five additions, one at a time."""
    sums = Addition(6, 5, 0).sums
    tokens = adder.card.arithmetic.write(sums).tokens
    found = [movement(adder, torch.from_numpy(np.ascontiguousarray(row))) for row in tokens]
    own = np.stack([moves_with_weight(one, np.arange(22)[None])[0] for one in found])
    orders = [permutations(22, DRAWS, np.random.default_rng([0, i])) for i in range(5)]
    drawn = [moves_with_weight(*pair) for pair in zip(found, orders, strict=True)]
    return own, np.stack(drawn)


def test_heads_are_means_over_texts(results, by_hand):
    heads = results.tables["heads"]
    assert len(heads) == 2 * 2 * 2 * 2 * 2 * 4
    assert np.allclose(heads["estimate"], by_hand[0].mean(axis=0).ravel())
    assert np.allclose(heads["null"], by_hand[1].mean(axis=(0, 1)).ravel())


def test_p_counts_the_random_orders_that_reach_it(results, by_hand):
    own, drawn = by_hand
    reached, draws = own.mean(axis=0), drawn.mean(axis=0)
    p = (1 + (draws >= reached).sum(axis=0)) / (1 + DRAWS)
    heads = results.tables["heads"]
    assert np.allclose(heads["p"], p.ravel())
    largest = draws.max(axis=(-2, -1))[..., None, None]
    p_any = (1 + (largest >= reached).sum(axis=0)) / (1 + DRAWS)
    assert np.allclose(heads["p_any"], p_any.ravel())
    assert (heads["p_any"] >= heads["p"]).all()


def test_layers_are_means_over_heads(results, by_hand):
    layers = results.tables["layers"].query("weight != 'recency'")
    assert np.allclose(layers["estimate"], by_hand[0].mean(axis=(0, -1)).ravel())


def test_claims_are_about_the_excess_over_null_and_random_models(experiment, results, by_hand):
    claim = experiment.claims(results)[1]
    own, drawn = by_hand
    excess = own.mean(axis=0) - drawn.mean(axis=(0, 1))
    assert claim.estimate == pytest.approx(excess[0, 0, 1, 0].mean())
    assert claim.n == 5
    random = results.tables["against_random"].query(
        "weights != 'own' and control == 'none' and weight == 'attention' and step == 'block' "
        "and distance == 'divergence'"
    )
    assert claim.null == pytest.approx(random["value"].mean())


def test_an_effect_that_is_everywhere_is_claimed_and_none_is_not(experiment, results):
    """Numbers changed in the stored table: every text above null and random models, or below."""
    rows = results.tables["against_random"]
    own = rows["weights"] == "own"
    for value, verdict in ((0.5, "holds"), (-0.5, "fails")):
        noise = np.random.default_rng(0).normal(0, 0.01, len(rows))
        changed = rows.assign(excess=np.where(own, value, 0) + noise)
        found = experiment.claims(Results(dict(results.tables) | {"against_random": changed}))
        assert {claim.verdict for claim in found[1:5]} <= {verdict, "undecided"}
        assert found[1].estimate == pytest.approx(value, abs=0.02)


def test_the_last_state_is_the_models_own(experiment, results):
    assert experiment.claims(results)[0].verdict == "holds"


def test_texts_are_cut_and_short_ones_refused(adder):
    with pytest.raises(UsageError, match="prompt 1: 3 tokens"):
        AttentionMeaning(prompts=("123456+", "12")).measure(adder)
    found = AttentionMeaning(prompts=("123456+123456=", "999999+1")).measure(adder)
    assert found.tables["prompts"]["tokens"].tolist() == [15, 9]


def test_texts_in_which_no_correlation_is_defined_are_refused(adder):
    with pytest.raises(UsageError, match="in none of the texts is every rank correlation defined"):
        AttentionMeaning(prompts=("00000", "11111")).measure(adder)


def test_means_leave_out_what_is_undefined():
    values = np.array([[[1.0, np.nan], [3.0, np.nan]], [[np.nan] * 2] * 2])
    assert _mean(values, 2).tolist()[0] == 2
    assert np.isnan(_mean(values, 2)[1])


def test_pairs_are_a_token_and_its_sources():
    rows = _pairs("p", np.array([[9.0, 9, 9], [9, 9, 9], [9, -2, 9]]))
    assert rows[["token", "source"]].to_numpy().tolist() == [[2, 1]]
    assert rows["share"].tolist() == [-1]
    assert isinstance(rows, pd.DataFrame)


@pytest.mark.real
def test_shipped_texts_that_are_too_short_are_left_out():
    texts = AttentionMeaning(model="smollm2", texts=12)._texts(load("smollm2"))
    assert len(texts) == 12
    assert all(len(ids) >= 6 for _, ids in texts)
