import pytest

from prompts.analogies import digit_pairs, word_pairs

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


@pytest.mark.parametrize("text", ["", "[[relation]]\nname = 'a'", "relation = 1", "[", HALF])
def test_other_files_are_refused_in_one_line(tmp_path, text):
    (tmp_path / "pairs.toml").write_text(text)
    with pytest.raises(
        ValueError, match=r"no relations can be read.*write \[\[relation\]\]"
    ) as error:
        word_pairs(tmp_path / "pairs.toml")
    assert "\n" not in str(error.value)
