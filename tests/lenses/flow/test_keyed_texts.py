"""Where the words of a prompt stand, and whether an answer is known to depend on them."""

import pytest

from lenses.flow.keyed_texts import KeyedText, _units
from models.planted.copy import planted_copy
from models.text import tokenize
from prompts.relevance import KeyedPrompt

TEXT = "Our dog Max likes walks. I walk with our dog"


@pytest.fixture(scope="module")
def model():
    return planted_copy([TEXT], ["Max"], seed=0)[0]


def read(model, kind="planted", key="Max", answer=" Max"):
    given = tokenize(model, TEXT)
    text = KeyedText(0, KeyedPrompt(kind, TEXT, key=key), given)
    return text.answered(model, tokenize(model, answer))


def test_the_key_is_found_where_it_stands(model):
    text = read(model)
    ((pos,),) = text.words["key"]
    assert model.tokenizer.decode([text.given[pos]]).strip() == "Max"
    assert text.words["misleading"] == []
    assert text.scored.sum() == len(text.given) - 2


def test_an_answer_without_the_key_does_not_depend_on_it(model):
    assert read(model).depends
    assert not read(model, answer=" walks").depends
    assert not read(model, kind="given", key="").depends
    assert KeyedPrompt("addition", "12+34=", key="units").depends("46")


def test_units_are_the_last_digits_or_the_first():
    is_digit = [True, True, False, True, True, False]
    assert _units(is_digit, last=True) == [1, 4]
    assert _units(is_digit, last=False) == [0, 3]
