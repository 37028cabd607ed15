"""What is read: copies once, files and prompts refused by name and number."""

import warnings
from dataclasses import replace
from itertools import combinations, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenses.texts import (
    distinct,
    given_texts,
    long_beginnings,
    sampled_additions,
    texts_or_additions,
    texts_to_read,
)
from models import ModelError, load
from models.text import TextNote
from prompts.texts import Text
from tests.models.tiny import LLAMA, lower_case_tokenizer, save, tiny

SUM = "000012+000007="


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def test_copies_count_once_and_it_is_said(adder):
    with pytest.warns(TextNote, match="6 of 8 prompts are copies"):
        texts = texts_to_read(adder, [SUM] * 7 + ["000013+000007="], None, (), 7)
    assert [text.number for text in texts] == [0, 1]
    assert [text.origin for text in texts] == [0, 7]


def test_texts_that_differ_in_capitals_and_accents_alone_are_copies_to_an_uncased_model(tmp_path):
    tokenizer = lower_case_tokenizer()
    model = load(str(save(tmp_path, tiny("llama", tokenizer, **LLAMA), tokenizer)))
    with pytest.warns(TextNote, match="1 of 3 prompts are copies"):
        texts = texts_to_read(model, ["The Séa 12", "the sea 12", "the sea 13"], None, (), 0)
    assert [text.origin for text in texts] == [0, 2]


def test_different_texts_are_all_read_in_their_order(recwarn):
    assert distinct([[3], [1], [2]]) == [0, 1, 2]
    assert not recwarn.list


BEGINNING = [*range(10, 22)]
"""Twelve tokens."""


