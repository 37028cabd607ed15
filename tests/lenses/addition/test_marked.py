"""Answers marked by hand, and the weakest of cells."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lenses.addition.answers import answered
from lenses.addition.emergence import CELL
from lenses.addition.marked import (
    Marked,
    ask,
    at_most,
    by_cell,
    by_place,
    either_way,
    error_kinds,
    mistakes,
    weak_spot,
    whole_answers,
)
from lenses.kept import PerPrompt
from lenses.statistics.accuracy import with_accuracy
from lenses.statistics.intervals import wilson
from models import load
from models.planted.saying import saying
from prompts.additions import Cells


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def marked(adder) -> Marked:
    """Right but for three answers: a carry lost, a carry invented, and a digit that is neither."""
    style, sums = adder.card.arithmetic, Cells(6, 1, seed=0).sums
    given = sums.answer_digits.copy()
    rows = np.arange(len(sums))
    carry = sums.carry[rows, sums.place]
    lost, invented = np.flatnonzero(carry == 1)[0], np.flatnonzero(carry == 0)[0]
    other = np.flatnonzero(carry == 0)[1]
    for row, change in ((lost, -1), (invented, 1), (other, 5)):
        given[row, sums.place[row]] = (given[row, sums.place[row]] + change) % 10
    said = PerPrompt()
    said.update(given=given, generated=given, ends=np.ones(len(sums), dtype=bool))
    return Marked(style, sums, said)


def test_digits_are_counted_where_each_question_was_drawn_for(marked):
    cells = by_cell(marked, "given").set_index(CELL)
    for row in range(len(marked.sums)):
        place = marked.sums.place[row]
        right = marked.said["given"][row, place] == marked.sums.answer_digits[row, place]
        assert cells["correct"][tuple(marked.sums.cell[row])] == right
    assert (cells["n"] == 1).all()
    assert cells["correct"].sum() == len(marked.sums) - 3


def test_places_and_whole_answers_are_plain_counts(marked):
    right = marked.said["generated"] == marked.sums.answer_digits
    rows = by_place(marked).set_index(["prefix", "place"])
    assert rows["correct"]["generated"].tolist() == right.sum(0).tolist()
    whole = whole_answers(marked).iloc[0]
    assert (whole["n"], whole["correct"]) == (len(right), right.all(1).sum())
    wrong = mistakes(marked, "cells")
    assert wrong["prompt"].tolist() == np.flatnonzero(~right.all(1)).tolist()


def test_each_kind_of_error_is_counted_once(marked):
    errors = error_kinds(marked).query("prefix == 'given'")
    counted = errors.groupby("kind")["errors"].sum()
    assert counted.to_dict() == {"carry lost": 1, "carry invented": 1, "other": 1}


def test_asking_in_batches_is_asking_at_once(adder):
    style, sums = adder.card.arithmetic, Cells(6, 2, seed=1).sums
    found = ask(adder, style, sums, 7, lambda items, keep, label: iter(items), "cells")
    for name, wanted in zip(
        ("given", "generated", "ends"), answered(adder, style, sums), strict=True
    ):
        assert np.array_equal(found.said[name], wanted)


def test_an_adder_says_what_it_is_made_to_say():
    model = saying(load("adder_6d_1l"), lambda sums: (sums.answer_digits + 3) % 10)
    sums = Cells(6, 1, seed=2).sums
    given, _, _ = answered(model, model.card.arithmetic, sums)
    assert np.array_equal(given, (sums.answer_digits + 3) % 10)


def test_only_places_with_and_without_a_carry_count():
    cells = pd.DataFrame({"place": [0, 1, 1], "run": 0, "carry": [0, 0, 1]})
    assert either_way(cells)["place"].tolist() == [1, 1]


def test_upper_ends_are_corrected_for_the_number_of_cells():
    cells = pd.DataFrame({"correct": [70, 80], "n": [80, 80]})
    found = at_most(cells)
    assert stats.binom.cdf(70, 80, found[0]) == pytest.approx(0.025)
    assert (found[1], found[0] > wilson(70, 80)[1]) == (1.0, True)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 80])
def test_by_luck_alone_a_cell_of_many_is_rarely_said_to_fail(n):
    right = np.arange(n + 1)
    many = [pd.DataFrame({"correct": [count] * 49, "n": n}) for count in right]
    fails = np.array([at_most(cells)[0] < 0.95 for cells in many])
    luck = stats.binom.pmf(right, n, 0.95)[fails].sum()
    assert 1 - (1 - luck) ** 49 <= 0.05
    assert fails[0] == (n > 2), "yet cells that are all wrong do fail"


def test_the_weak_spot_is_the_cell_furthest_below_its_place():
    cells = pd.DataFrame({"place": [1, 1, 2], "run": [0, 1, 0], "carry": 0, "n": 80})
    cells = with_accuracy(cells.assign(correct=[80, 40, 60]))
    digits = with_accuracy(pd.DataFrame({"place": [1, 2], "n": 300, "correct": [300, 240]}))
    spot = weak_spot(digits, cells, seed=0)
    assert (spot.cell["place"], spot.cell["run"]) == (1, 1)
    assert spot.gap.estimate == 0.5
    # Newcombe 1998, method 10, by hand.
    low, high = wilson(40, 80)
    uniform, _ = wilson(300, 300)
    assert spot.gap.low == pytest.approx(0.5 - np.hypot(1 - uniform, high - 0.5))
    assert spot.gap.high == pytest.approx(0.5 + np.hypot(0, 0.5 - low))
    assert spot.gap.p == pytest.approx(1 / 10_001)
    alike = cells.assign(correct=[80, 80, 64]).pipe(with_accuracy)
    assert weak_spot(digits, alike, seed=0).gap.p > 0.05
