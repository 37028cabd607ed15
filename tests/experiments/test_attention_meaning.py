"""Attention and movement of meaning against pandas, and on models that move as they attend."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import Results, UsageError
from experiments.attention_meaning import AttentionMeaning, _pairs
from lenses.states.meaning import movement, moves_with_weight, permutations
from lenses.states.meaning_tables import DRAWS
from models import load, untrained
from models.planted.copy import planted_copy
from prompts.additions import Addition

WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def reader():
    """A model that reads words, which an adder does not, and attends only by their kind."""
    return planted_copy([f"{WORDS} one two"], ["three"])[0]


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
        "weights != 'own' and control == 'none' and weight == 'attention' and step == 'layer' "
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


def test_one_head_is_claimed_where_it_leads_in_texts_it_was_not_chosen_on(experiment, results):
    five = results.tables["against_random"]
    rows = pd.concat([five.assign(prompt=five["prompt"] + start) for start in (0, 5, 10)])
    own = rows["weights"] == "own"
    noise = np.random.default_rng(0).normal(0, 0.01, len(rows))
    for twins, verdict in ((0.0, "holds"), (0.5, "undecided")):
        changed = rows.assign(best_elsewhere=np.where(own, 0.5, twins) + noise)
        left = Results(dict(results.tables) | {"against_random": changed})
        claim = experiment.claims(left)[-1]
        assert (claim.verdict, claim.n) == (verdict, 15)
        assert claim.low < claim.estimate < claim.high
        other = "the head that is best in other texts has 0.50"
        assert other in experiment.headline(left)
        assert ("not shown to be more than chance" in experiment.headline(left)) == bool(twins)


def test_the_last_state_is_the_models_own(experiment, results):
    assert experiment.claims(results)[0].verdict == "holds"


def test_the_headline_names_the_best_head_and_the_excess(experiment, results):
    heads = results.tables["heads"].query(
        "weight == 'attention' and control == 'position' and step == 'layer' "
        "and distance == 'divergence'"
    )
    best = heads.loc[heads["estimate"].idxmax()]
    headline = experiment.headline(results)
    assert (
        f"L{best['layer']:.0f}H{best['head']:.0f} is strongest ({best['estimate']:.2f}" in headline
    )
    whole = experiment.claims(results)[1]
    told = f"{whole.estimate:.2f} (random weights: {whole.null:.2f}) for the whole layer"
    assert told.replace("-", "−") in headline


def test_means_over_one_text_are_not_tested(adder):
    experiment = AttentionMeaning(additions=1)
    found = experiment.measure(adder)
    means = [claim for claim in experiment.claims(found) if claim.family]
    assert [(claim.verdict, claim.estimate) for claim in means] == [("not tested", None)] * 4
    assert all(claim.needs.startswith("5 texts or more") for claim in means)
    assert experiment.claims(found)[-1].verdict == "not tested"
    assert experiment.headline(found).startswith("One text cannot tell")
    assert experiment.figures(found)


def test_texts_are_cut_and_short_ones_refused(reader):
    reader = untrained(reader, 0)
    with pytest.raises(UsageError, match="prompt 1: 3 tokens"):
        AttentionMeaning(prompts=(WORDS, "one two three")).measure(reader)
    given = (WORDS, "one two three four five six seven")
    found = AttentionMeaning(prompts=given, tokens=9).measure(reader)
    assert found.tables["prompts"]["tokens"].tolist() == [9, 7]


def test_texts_in_which_no_correlation_is_defined_are_refused(reader):
    with pytest.raises(UsageError, match="in none of the texts is every rank correlation defined"):
        AttentionMeaning(prompts=("one" + " one" * 6, "one" + " two" * 6)).measure(reader)


def test_pairs_are_a_token_and_its_sources():
    rows = _pairs("p", np.array([[9.0, 9, 9], [9, 9, 9], [9, -2, 9]]))
    assert rows[["token", "source"]].to_numpy().tolist() == [[2, 1]]
    assert rows["share"].tolist() == [-1]
    assert isinstance(rows, pd.DataFrame)


@pytest.mark.real
def test_shipped_texts_that_are_too_short_are_left_out():
    texts = AttentionMeaning(model="smollm2", count=12)._texts(load("smollm2"))
    assert len(texts) == 12
    assert all(len(text.ids) >= 6 for text in texts)
