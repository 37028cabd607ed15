"""Cases whose right place is known."""

import numpy as np
import pytest

from prompts.cued import COLOURS, LETTERS, cued


def test_the_cued_slot_holds_the_answer():
    cases = cued(200, 5, np.random.default_rng(0))
    for case in range(len(cases)):
        slot = cases.right[case]
        assert cases.colour[case].tolist().index(cases.cue[case]) == slot
        assert cases.letter[case, slot] == cases.answer[case]
        assert len(set(cases.colour[case])) == 5
    assert np.bincount(cases.right).min() > 20  # every slot is asked for


def test_a_case_can_be_read():
    cases = cued(1, 3, np.random.default_rng(0))
    assert cases.words(0) == [
        f"{COLOURS[colour]} {LETTERS[letter]}"
        for colour, letter in zip(cases.colour[0], cases.letter[0], strict=True)
    ]


def test_shuffled_answers_come_from_any_slot():
    cases = cued(4000, 4, np.random.default_rng(0), shuffled=True)
    own = cases.letter[np.arange(4000), cases.right] == cases.answer
    # one in four from the cued slot, and one in ten of the others by luck
    assert own.mean() == pytest.approx(1 / 4 + 3 / 4 / len(LETTERS), abs=0.03)


def test_there_are_no_more_slots_than_colours():
    with pytest.raises(ValueError, match="13 slots need as many colours; there are 12"):
        cued(1, 13, np.random.default_rng(0))
