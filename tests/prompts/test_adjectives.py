import re

from prompts.adjectives import Described, described_nouns

SAID = described_nouns()


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def test_the_given_sentence_is_first():
    assert SAID[0].own.text == "A fluffy blue creature roamed the verdant forest."
    assert (SAID[0].adjective, SAID[0].noun) == ("fluffy", "creature")


def test_there_are_enough_sentences_of_enough_frames_at_several_distances():
    assert len({one.own.text for one in SAID}) == len(SAID) >= 40
    assert len({one.frame for one in SAID}) >= 8
    gaps = [words(one.own.text[one.own.adjective[1] : one.own.noun[0]]) for one in SAID]
    assert {len(gap) for gap in gaps} == {0, 1, 2, 3}


def test_the_words_are_where_they_are_said_to_be():
    for one in SAID:
        for wording in (one.own, one.control):
            assert wording.text[slice(*wording.adjective)] == one.adjective
            assert wording.text[slice(*wording.noun)] == one.noun


def test_control_and_own_differ_and_have_as_many_words_before_adjective_and_noun():
    for one in SAID:
        own, control = (
            [words(w.text[: w.adjective[0]]), words(w.text[w.adjective[1] : w.noun[0]])]
            for w in (one.own, one.control)
        )
        assert own != control, one.own.text
        assert len(own[0]) == len(control[0]), one.own.text
        if "'" not in one.control.text:  # how "man's" is cut differs between tokenizers
            assert len(own[1]) == len(control[1]), one.own.text


def test_an_adjective_is_exchanged_for_others_alone():
    for one in SAID:
        assert one.instead
        assert one.adjective not in one.instead
        for instead in one.instead:
            for wording, changed in zip((one.own, one.control), one.changed(instead), strict=True):
                assert changed.text.replace(instead, one.adjective, 1) == wording.text
                assert changed.text[slice(*changed.adjective)] == instead
                assert changed.text[slice(*changed.noun)] == one.noun
            assert not re.search(r"\ba [aeiou]", changed.text), changed.text


def test_a_frame_is_filled_by_hand():
    said = Described(
        "f", "The {adjective} {noun} ran.", "To {adjective} {noun}!", "red", "ox", ("x",)
    )
    assert said.own == ("The red ox ran.", (4, 7), (8, 10))
    assert said.changed("tall")[1] == ("To tall ox!", (3, 7), (8, 10))
