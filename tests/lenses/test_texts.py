"""What is read: copies once, files and prompts refused by name and number."""

import pytest

from lenses.texts import distinct, sampled_additions, texts_to_read
from models import ModelError, load
from models.text import TextNote

SUM = "000012+000007="


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def test_copies_count_once_and_it_is_said(adder):
    with pytest.warns(TextNote, match="6 of 8 prompts are copies"):
        texts = texts_to_read(adder, [SUM] * 7 + ["000013+000007="], None, (), 7)
    assert [text.number for text in texts] == [0, 1]
    assert [text.origin for text in texts] == [0, 7]


def test_different_texts_are_all_read_in_their_order(recwarn):
    assert distinct([[3], [1], [2]]) == [0, 1, 2]
    assert not recwarn.list


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
