"""The glimpse at its default size, and where there is too little to answer."""

import pytest

from experiments import Results
from experiments.attention_glimpse import AttentionGlimpse
from models.train.glimpse import KINDS


@pytest.fixture(scope="module")
def experiment():
    return AttentionGlimpse()


@pytest.fixture(scope="module")
def results(experiment) -> Results:
    return experiment.measure(None)


def test_every_network_is_trained_from_every_seed(results):
    networks = results.tables["networks"]
    trained = networks[networks["network"] != "planted"]
    assert set(trained["network"]) == set(KINDS)
    assert trained.groupby("network")["seed"].nunique().tolist() == [5] * 4
    assert trained.groupby(["network", "seed"])["step"].nunique().eq(7).all()


def test_attention_learns_and_its_rivals_do_not(experiment, results):
    claims = experiment.claims(results)
    assert [claim.verdict for claim in claims] == ["holds"] * len(claims)
    answers, even, wide, looks, follows, *checks = claims
    assert answers.estimate > 0.99
    assert answers.null < 0.2
    assert even.estimate > 0.5
    assert wide.estimate > 0.5
    assert looks.estimate > 0.8
    assert looks.null == pytest.approx(1 / 8, abs=0.05)
    assert follows.estimate > 0.95 > 0.3 > follows.null
    assert follows.high <= 1  # a share
    assert all(check.check for check in checks)


def test_the_rival_has_more_parameters(results):
    of = results.tables["networks"].groupby("network")["parameters"].first()
    assert of["even weights"] == of["attention"]
    assert of["hidden layer"] > 10 * of["attention"]


def test_weights_move_from_even_to_the_diagonal(results):
    places = results.tables["places"]
    same = places["right"] == places["slot"]
    at = places[same].groupby("step")["attention"].mean()
    assert at.iloc[0] == pytest.approx(1 / 8, abs=0.05)
    assert at.iloc[-1] > 0.8
    sums = places.groupby(["seed", "step", "right"])["attention"].sum()
    assert sums.to_numpy() == pytest.approx(1)


def test_the_headline_has_the_numbers(experiment, results):
    said = experiment.headline(results)
    assert said.startswith(
        "Yes: after 300 steps of training the network with attention answers 100"
    )
    assert "of its weight on the right one of 8 slots" in said


def test_learned_claims_do_not_hold_before_training(experiment, results):
    """As if the untrained networks were all that there was."""
    networks, moved = results.tables["networks"], results.tables["moved"]
    first = networks[networks["step"] == 0]
    moved = moved.assign(
        network=moved["network"].replace({"attention": "x", "untrained": "attention"})
    )
    moved = moved.assign(network=moved["network"].replace({"x": "untrained"}))
    claims = experiment.claims(Results({**results.tables, "networks": first, "moved": moved}))
    learned = [claim for claim in claims if claim.kind == "learned"]
    assert len(learned) == 5
    assert "holds" not in {claim.verdict for claim in learned}


def test_a_single_training_is_not_enough():
    alone = AttentionGlimpse(seeds=1, steps=4, cases=20)
    results = alone.measure(None)
    claims = alone.claims(results)
    assert claims[0].verdict == "not tested"
    assert claims[0].needs == "5 trainings or more (--seeds)"
    assert alone.headline(results).startswith("Not shown at this size: after 4 steps")
