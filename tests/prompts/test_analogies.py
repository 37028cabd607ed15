from pathlib import Path

import pytest

from prompts.analogies import digit_pairs, word_pairs

EXAMPLES = Path(__file__).parents[2] / "prompts" / "examples"
HALF = "[[relation]]\nname = 'a'\npairs = [['x']]"


def test_there_are_at_least_eight_relations_of_fifteen_pairs():
    relations = word_pairs()
    assert len({one.name for one in relations}) == len(relations) >= 8
    for one in relations:
        assert len(set(one.pairs)) == len(one.pairs) >= 15
        assert all(len(pair) == 2 and pair[0] != pair[1] for pair in one.pairs)
        assert all(word == word.strip() and word for pair in one.pairs for word in pair)


def test_those_that_were_asked_for_are_there():
    pairs = {one.name: one.pairs for one in word_pairs()}
    assert {"capital", "plural", "comparative", "past tense", "gender"} <= pairs.keys()
    assert pairs["capital"][0] == ("France", "Paris")


def test_digits_differ_by_a_step():
    for one in digit_pairs():
        assert len({int(b) - int(a) for a, b in one.pairs}) == 1
        assert len(one.pairs) >= 7
        assert {digit for pair in one.pairs for digit in pair} <= set("0123456789")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"has no \[\[relation\]\]"),
        ("relation = 1", r"has no \[\[relation\]\]"),
        ("a = \n", r"no TOML that can be read \(.*line 1, column 5"),
        ("[[relation]]\nname = 'a'", "relation 1: field 'pairs' is missing or empty"),
        ("[[relation]]\npairs = [['a', 'b']]", "relation 1: field 'name' is missing"),
        (HALF, r"relation 1, pair 1: \['x'\] is not two words"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text, told):
    (tmp_path / "pairs.toml").write_text(text)
    with pytest.raises(ValueError, match=rf"pairs.toml.*{told}.*write \[\[relation\]\]") as error:
        word_pairs(tmp_path / "pairs.toml")
    assert "\n" not in str(error.value)


def test_a_table_of_pairs_is_read_and_its_mistakes_are_named(tmp_path):
    relations = word_pairs(EXAMPLES / "pairs.csv")
    assert [one.name for one in relations] == ["capital", "plural"]
    assert relations[0].pairs[1] == ("Italy", "Rome")
    path = tmp_path / "mine.csv"
    path.write_text("relation,source,target\ncapital,France,Paris\ncapital,Italy,\n")
    with pytest.raises(ValueError, match=r"mine.csv, line 3, column 'target': is empty"):
        word_pairs(path)
