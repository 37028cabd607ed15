"""Where a network looks, against one whose weights are known and against plain loops."""

import numpy as np
import pandas as pd
import pytest

from lenses.flow.glimpse import (
    at_the_right_place,
    by_place,
    example_rows,
    glimpse_errors,
    letters_said,
    look,
    made_to_look_elsewhere,
    moved_row,
    network_row,
    place_rows,
    training_rows,
)
from models.planted.glimpse import planted_glimpse
from models.train.glimpse import KINDS, Recipe, course, network
from prompts.cued import cued

CASES = cued(400, 5, np.random.default_rng(1))
RECIPE = Recipe(slots=5, width=8, steps=1, learning_rate=0.02, batch=8, seed=0)


def test_the_planted_network_is_right_and_looks_right():
    found = look(planted_glimpse(), CASES)
    assert found.right.all()
    assert at_the_right_place(found.weights, CASES) > 0.999
    assert np.allclose(by_place(found.weights, CASES), np.eye(5), atol=1e-3)


def test_means_by_place_are_those_of_a_loop():
    weights = look(network("attention", RECIPE), CASES).weights
    grid = by_place(weights, CASES)
    for right in range(5):
        assert np.allclose(grid[right], weights[CASES.right == right].mean(0))
    assert np.isnan(by_place(weights[:1], cued(1, 5, np.random.default_rng(0)))).sum() == 20


def test_made_to_look_elsewhere_the_planted_network_says_what_it_sees():
    moved = made_to_look_elsewhere(planted_glimpse(), CASES, 0)
    assert (moved.seen, moved.cued) == (moved.cases, 0)
    assert moved.cases == pytest.approx(0.9 * len(CASES), abs=25)  # in a tenth both hold the same


def test_one_that_learned_nothing_does_not():
    shares = []
    for seed in range(20):
        net = network("attention", Recipe(5, 8, 1, 0.02, 8, seed))
        moved = made_to_look_elsewhere(net, CASES, 0)
        shares.append(moved.seen / moved.cases)
        assert at_the_right_place(look(net, CASES).weights, CASES) < 0.5
    assert max(shares) < 0.5


def test_the_arithmetic_is_right_and_a_wrong_one_is_seen():
    net = network("attention", RECIPE)
    before = net.readout.dtype
    assert (glimpse_errors(net, CASES) < 1e-12).all()
    assert net.readout.dtype == before

    class Wrong(type(net)):
        def weights(self, cases):
            return 2 * super().weights(cases)

    net.__class__ = Wrong
    assert glimpse_errors(net, CASES)[0] > 0.9


def test_rows_of_tables():
    found = look(planted_glimpse(), CASES)
    row = network_row("planted", 0, 0, planted_glimpse(), CASES)
    assert (row["correct"], row["n"], row["accuracy"]) == (400, 400, 1.0)
    assert row["parameters"] == 12 * 22 + 10 * 22 + 12 * 22 + 44 * 10
    assert np.isnan(network_row("w", 0, 0, network("hidden layer", RECIPE), CASES)["right_weight"])
    assert len(place_rows(0, 0, found.weights, CASES)) == 25
    shown = example_rows(0, found.weights[0], CASES)
    best = max(shown, key=lambda one: one["attention"])
    assert best["shown"].startswith(best["cue"])


def test_a_training_is_asked_before_after_and_at_halvings():
    recipe = Recipe(slots=5, width=8, steps=9, learning_rate=0.02, batch=8, seed=3)
    found = training_rows("attention", recipe, CASES, first=3)
    steps = [row["step"] for row in found["networks"]]
    assert steps == [0, 1, 2, 4, 9]
    for row, (step, net) in zip(found["networks"], course("attention", recipe, steps), strict=True):
        assert row == network_row("attention", 3, step, net, CASES)
    assert len(found["places"]) == 5 * 25
    assert len(found["example"]) == 5 * 5
    untrained = moved_row("untrained", 3, network("attention", recipe), CASES, 3)
    assert found["moved"][1] == untrained
    assert found["moved"][0]["n"] == untrained["n"]
    assert found["errors"][0]["logits"] < 1e-12
    assert "example" not in training_rows("attention", recipe, CASES, first=2)
    for kind in set(KINDS) - {"attention"}:
        assert training_rows(kind, recipe, CASES, first=3).keys() == {"networks"}


def test_letters_said_are_counted_over_trainings():
    moved = pd.DataFrame(
        [("b", 7, 3, 10), ("a", 0, 1, 4), ("b", 1, 9, 10), ("c", 0, 0, 0)],
        columns=["network", "cued", "seen", "n"],
    )
    said = letters_said(moved)
    rows = said[["network", "letter", "correct", "n"]].to_numpy().tolist()
    assert rows == [
        ["b", "seen", 12, 20],
        ["b", "cued", 8, 20],
        ["a", "seen", 1, 4],
        ["a", "cued", 0, 4],
    ]
    assert said["accuracy"].tolist() == [0.6, 0.4, 0.25, 0]
    assert said.loc[3, "low"] == 0 < said.loc[3, "high"]
    assert letters_said(moved[moved["n"] == 0]).empty
