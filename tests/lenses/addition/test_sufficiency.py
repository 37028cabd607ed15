"""What is left of an adder when only some heads are kept at some tokens."""

import numpy as np
import pytest

from lenses.addition.sufficiency import (
    WHOLE,
    Questions,
    accuracy_with,
    by_place,
    every_head,
    keeping,
    random_alike,
)
from lenses.statistics.intervals import wilson
from models.planted.carry import planted_carry
from prompts.additions import Addition, AdditionFormat


@pytest.fixture(scope="module")
def planted():
    return planted_carry(places=3, seed=2, heads=4)


def right_with(planted, sets, mode="mean"):
    model = planted.model
    asked, others = (
        Questions.of(model.card.arithmetic, Addition(3, 80, seed).sums) for seed in (0, 1)
    )
    gone = keeping(model, asked, [kept(asked) for kept in sets])
    return accuracy_with(model, asked, others, gone, mode, 0, 512)


def planted_heads(planted):
    reads = {3: "=", 2: "A3", 1: "A2", 0: "A1"}
    kept = [(reads[place], *head) for place, heads in planted.heads.items() for head in heads]
    return kept + [(reads[place], *planted.base) for place in range(3)]


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_planted_heads_suffice_and_each_is_needed(planted, mode):
    kept = planted_heads(planted)
    sets = [lambda _: kept, lambda asked: every_head(planted.model, asked), lambda _: []]
    sets += [lambda _, i=i: kept[:i] + kept[i + 1 :] for i in range(len(kept))]
    whole = right_with(planted, sets, mode).all(2).mean(1)
    assert (whole[:2] == 1).all()
    assert whole[2] < 0.2
    assert (whole[3:] < 0.8).all()


def test_a_head_kept_at_one_place_serves_that_place(planted):
    (head,) = planted.heads[1]
    right = right_with(planted, [lambda _: [("A2", *head), ("A2", *planted.base)]])[0]
    assert right[:, 1].all()
    assert right[:, 2].mean() < 0.6


def test_random_sets_are_as_large_at_each_token_and_differ(planted):
    asked = Questions.of(planted.model.card.arithmetic, Addition(3, 4, 0).sums)
    kept = [("=", 0, 1), ("=", 1, 0), ("A2", 0, 0), ("A2", 0, 3), ("A2", 1, 2)]
    draws = random_alike(planted.model, kept, 5, np.random.default_rng(0))
    for draw in draws:
        assert len(set(draw)) == 5
        assert [token for token, _, _ in draw] == [token for token, _, _ in kept]
    assert len({tuple(draw) for draw in draws}) == 5
    assert {layer for draw in draws for _, layer, _ in draw} == {0, 1}
    assert len(every_head(planted.model, asked)) == 2 * 4 * (asked.tokens.shape[1])


def test_accuracy_of_places_and_whole_answers():
    right = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]], dtype=bool)
    table = by_place(right).set_index("place")
    assert table["accuracy"].to_dict() == {WHOLE: 0.5, 0: 1.0, 1: 0.75, 2: 0.5}
    assert (table["n"] == 4).all()
    assert table.loc[1, ["low", "high"]].tolist() == [float(end) for end in wilson(3, 4)]


def test_unpadded_answers_of_one_length_are_kept():
    vocabulary = {sign: token for token, sign in enumerate("0123456789+=")}
    style = AdditionFormat(digits=2, pad=False, vocabulary=vocabulary)
    asked = Questions.of(style, Addition(2, 60, 0, padded=False).sums)
    assert (asked.sums.answer >= 100).all()
    assert (asked.at >= 0).all()
    assert asked.tokens.shape[1] == 8