def noted(rows) -> list[str]:
    """What is said of rows of tokens."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distinct(rows)
    return [str(note.message) for note in caught]


def test_texts_with_a_long_beginning_are_named_beside_the_copies():
    alike = [[*BEGINNING, 1, 2], [5, 6], [*BEGINNING, 3], [7] * 30, [5, 6]]
    copies, beginnings = noted(alike)
    assert copies.startswith("1 of 5 prompts are copies")
    assert beginnings.startswith("2 of 4 prompts share a long beginning with another (numbers 0 ")
    assert "0 and 2)" in beginnings


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return load(str(save(folder, tiny("llama", **LLAMA))))


def test_texts_that_only_look_the_same_are_named(reader):
    """A composed and a decomposed accent, and spaces at an end: other tokens, the same words."""
    prompts = ("caf\u00e9", "An oak", "cafe\u0301", "A tide", "A tide ", "A\u00a0tide")
    with pytest.warns(TextNote) as told:
        texts = texts_to_read(reader, prompts, None, (), 0)
    assert len(texts) == 6
    assert [str(note.message) for note in told] == [
        "5 of 6 prompts differ from another only in spaces or in how letters are encoded (numbers "
        "0 and 2; 3, 4 and 5): each counts once, but they tell less than as many independent ones"
    ]


def test_texts_that_differ_in_a_letter_are_not_named(reader, recwarn):
    texts_to_read(reader, ("A tide", "a tide", "A tides"), None, (), 0)
    assert not [note for note in recwarn if note.category is TextNote]


@pytest.mark.parametrize(
    ("one", "other", "long"),
    [
        (8, 9, True), (7, 7, False),  # eight tokens or more
        (8, 16, True), (8, 17, False), (9, 17, True),  # half of the shorter text or more
        (12, 100, False), (50, 100, True),
    ],
)  # fmt: skip
def test_a_beginning_is_long_from_eight_tokens_and_half_of_the_shorter_text(one, other, long):
    rows = {0: (*range(one), *[-1] * (other - one)), 1: (*range(one), *[-2] * 400)}
    assert long_beginnings(rows) == ([[0, 1]] if long else [])


@given(st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=24), max_size=7, unique_by=tuple))
def test_groups_of_beginnings_are_those_of_all_pairs(rows):
    texts = dict(enumerate(map(tuple, rows)))
    group = {number: {number} for number in texts}
    for (i, one), (j, other) in combinations(texts.items(), 2):
        same = [*takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
        if len(same) >= 8 and len(same) >= min(len(one), len(other)) / 2:
            joined = group[i] | group[j]
            group |= dict.fromkeys(joined, joined)
    expected = sorted({tuple(sorted(x)) for x in group.values() if len(x) > 1})
    assert long_beginnings(texts) == [list(x) for x in expected]


def test_what_all_texts_begin_with_is_one_line_and_names_none():
    assert noted([[*BEGINNING, n, n + 1] for n in range(100, 120)]) == [
        "All 20 prompts begin with the same 12 tokens"
    ]
    template = [1] * 20
    rows = [[*template, *BEGINNING, 1], [*template, *BEGINNING, 2], [*template, 3, 4, 5]]
    first, second = noted(rows)
    assert first == "All 3 prompts begin with the same 20 tokens"
    assert second.startswith("2 of 3 prompts share a long beginning with another (numbers 0 and 1)")


def test_few_of_many_groups_are_named():
    (said,) = noted([[n, *BEGINNING, k] for n in range(6) for k in range(1 + n)])
    assert said.startswith("20 of 21 prompts")
    assert "numbers 1 and 2; 3, 4 and 5; 6, 7, 8 and 9; and 2 groups more" in said
    (said,) = noted([[n, *BEGINNING, k] for n in range(2) for k in range(6)])
    assert "numbers 0, 1, 2 and 3 more; 6, 7, 8 and 3 more)" in said


def test_an_addition_drawn_twice_is_read_once():
    form = load("adder_1to6d").card.arithmetic.model_copy(update={"digits": 1})
    with pytest.warns(TextNote, match="additions are copies"):
        texts = sampled_additions(form, 400, 0)
    assert len(texts) == len({tuple(text.given) for text in texts}) <= 100


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xe9t\xe9", "not UTF-8"), (b"\n \n", "no line has text"), (None, "correct the path")],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(adder, tmp_path, content, says):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=says) as refused:
        texts_to_read(adder, (), file, (), 7)
    assert "\n" not in str(refused.value)


def test_a_prompt_is_refused_by_its_number(adder):
    with pytest.raises(ModelError, match="prompt 0 with its continuation is 34 tokens long"):
        texts_to_read(adder, [SUM], None, (), 19)


def test_a_text_of_a_file_is_refused_by_its_line(adder, tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text(f"text\n{SUM}\nno addition\n")
    with pytest.raises(ModelError, match=r"prompts\.csv, line 3: adder_6d_1l cannot read 'n'"):
        texts_to_read(adder, (), file, (), 7)


def test_texts_are_read_from_a_column(adder, tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text(f"id,sum\n1,{SUM}\n")
    texts = texts_to_read(adder, ["000013+000007="], tmp_path / "prompts.csv:sum", (), 7)
    assert [text.kind for text in texts] == ["given", "given"]
    assert texts[1].given == texts_to_read(adder, [SUM], None, (), 7)[0].given


def test_a_text_as_the_model_computes_it_holds_what_was_added():
    model = load("adder_6d_1l")
    text = sampled_additions(model.card.arithmetic, 1, 0)[0]
    answered = replace(text, new=[1, 2])
    assert answered.tokens(model).tolist() == [*text.given, 1, 2]
    assert answered.tokens(model).device == model.W_E.device


def test_an_adder_that_is_given_no_text_reads_additions(adder, tmp_path):
    shipped = [Text("shipped", "000099+000001=")]
    asked = texts_or_additions(adder, (), None, shipped, 3, 5)
    assert asked == sampled_additions(adder.card.arithmetic, 3, 5)
    given = texts_or_additions(adder, (SUM,), None, shipped, 3, 5)
    assert given == texts_to_read(adder, (SUM,), None, shipped, 0)
    (tmp_path / "mine.txt").write_text(SUM)
    assert [text.kind for text in texts_or_additions(
        adder, (), tmp_path / "mine.txt", shipped, 3, 5)] == ["given"]  # fmt: skip
    adder.card = adder.card.model_copy(update={"arithmetic": None})
    assert [text.kind for text in texts_or_additions(adder, (), None, shipped, 3, 5)] == ["shipped"]


def test_a_mark_before_a_typed_prompt_is_no_text():
    """As pasted from a file that begins with one; inside a text it stays."""
    typed = given_texts(("\ufeffBetter safe", "a\ufeffb"), None)
    assert [text.text for text in typed] == ["Better safe", "a\ufeffb"]
