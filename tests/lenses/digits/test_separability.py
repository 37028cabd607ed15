"""Classifiers of remainders against one written out, and a spike without separability."""

import numpy as np
import pytest

from lenses.digits.geometry import fourier, share
from lenses.digits.separability import FOLDS, RIDGE, held_out_accuracy, separability

RNG = np.random.default_rng(0)


def circle(values, period, d=12):
    """Points on a circle in some plane of d dimensions."""
    angle = 2 * np.pi * np.arange(values) / period
    plane = np.linalg.qr(np.random.default_rng(1).standard_normal((d, 2)))[0]
    return np.stack([np.cos(angle), np.sin(angle)], 1) @ plane.T


def as_it_is(values):
    return np.arange(values)[None]


def naive(points, modulus, label):
    """Fold by fold, with weights and an intercept: accuracy on what each fold holds out."""
    values, right = len(points), 0
    by_label = points[np.argsort(label)]
    fold = np.arange(values) // modulus % min(FOLDS, values // modulus)
    for number in range(fold.max() + 1):
        seen, out = by_label[fold != number], by_label[fold == number]
        labels, wanted = (np.flatnonzero(x) % modulus for x in (fold != number, fold == number))
        middle, hot = seen.mean(0), np.eye(modulus)[labels]
        centred = seen - middle
        penalty = RIDGE * (centred**2).sum() / len(seen) + 1e-12
        inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(points.shape[1]))
        # The targets' means times one minus the leverage of the centre, which is zero.
        scores = (out - middle) @ inverse @ centred.T @ (hot - hot.mean(0)) + hot.mean(0)
        right += (scores.argmax(1) == wanted).sum()
    return right / values


@pytest.mark.parametrize(("values", "modulus"), [(10, 2), (10, 5), (100, 2), (100, 5), (100, 10)])
def test_it_is_ridge_regression_on_the_values_not_held_out(values, modulus):
    points = RNG.standard_normal((values, 30)) + 0.7 * circle(values, modulus, 30)
    orders = np.stack([np.arange(values), RNG.permutation(values)])
    found = held_out_accuracy(points, modulus, orders)
    assert found.tolist() == [naive(points, modulus, order) for order in orders]


@pytest.mark.parametrize(("values", "modulus"), [(10, 5), (100, 5), (100, 10)])
def test_a_planted_circle_is_separable(values, modulus):
    assert held_out_accuracy(circle(values, modulus), modulus, as_it_is(values)) == 1


def test_a_spike_without_separability():
    """A cosine alone: all of the variation has period 5, and v and -v are one point."""
    cosine = np.cos(2 * np.pi * np.arange(100) / 5)[:, None]
    centred = cosine - cosine.mean(0)
    assert share(centred @ centred.T, fourier(100, 5)) == pytest.approx(1)
    assert held_out_accuracy(cosine, 5, as_it_is(100)) <= 0.6


def test_digits_on_a_circle_of_period_ten_are_not_told_even_from_odd():
    assert held_out_accuracy(circle(10, 10), 2, as_it_is(10)) <= 0.5


def test_the_table_has_planted_sites_their_null_and_the_embedding_apart():
    noise = 0.1 * RNG.standard_normal((1, 2, 6, 10, 12))
    states = noise + np.stack([np.zeros((10, 12)), circle(10, 5)])[None, :, None]
    table = separability([("a", 0)], states.astype(np.float32), 0).set_index(["modulus", "layer"])
    assert table["where"].tolist() == ["embedding", "state"] * 2
    assert table.index.levels[0].tolist() == [2, 5], "mod 10 leaves nothing to hold out"
    planted = table.loc[(5, 1)]
    assert planted["accuracy"] == 1
    assert planted["p"] < 0.05
    assert planted["spike"] > 0.8
    assert planted["spike_chance"] == pytest.approx(2 / 9)
    assert abs(planted["shuffled"] - 0.2) < 0.1
    assert (table["p"].drop((5, 1)) > 0.05).all()


def test_random_points_are_separable_as_often_as_p_says():
    p = []
    for seed in range(60):
        states = np.random.default_rng(seed).standard_normal((1, 1, 4, 10, 16))
        p.append(separability([("a", 0)], states.astype(np.float32), seed)["p"].to_numpy())
    assert (np.array(p) <= 0.05).mean() <= 0.1
