"""Readings of states: cases, controls, and the choice of depths on other cases."""

import numpy as np
import pytest

from lenses.states.implied import UnfitError, added, another, asked_digits, questions, worded
from lenses.states.propagation import (
    STATES,
    eligible,
    excesses,
    held_out,
    read_cases,
    shares,
    where_read,
)
from lenses.statistics.paired import paired_shares
from models import load
from models.planted.implied import LAYER, planted_implied
from models.text import token_strings
from prompts.injections import shipped_injections


@pytest.fixture(scope="module")
def planted():
    return planted_implied(seed=1)


@pytest.fixture(scope="module")
def cases(planted):
    told = shipped_injections()
    return [one for number in range(10) for one in worded(planted, told, number)]


@pytest.mark.parametrize(
    ("told", "from_block", "to_block"),
    [("word", 0, LAYER), ("implied", 0, LAYER), ("answer", LAYER + 1, LAYER + 2)],
)
def test_planted_states_are_read_where_they_hold_it_and_nowhere_else(
    planted, cases, told, from_block, to_block
):
    mine = [one for one in cases if one.told == told]
    found = read_cases(planted, mine, range(len(mine)), [0, 1, 2, 3], seed=0)
    right = found.said == np.array([one.right for one in mine])[:, None, None]
    holds = (np.arange(4) >= from_block) & (np.arange(4) <= to_block)
    assert (right[..., STATES.index("own")] == holds).all()
    for control in ("another", "none"):
        assert not right[..., STATES.index(control)].any()
    assert right[..., STATES.index("text")].all()
    assert np.nanmax(found.error) < 1e-5


def test_a_case_is_blank_where_its_word_would_be(planted, cases):
    for one in cases:
        if one.told == "word":
            assert token_strings(planted, [one.reader[one.put]]) == [" ?"]
            assert one.text[one.put] == one.right
            assert one.source[-1] == one.right
        if one.told != "answer":
            assert one.reader[: one.put] == one.text[: one.put]
            assert one.reader[one.put + 1 :] == one.text[one.put + 1 :]


def test_another_case_has_another_answer_and_the_same_group(cases):
    mine = [one for one in cases if one.told == "implied"]
    for number, one in enumerate(mine[:8]):
        other = mine[another(mine, number)]
        assert other.right != one.right
        assert other.group == one.group
    with pytest.raises(UnfitError, match="no other case"):
        another(mine[:1], 0)


def test_digits_of_additions_are_as_integer_arithmetic_says():
    model = load("adder_6d_1l")
    style = model.card.arithmetic
    for one in added(style, 12, seed=0):
        said = "".join(token_strings(model, one.text)).removeprefix("<bos>")
        place = int(one.group[-1])
        a, b = (said[:6], said[7:13])
        wanted = f"{int(a) + int(b):07d}"[-1 - place]
        assert token_strings(model, [one.right]) == [wanted]
    for one in asked_digits(style, 12, seed=0):
        tokens = token_strings(model, one.filled(one.subject, one.word))
        place, said = int(one.group[-1]), "".join(tokens).removeprefix("<bos>")
        wanted = f"{int(said[:6]) + int(said[7:13]):07d}"[-1 - place]
        assert token_strings(model, [one.implied]) == [wanted]
        assert len({one.word, one.random, one.ids[one.subject]}) == 3


def test_words_of_questions_imply_their_targets(planted, cases):
    told = shipped_injections()
    implied = {f" {one.word}": f" {one.answer}" for one in told.known}
    for one in questions(planted, told, cases):
        word, target = token_strings(planted, [one.word, one.implied])
        assert implied[word] == target
        assert one.implied != one.answer
        assert token_strings(planted, [one.random])[0].strip() in told.random


def random_right(n=40, depths=5):
    rng = np.random.default_rng(2)
    return rng.random((n, depths, len(STATES))) < rng.random((depths, len(STATES)))


def test_shares_and_excesses_are_plain_counts():
    right, depths = random_right(), [0, 2, 4, 6, 8]
    table = shares(right, depths).set_index(["layer", "state"])["accuracy"]
    assert table[4, "shuffled"] == right[:, 2, STATES.index("shuffled")].mean()
    row = excesses(right, depths).iloc[3]
    best = STATES.index(row["control"])
    assert right[:, 3, best].mean() == right[:, 3, 1:4].mean(0).max()
    assert row["estimate"] == paired_shares(right[:, 3, 0], right[:, 3, best]).estimate
    assert (excesses(right, depths)["q"] >= excesses(right, depths)["p"]).all()


def test_depths_are_chosen_on_cases_that_are_not_counted():
    right = np.zeros((40, 3, len(STATES)), dtype=bool)
    half = held_out(right, [0, 1, 2])
    # Own states are right at depth 1 in one half of the cases, at depth 2 in the other.
    rng = np.random.default_rng(0).permutation(40) % 2
    right[rng == 0, 1, 0], right[rng == 1, 2, 0] = True, True
    found = held_out(right, [0, 1, 2])
    assert not found["own"].any()
    assert set(found["depth"][rng == 0]) == {2}
    assert set(found["depth"][rng == 1]) == {1}
    assert not half["own"].any()


def test_within_the_model_is_after_the_first_block_and_before_the_last():
    assert eligible([0, 3, 6, 9], 9) == [1, 2]
    assert eligible([0, 1], 1) == [0]


def test_of_one_block_nothing_is_said_to_be_read_within_the_model():
    sentence = "A state from within the model tells its word."
    assert where_read(sentence, [3, 6]) == sentence
    assert where_read(sentence, [0]) == "A state from before the only layer tells its word."
