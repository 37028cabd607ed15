"""The three sentences and their words."""

from itertools import pairwise

from prompts.walkthrough import CURRENT, SENTENCES, numbered, vocabulary, words


def test_words_are_numbered_in_order_of_appearance():
    known = vocabulary()
    assert len(known) == len(set(known)) == 22
    assert known[:9] == words("fox")
    for name in SENTENCES:
        assert [known[number] for number in numbered(name)] == words(name)
    assert CURRENT in words("fox")


def test_only_one_word_has_two_successors():
    follows = {}
    for name in SENTENCES:
        said = words(name)
        assert len(said) == len(set(said))
        for word, after in pairwise(said):
            follows.setdefault(word, set()).add(after)
    assert {word for word, after in follows.items() if len(after) > 1} == {"the"}
    assert follows["the"] == {"lazy", "seashore"}
