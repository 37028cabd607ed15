"""Words with what they imply: no word could be taken for another."""

import re

from prompts.injections import BLANK, shipped_injections

TOLD = shipped_injections()


def test_there_are_enough_of_several_relations():
    relations = [one.relation for one in TOLD.known]
    assert len(set(relations)) >= 6
    assert all(relations.count(name) >= 8 for name in relations)


def test_every_text_has_one_blank():
    assert all(text.count(BLANK) == 1 for text in TOLD.texts)
    assert all(frame.endswith(f" {BLANK}") for frame in TOLD.frames)


def test_words_answers_and_random_words_are_different_and_stand_nowhere_else():
    words = [one.word for one in TOLD.known]
    assert len(set(words)) == len(words)
    assert not set(words) & {one.answer for one in TOLD.known}
    assert not set(TOLD.random) & {one.answer for one in TOLD.known} | set(TOLD.random) & set(words)
    said = {word for text in TOLD.texts for word in re.findall(r"\w+", text)}
    assert not said & set(TOLD.words)
