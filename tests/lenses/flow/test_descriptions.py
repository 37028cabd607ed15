"""Sentences and additions as tokens, with controls that stand as far away."""

import numpy as np
import pytest

from lenses.flow.descriptions import Case, UnfitError, added_cases, worded_case
from models.native import vocabulary_tokenizer
from models.planted.edge import planted_edge
from prompts.additions import Addition, AdditionFormat
from prompts.adjectives import Described

SIGNS = {sign: number for number, sign in enumerate("0123456789+=")}


class Reader:
    """A model as far as its tokenizer."""

    def __init__(self, *tokens: str) -> None:
        self.tokenizer = vocabulary_tokenizer({token: i for i, token in enumerate(tokens)})


READER = Reader("The", " re", "d", " bl", "ue", " big", " and", " ox", " do", "gs", " is", " barn")


def described(own: str, control: str, adjective: str, noun: str, *instead: str) -> Described:
    return Described("frame", own, control, adjective, noun, instead)


def test_words_of_several_tokens_are_spans():
    said = described(
        "The {adjective} big {noun} is", "The {adjective} barn {noun}", "red", "dogs", "big", "blue"
    )
    case, instead = worded_case(READER, said)
    assert instead == "blue"  # "big" is a single token
    assert case.clean.tolist() == [[0, 1, 2, 5, 8, 9], [0, 1, 2, 11, 8, 9]]
    assert case.changed.tolist() == [[0, 3, 4, 5, 8, 9], [0, 3, 4, 11, 8, 9]]
    assert case.adjective.tolist() == [1, 2]
    assert case.noun.tolist() == [[False] * 4 + [True] * 2] * 2
    assert case.at.tolist() == [5, 5]
    assert case.distance == 2


@pytest.mark.parametrize(
    ("control", "instead", "why"),
    [
        ("The big {adjective} {noun}", "blue", "the adjective is written otherwise or elsewhere"),
        ("The {adjective} {noun}", "blue", "the noun is written otherwise or elsewhere"),
        ("The {adjective} barn {noun}", "big", "no other adjective has as many tokens: big"),
    ],
)
def test_what_does_not_match_is_refused_with_the_reason(control, instead, why):
    with pytest.raises(UnfitError, match=why):
        worded_case(
            READER, described("The {adjective} big {noun}", control, "red", "dogs", instead)
        )


def test_a_case_in_which_more_is_exchanged_is_refused():
    clean, changed = np.array([[1, 2, 3]]), np.array([[9, 8, 3]])
    with pytest.raises(AssertionError):
        Case("f", clean, changed, np.array([0]), np.array([[False, False, True]]))


@pytest.mark.parametrize("operands", ["msb", "lsb"])
@pytest.mark.parametrize("answer", ["msb", "lsb"])
def test_columns_of_an_addition(operands, answer):
    style = AdditionFormat(digits=4, operands=operands, answer=answer, vocabulary=SIGNS)
    sums = Addition(4, 6, 0).sums
    for number, case in enumerate(added_cases(style, sums, 0)):
        place = 1 + number % 2
        column = {sums.a_digits[number, place], sums.b_digits[number, place]}
        assert set(case.clean[0, case.adjective]) == column
        assert (case.clean != case.changed).sum(axis=1).tolist() == [2, 2, 2]
        assert (case.clean == case.clean[0]).all()
        step = -1 if answer == "msb" else 1
        assert (case.at - case.at[0]).tolist() == [0, -step, step]
        row = style.write(sums).tokens[number]
        wanted = sums.answer_digits[number, [place, place - 1, place + 1]]
        assert row[case.at + 1].tolist() == wanted.tolist()


def test_unpadded_additions_have_columns_too():
    style = AdditionFormat(digits=3, pad=False, vocabulary=SIGNS)
    sums = Addition(3, 5, 0, padded=False).sums
    for number, case in enumerate(added_cases(style, sums, 0)):
        column = [sums.a_digits[number, 1], sums.b_digits[number, 1]]
        assert case.clean[0, case.adjective].tolist() == column


def test_two_digits_have_no_place_between():
    style = AdditionFormat(digits=2, vocabulary=SIGNS)
    with pytest.raises(ValueError, match="2 digits leave no place"):
        added_cases(style, Addition(2, 1, 0).sums, 0)


def test_shipped_sentences_keep_distance_and_words_in_the_control():
    from prompts.adjectives import described_nouns

    model = planted_edge().model
    case, instead = worded_case(model, described_nouns()[0])
    texts = ["".join(model.tokenizer.decode([t]) for t in row) for row in case.clean]
    assert texts == ["A fluffy blue creature", "Something fluffy gives creature"]
    assert instead == "smooth"
