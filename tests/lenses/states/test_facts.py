"""Facts as tokens: where subjects stand, who else fits, and what an adder is asked."""

from dataclasses import replace

import numpy as np
import pytest

from lenses.states.facts import PLACES, Case, added_cases, equally_long, told_cases
from models import load
from models.planted.recall import planted_recall
from prompts.additions import Addition, AdditionFormat
from prompts.recall import Recalled


@pytest.fixture(scope="module")
def planted():
    return planted_recall()


@pytest.fixture(scope="module")
def asked(planted):
    return told_cases(planted.model, planted.facts, 0)


def case(length: int, subject: tuple[int, int], **how) -> Case:
    return Case(0, "r", np.arange(length), subject, 1, 2, **how)


@pytest.mark.parametrize(
    ("subject", "length", "wanted"),
    [
        ((1, 5), 9, ["first of subject", "within subject", "within subject", "last of subject",
                     "first after", "further tokens", "further tokens", "last token"]),
        ((0, 2), 4, ["first of subject", "last of subject", "first after", "last token"]),
        ((2, 3), 4, ["last of subject", "last token"]),
        ((2, 4), 4, ["first of subject", "last of subject"]),
        ((3, 4), 4, ["last of subject"]),
    ],
)  # fmt: skip
def test_tokens_from_the_subject_on_are_named(subject, length, wanted):
    places = case(length, subject).places()
    assert [pos for _, pos in places] == list(range(subject[0], length))
    assert [PLACES[place] for place, _ in places] == wanted


def test_another_subject_is_of_the_same_relation_with_another_answer(planted, asked):
    assert len(asked.cases) == len(planted.facts)
    for one in asked.cases[1:]:
        own, other = planted.facts[one.number], planted.facts[one.instead]
        assert own.relation == other.relation
        assert own.answer != other.answer
        start, end = one.subject
        assert (
            np.delete(one.ids, slice(start, end)) == np.delete(one.other, slice(start, end))
        ).all()
        text = "".join(planted.model.tokenizer.convert_ids_to_tokens(one.other.tolist()))
        assert text == other.text


def test_elvis_alone_is_exchanged_for_no_subject_of_another_fact(planted, asked):
    assert [one.number for one in asked.cases if one.instead < 0] == [0]
    elvis = asked.cases[0]
    told = planted.model.tokenizer.convert_ids_to_tokens(elvis.other.tolist())
    assert "".join(told).endswith(f"His name is {planted.facts[0].others[0]}")


def test_a_stand_in_whose_tokens_do_not_fit_is_passed_over(planted):
    fact = replace(planted.facts[0], others=("Elvis", "name is", "Jimi"))
    (only,) = told_cases(planted.model, [fact], 0).cases
    told = planted.model.tokenizer.convert_ids_to_tokens(only.other.tolist())
    assert "".join(told) == replace(fact, subject="Jimi").text
    (none,) = told_cases(planted.model, [replace(fact, others=("name is",))], 0).cases
    assert none.other is None


def test_copies_and_answers_like_their_rival_are_skipped(planted):
    fact = planted.facts[1]
    facts = [
        fact,
        fact,
        Recalled("x", "The capital of {subject} is", "France", "Paris", "Paris Lyon"),
    ]
    asked = told_cases(planted.model, facts, 0)
    assert [one.number for one in asked.cases] == [0]
    assert "copy" in asked.skipped[1]
    assert "same token" in asked.skipped[2]


def test_relations_take_turns_and_few_known_facts_are_not_enough(asked):
    known = np.zeros(len(asked.cases), dtype=bool)
    known[[0, 1, 2, 3, 20, 40]] = True  # Elvis, traced by himself, three capitals and two others
    chosen = asked.taking_turns(known, 4, fewest=5)
    assert [one.number for one in chosen] == [1, 20, 40, 2]
    every = asked.taking_turns(known, 200, fewest=6)
    assert len(every) == len(asked.cases) - 1


def test_batches_are_of_one_length(asked):
    batches = equally_long(asked.cases, 4)
    assert all(len({len(one.ids) for one in some}) == 1 and len(some) <= 4 for some in batches)
    assert sorted(one.number for some in batches for one in some) == list(range(len(asked.cases)))


def test_the_rival_of_a_sum_is_the_sum_with_the_other_digit():
    form = load("adder_6d_1l").card.arithmetic
    sums = Addition(6, 12, 0).sums
    for number, one in enumerate(added_cases(form, sums, 0).cases):
        place = number % 6
        (at,) = np.flatnonzero(one.ids != one.other)
        assert at == one.subject[0] == form.operand_at("a", place)
        change = (int(one.other[at]) - int(one.ids[at])) * 10**place
        total = (sums.a[number] + sums.b[number]).item()
        ids = form.digit_ids
        assert one.answer == ids[total // 10**place % 10]
        assert one.rival == ids[(total + change) // 10**place % 10]
        assert len(one.ids) == form.read_at(place) + 1


def test_an_adder_without_fixed_widths_is_refused():
    form = AdditionFormat(
        digits=2, pad=False, vocabulary={s: n for n, s in enumerate("0123456789+=")}
    )
    with pytest.raises(ValueError, match="take an adder that pads them"):
        added_cases(form, Addition(2, 3, 0, padded=False).sums, 0)
