"""The shipped facts, and files of one's own with their mistakes named."""

from pathlib import Path

import pytest

from prompts.recall import Recalled, recalled_facts

EXAMPLES = Path(__file__).parents[2] / "prompts" / "examples"
HEAD = "relation,prompt,subject,answer,rival\n"
RELATION = "[[relation]]\nname = 'capital'\nprompt = 'The capital of {subject} is'\n"


def test_there_are_sixty_facts_of_six_relations_and_elvis_comes_first():
    facts = recalled_facts()
    assert (facts[0].subject, facts[0].answer, facts[0].rival) == ("Elvis", "Presley", "Costello")
    assert facts[0].text.endswith("toured with his band. His name is Elvis")
    assert len(facts) >= 60
    assert len({fact.relation for fact in facts}) >= 6
    assert len({(fact.relation, fact.subject) for fact in facts}) == len(facts)


def test_no_prompt_tells_its_answer():
    for fact in recalled_facts():
        assert fact.answer.split()[0] not in fact.text.replace(fact.subject, "").split(), fact


def test_the_subject_stands_where_it_is_said_to():
    for fact in recalled_facts():
        assert fact.text[slice(*fact.span)] == fact.subject


def test_a_csv_is_read_line_by_line(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(HEAD + 'capital,"In {subject}, the capital is",Peru,Lima,Cusco\n', "utf-8-sig")
    fact = Recalled("capital", "In {subject}, the capital is", "Peru", "Lima", "Cusco")
    assert recalled_facts(path) == [fact]


def test_only_a_newline_ends_a_line_of_a_csv(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        HEAD + "capital,In {subject}\u2028\x85the capital is,Peru,Lima,Cusco\n", "utf-8"
    )
    assert [fact.text for fact in recalled_facts(path)] == ["In Peru\u2028\x85the capital is"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "relation,prompt,subject,answer\nx,{subject},a,b\n", "line 2: no field 'rival'"),
        ("a.csv", HEAD + "x,{subject} is,a,b,c\nx,none,a,b,c\n", "line 3: field 'prompt' needs"),
        ("a.csv", HEAD + "x,{subject} is,a,,c\n", "line 2: field 'answer' is '', not a text"),
        ("a.csv", HEAD + "x,{subject} is,a,b,b\n", "line 2: field 'rival' is the answer itself"),
        ("a.csv", HEAD, "holds no rows"),
        ("a.csv", HEAD + "x,{subject} is,a\rb,c,d\n", "line 2: a carriage return alone ends no"),
        ("a.toml", "relation = []", "has no fact"),
        ("a.toml", "x = 1", r"no \[\[relation\]\]"),
        ("a.toml", "[", "cannot be read"),
        ("a.toml", RELATION + "facts = 1", "relation 1: no field 'facts'"),
        ("a.toml", RELATION + "others = 'a'\nfacts = []", "relation 1: field 'others' is no list"),
        ("a.toml", RELATION + "others = [1]\nfacts = [['a', 'b', 'c']]", "'others' is 1, not"),
        ("a.toml", RELATION + "facts = [['a', 'b']]", r"relation 1, fact 1: \['a', 'b'\] is not"),
        ("a.toml", RELATION + "facts = [['a', 'b', 3]]", "relation 1, fact 1: field 'rival' is 3"),
        ("a.toml", "[[relation]]\nname = 'x'\nfacts = [['a', 'b', 'c']]", "field 'prompt' is None"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_in_one_line(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        recalled_facts(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        recalled_facts(tmp_path / "none.toml")


def test_the_example_is_read():
    facts = recalled_facts(EXAMPLES / "facts.csv")
    assert [fact.answer for fact in facts] == ["Paris", "Berlin", "Portuguese"]
    assert facts[2].text == "In Brazil, most people speak"
