"""How language models read additions, and what is said where they cannot."""

import pytest

from lenses.addition.answers import addition_format, language_format
from models import ModelError, load
from models.native import vocabulary_tokenizer
from prompts.additions import Addition, solved


def with_card(**fields):
    """The adder with another format on its card."""
    model = load("adder_6d_1l")
    style = model.card.arithmetic.model_copy(update=fields)
    model.card = model.card.model_copy(update={"arithmetic": style})
    return model


def test_an_adder_writes_as_its_card_says():
    adder = load("adder_6d_1l")
    assert addition_format(adder, None, 1, 0) is adder.card.arithmetic
    assert addition_format(adder, 6, 1, 0) is adder.card.arithmetic
    with pytest.raises(ModelError, match="6 digits, not 3"):
        addition_format(adder, 3, 1, 0)


def test_an_adder_of_many_widths_can_be_asked_fewer_digits():
    model = with_card(pad=False)
    assert addition_format(model, 3, 1, 0).digits == 3
    with pytest.raises(ModelError, match="up to 6 digits, not 7"):
        addition_format(model, 7, 1, 0)


def test_a_tokenizer_that_joins_digits_is_refused_in_one_line(monkeypatch):
    model = load("adder_6d_1l")
    signs = [*"0123456789+= \na", *(f"{number:02}" for number in range(100))]
    model.tokenizer = vocabulary_tokenizer({sign: i for i, sign in enumerate(signs)})
    monkeypatch.setattr("models.text.refuse_unread_tokens", lambda *_: None)
    model.card = model.card.model_copy(update={"arithmetic": None})
    with pytest.raises(ModelError, match="every digit as a token of its own") as refused:
        addition_format(model, 2, 1, 0)
    assert "\n" not in str(refused.value)


@pytest.mark.real
def test_smollm2_reads_additions_as_they_are_written():
    model = load("smollm2")
    style = language_format(model, places=3, examples=2, seed=0)
    sums = Addition(3, 50, seed=9, padded=False).sums
    head = "".join(model.tokenizer.decode([int(i[1:])]) for i in style.layout if i[0] == "#")
    assert head.endswith(" +  = ")
    texts = [model.tokenizer.decode(row) for row in style.write(sums).tokens]
    for text, addition in zip(texts, solved(sums), strict=True):
        assert f"\n{addition}" in text
