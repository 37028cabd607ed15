"""What is said and written, as tables, against one state at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lenses.states.implied import TOLD, shown, worded_cases
from lenses.states.placing import Reader, states_of
from lenses.states.propagation import STATES, Read, excesses, held_out, read_cases, shares
from lenses.states.propagation_tables import case_rows, identity_rows, read_tables, written_rows
from models.planted.implied import planted_implied
from models.text import token_strings
from prompts.injections import shipped_injections

DEPTHS = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def planted():
    return planted_implied(seed=1)


@pytest.fixture(scope="module")
def cases(planted):
    found, skipped = worded_cases(planted, shipped_injections())
    assert len(found) == 3 * (len(shipped_injections().known) - len(skipped))
    return [one for one in found if one.told == "answer"][:6]


@pytest.fixture(scope="module")
def read(planted, cases) -> Read:
    return read_cases(planted, cases, range(len(cases)), DEPTHS, seed=0)


def test_words_that_do_not_fit_are_named_with_the_reason(planted):
    told = shipped_injections()
    odd = replace(told.known[0], word=f"{told.known[1].word} {told.known[2].word}")
    found, skipped = worded_cases(planted, replace(told, known=(odd, told.known[1])))
    assert [one.told for one in found] == list(TOLD)
    assert [one["word"] for one in skipped] == [odd.word]
    assert "is not one token" in skipped[0]["why"]


def test_tables_are_those_of_what_is_said(planted, cases, read):
    tables = read_tables(planted, cases, read, DEPTHS)
    right = read.said == np.array([one.right for one in cases])[:, None, None]
    said = tables["said"].set_index(["case", "layer", "state"])
    for case, depth, state in np.ndindex(right.shape):
        row = said.loc[case, DEPTHS[depth], STATES[state]]
        assert row["token"] == token_strings(planted, [read.said[case, depth, state]])[0]
        assert row["is_right"] == right[case, depth, state]
    assert tables["shares"].equals(shares(right, DEPTHS))
    assert tables["excess"].equals(excesses(right, DEPTHS))
    chosen = held_out(right, [1, 2])
    assert tables["held_out"]["layer"].tolist() == [DEPTHS[at] for at in chosen["depth"]]
    assert tables["cases"].equals(case_rows(planted, cases))
    assert tables["cases"]["right"].tolist() == token_strings(planted, [c.right for c in cases])
    assert tables["cases"]["source"].tolist() == [shown(planted, one.source) for one in cases]


def test_only_answers_must_be_said_after_the_last_block(read):
    rows = identity_rows(read, "answer").set_index("identity")["error"]
    assert (rows["last"] == 0).all()
    assert rows["back"].max() < 1e-5
    assert set(identity_rows(read, "word")["identity"]) == {"back"}
    wrong = Read(read.put + 1, read.decoded, read.none, read.text, read.error)
    assert (identity_rows(wrong, "answer").set_index("identity")["error"]["last"] == 1).all()


@torch.inference_mode()
def test_what_is_written_begins_with_what_one_state_says(planted, cases):
    rows = written_rows(planted, cases, [0, 1], [1, 2], seed=0, most=2)
    texts = rows.set_index(["state", "layer", "case"])["text"]
    assert len(texts) == 2 * 2 * 2 + 2
    for (state, layer, case), text in texts.items():
        one = cases[case]
        reader = Reader(planted, [one.reader], [one.put], [one.read], [layer])
        vector = reader.states
        if state == "own":
            vector = states_of(planted, [one.source], [len(one.source) - 1], [layer])
        if state != "another":
            first = reader(layer, vector)[0].argmax(-1).tolist()
            assert text.startswith(token_strings(planted, first)[0])
