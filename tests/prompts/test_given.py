"""Files that a user brings: every mistake is told with its file, line and column."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.given import file_and_column, rows_of
from prompts.relevance import keyed_prompts_in
from prompts.texts import texts_in


@pytest.fixture
def file(tmp_path):
    """Writes a file and gives its path, with a column behind it where one is named."""

    def write(name: str, content: str, column: str = "") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return Path(f"{path}:{column}") if column else path

    return write


def told(path: Path) -> list[tuple[str, str]]:
    return [(text.text, text.where.rpartition(", ")[2]) for text in texts_in(path)]


@pytest.mark.parametrize(
    ("name", "content", "column", "expected"),
    [
        ("a.txt", "one\r\n\n two", "", [("one", "line 1"), (" two", "line 3")]),
        ("a.csv", 'id,text\n1,"a, b"\n\n2,"c\nd"\n3,e\n', "",
         [("a, b", "line 2"), ("c\nd", "line 4"), ("e", "line 6")]),
        ("a.csv", "id,words\n1,a\n", "words", [("a", "line 2")]),
        ("a.csv", "words\na\n", "", [("a", "line 2")]),
        ("a.tsv", "id\tprompt\n1\ta, b\n", "", [("a, b", "line 2")]),
        ("a.jsonl", '{"text": "a", "n": 3}\n\n{"text": "b"}\n', "",
         [("a", "line 1"), ("b", "line 3")]),
        ("a.jsonl", '"a"\n"b"', "", [("a", "line 1"), ("b", "line 2")]),
        ("a.jsonl", '{"q": "a: b"}', "q", [("a: b", "line 1")]),
        ("a.csv", "\ufefftext\na\n", "", [("a", "line 2")]),
        ("a.csv", 'text\n"a\rb"\nc\r\n', "", [("a\rb", "line 2"), ("c", "line 3")]),
        ("a.txt", "\ufeff\ufeffa\n\ufeffb \ufeff\n", "", [("a", "line 1"), ("b \ufeff", "line 2")]),
        ("a.txt", "a\rb\x0bc\x0cd\x85e\u2028f\n", "", [("a\rb\x0bc\x0cd\x85e\u2028f", "line 1")]),
        ("a.tsv", "text\na\u2028b\x85c\n", "", [("a\u2028b\x85c", "line 2")]),
    ],
)  # fmt: skip
def test_texts_are_read_with_the_line_they_stand_in(file, name, content, column, expected):
    assert told(file(name, content, column)) == expected


@pytest.mark.parametrize(
    ("name", "content", "column", "says"),
    [
        ("a.csv", "id,words\n1,a\n", "", "which column holds the texts?; name one of id, words"),
        ("a.csv", "id,words\n1,a\n", "text", "no column 'text'; name one of id, words"),
        ("a.csv", "id,text\n1,a, b\n", "", "line 2: 3 cells, but the first line names 2 columns"),
        ("a.csv", "id,text\n1,a\n2,\n", "", "line 3, column 'text': is empty"),
        ("a.csv", 'text\n"a\n', "", "line 2: unexpected end of data"),
        ("a.csv", "text,text\na,b\n", "", "line 1: column 1 is named 'text' twice"),
        ("a.csv", "text,\na,b\n", "", "line 1: column 2 has no name"),
        ("a.csv", "text\n", "", "holds no rows"),
        ("a.csv", "", "", "holds no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text" "b"}\n', "", "line 2, column 9: no JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', "", "line 2, column 'text': is no text"),
        ("a.jsonl", '{"text": "a"}\n{"words": "b"}\n', "", "line 2, column 'text': is missing"),
        ("a.jsonl", "[1]\n", "", "line 1: a list; write"),
        ("a.txt", "\n \n", "", "no line has text in it"),
        ("a.txt", "\ufeff\n", "", "no line has text in it"),
        ("a.txt", "ab\nc\0d\n", "", "not UTF-8 text (byte 0x00 in line 2, byte 2 of it); save it"),
        ("a.csv", "text\na\rb\n", "", "line 2: a carriage return alone ends no line"),
    ],
)
def test_a_mistake_is_told_with_its_place_in_one_line(file, name, content, column, says):
    with pytest.raises(ValueError, match=re.escape(says)) as refused:
        texts_in(file(name, content, column))
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def refusal(path: Path) -> str:
    """Why a table is refused; empty where it is not."""
    try:
        assert all(line > 0 and row for line, row in rows_of(path))
    except ValueError as error:
        return str(error)
    return ""


@given(st.text(), st.sampled_from(["any.csv", "any.tsv", "any.jsonl"]))
def test_any_table_is_read_or_refused(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(content, encoding="utf-8", newline="")
    assert not (says := refusal(path)) or says.startswith(str(path))


def test_a_file_may_have_a_colon_in_its_name(tmp_path):
    path = tmp_path / "a.csv:b"
    path.write_text("text")
    assert file_and_column(path) == (path, "")
    assert file_and_column(tmp_path / "a.csv:c") == (tmp_path / "a.csv", "c")


def test_keyed_prompts_come_from_a_table(file):
    path = file(
        "keyed.csv",
        "prompt,key,misleading\n"
        '"The king is Arthur. Long live King",Arthur,\n'
        '"Bob is here and Eve is not. Here is",Bob,Eve\n',
    )
    found = keyed_prompts_in(path)
    assert [(one.kind, one.key, one.misleading) for one in found] == [
        ("planted", "Arthur", ""),
        ("misleading", "Bob", "Eve"),
    ]
    assert found[1].where.endswith("keyed.csv, line 3")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("prompt,key\nA and A,A\n", "line 2, column 'key': 'A' stands 2 times in the prompt"),
        (
            "prompt,key,misleading\nA and B,A,A\n",
            "line 2, column 'misleading': 'A' is the key; name another",
        ),
        ("prompt,key,misleading\nA B,A,C\n", "line 2, column 'misleading': 'C' stands 0 times"),
        ("prompt,answer\nA,A\n", "line 2: column 'answer' is none of prompt, key"),
        ("prompt,key\nA,\n", "line 2, column 'key': is empty"),
    ],
)
def test_a_wrong_keyed_prompt_is_told_with_line_and_column(file, content, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        keyed_prompts_in(file("keyed.csv", content))


EXAMPLES = Path(__file__).parents[2] / "prompts" / "examples"


def test_the_examples_are_read_as_the_docs_say():
    assert len(texts_in(EXAMPLES / "prompts.txt")) == 2
    assert texts_in(EXAMPLES / "prompts.csv") == texts_in(EXAMPLES / "prompts.csv:text")
    assert texts_in(EXAMPLES / "prompts.csv")[2].text == 'She said: "Come in, the door is'
    rows = [texts_in(EXAMPLES / f"prompts.{end}")[0].text for end in ("csv", "jsonl")]
    assert rows[0] == rows[1]
    assert [one.kind for one in keyed_prompts_in(EXAMPLES / "keyed.csv")] == [
        "planted",
        "misleading",
    ]
