"""Words that are put in: what is put in by closed forms, and what a planted model makes of it."""

import numpy as np
import pytest
import torch

from lenses.states.implied import asked_digits, asked_questions, questions, worded
from lenses.states.injection import (
    OUTCOMES,
    PLACES,
    WAYS,
    changed,
    held_out,
    held_out_rows,
    inject,
    outcomes,
    readout_errors,
    said_rows,
    success,
    text_errors,
    word_states,
)
from models import ModelError, load
from models.planted.implied import LAYER, planted_implied
from models.readout import unembedding
from models.text import token_strings
from prompts.injections import shipped_injections


@pytest.fixture(scope="module")
def planted():
    return planted_implied(seed=2)


@pytest.fixture(scope="module")
def asked(planted):
    told = shipped_injections()
    cases = [one for number in range(10) for one in worded(planted, told, number)]
    return questions(planted, told, cases)


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def test_a_word_at_the_subject_changes_the_answer_until_it_has_been_read(planted, asked):
    found = inject(planted, asked, [0, 1, 2, 3])
    right = outcomes(found, asked)
    subject = right[:, PLACES.index("subject")]
    until = (np.arange(4) <= LAYER)[:, None]
    assert (subject[..., OUTCOMES.index("implied")] == until).all()
    assert not subject[..., OUTCOMES.index("implied by random")].any()
    assert not subject[..., OUTCOMES.index("word said")].any()
    last = right[:, PLACES.index("last"), -1]
    assert last[..., OUTCOMES.index("word said")].all()
    table = success(right, [0, 1, 2, 3]).set_index(["at", "layer", "way", "outcome"])
    assert table["estimate"]["subject", 1, "replace", "implied"] == 1
    assert table["estimate"]["subject", 2, "replace", "implied"] == 0


def test_what_must_be_exact_is(adder, planted, asked):
    for model, some in ((adder, asked_digits(adder.card.arithmetic, 8, 0)), (planted, asked)):
        assert readout_errors(model, some).max() < 1e-5
        assert text_errors(model, some).max() < 1e-5


def test_a_readout_of_other_words_is_found_out(adder):
    """The identity fails where another word is put in than the one it is held against."""
    some = asked_digits(adder.card.arithmetic, 8, 0)
    last = [one.last for one in some]
    ours, theirs = (word_states(adder, some, last, kind)[0] for kind in ("word", "random"))
    readout = unembedding(adder)
    assert ((readout(ours) - readout(theirs)).abs().amax(-1) > 1e-2).all()


def test_states_are_changed_as_the_ways_say(adder):
    rng = torch.Generator().manual_seed(0)
    readout, width = unembedding(adder), adder.cfg.d_model
    state, word = torch.randn(4, width, generator=rng) * 3, torch.randn(2, 4, width, generator=rng)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert torch.equal(changed(readout, "replace", state, word, ids), word)
    long = changed(readout, "same length", state, word, ids)
    assert torch.allclose(long.norm(dim=-1), state.norm(dim=-1).expand(2, 4), rtol=1e-5)
    assert torch.cosine_similarity(long, word, dim=-1).min() > 0.9999
    main = changed(readout, "main component", state, word, ids)
    assert torch.allclose(main.norm(dim=-1), state.norm(dim=-1).expand(2, 4), rtol=1e-5)
    for kind, row in np.ndindex(2, 4):
        top = readout.directions(readout(state[row]).argmax()[None])[0]
        new = readout.directions(ids[kind, row][None])[0]
        part = state[row] @ top / top.norm()
        moved = state[row] - part * top / top.norm() + part * new / new.norm()
        assert torch.cosine_similarity(main[kind, row], moved, dim=0) > 0.9999


def test_the_state_of_the_other_word_does_what_its_text_does(adder):
    some = asked_digits(adder.card.arithmetic, 12, 0)
    found = outcomes(inject(adder, some, [0, 1]), some)
    state = found[:, PLACES.index("subject"), 0, WAYS.index("state"), OUTCOMES.index("implied")]
    assert state.mean() > 0.9


def test_depths_are_chosen_on_questions_that_are_not_counted():
    right = np.zeros((40, 3, len(OUTCOMES)), dtype=bool)
    half = np.random.default_rng(0).permutation(40) % 2
    right[half == 0, 1, 0], right[half == 1, 2, 0] = True, True
    found = held_out(right, np.zeros(40, dtype=bool), [0, 1, 2])
    assert not found["implied"].any()
    assert set(found["control"]) <= {"random", "none"}


def test_rows_are_told_by_place_depth_way_and_word(adder):
    some, depths = asked_digits(adder.card.arithmetic, 4, 0), [0, 1]
    found = inject(adder, some, depths)
    rows = said_rows(adder, found, depths)
    assert len(rows) == found.said.size
    cell = {"case": 2, "at": "last", "layer": 1, "way": "same length", "put": "random"}
    row = rows[np.logical_and.reduce([rows[name] == value for name, value in cell.items()])]
    token = found.said[2, 1, 1, WAYS.index("same length"), 1]
    assert row["token"].tolist() == token_strings(adder, [token])


def test_the_best_depth_of_each_place_and_way_is_told_as_the_layer():
    right = np.random.default_rng(0).random((12, 2, 3, 4, 4)) < 0.5
    own, depths, within = np.zeros(12, dtype=bool), [0, 4, 8], [1, 2]
    rows = held_out_rows(right, own, depths, within)
    assert len(rows) == 12 * len(PLACES) * len(WAYS)
    for at, way in ((0, 3), (1, 0)):
        here = rows[(rows["at"] == PLACES[at]) & (rows["way"] == WAYS[way])]
        alone = held_out(right[:, at, :, way], own, within)
        assert here["layer"].tolist() == [depths[depth] for depth in alone["depth"]]
        assert here["implied"].tolist() == alone["implied"].tolist()


def test_questions_of_a_text_model_are_spread_over_all(planted):
    told = shipped_injections()
    cases = [one for number in range(len(told.known)) for one in worded(planted, told, number)]
    every = questions(planted, told, cases)
    few = asked_questions(planted, 3, 0, 0, least=len(told.known))
    assert [one.ids for one in few] == [every[n].ids for n in (0, (len(every) - 1) // 2, -1)]
    with pytest.raises(ModelError, match=f"writes only {len(told.known)} of the words"):
        asked_questions(planted, 3, 0, 0, least=len(told.known) + 1)
