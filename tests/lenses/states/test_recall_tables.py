"""One number for each fact, against what can be counted by hand."""

import numpy as np
import pytest

from lenses.kept import PerPrompt
from lenses.states.facts import LAST, SUBJECT
from lenses.states.recall import Plan
from lenses.states.recall_tables import RecallTables, held_out, mean_ranks, stays_ahead


@pytest.fixture
def tables():
    """Two facts, states after layers 1 and 3, of which one moves on between them."""
    kept, state = PerPrompt(), np.full((2, 2, 2, 6), 0.1)
    state[0, 0, 0, SUBJECT] = state[0, 0, 1, LAST] = 0.9
    state[1, 0, :, SUBJECT] = 0.9
    kept.update(
        number=np.array([4, 7]), clean=np.array([0.9, 0.9]), corrupted=np.full((2, 2), 0.1),
        state=state, run=np.full((2, 2, 2, 3), 0.3), before=np.array([0.1, 0.2]),
    )  # fmt: skip
    return RecallTables(kept, Plan((1, 3), ((0, 2), (1, 3), (2, 4))), seed=0)


def test_handover_is_the_first_layer_from_which_the_last_token_leads(tables):
    rows = tables.fact_rows()
    assert rows["handover"][0] == 3
    assert np.isnan(rows["handover"][1])
    assert rows["fact"].tolist() == [4, 7]


def test_errors_are_what_should_have_been_equal(tables):
    rows = tables.fact_rows()
    assert rows["error_last"].tolist() == pytest.approx([0.0, 0.8])
    assert rows["error_before"].tolist() == pytest.approx([0.0, 0.1])


def test_means_are_of_what_comes_back(tables):
    rows = tables.state_rows().set_index(["corruption", "layer", "put_back_at"])
    row = rows.loc["another subject", 1, "last of subject"]
    assert row["estimate"] == pytest.approx(0.8)
    assert row["share"] == pytest.approx(1.0)
    assert row["n"] == 2
    assert rows.loc["noise", 1, "last of subject"]["estimate"] == pytest.approx(0)
    runs = tables.run_rows()
    assert runs["estimate"].to_numpy() == pytest.approx(0.2)
    assert runs["last_layer"].max() == 3


def test_the_best_run_is_chosen_on_other_facts():
    gains = np.array([[0.9, 0.0, 0.2], [0.0, 0.3, 0.2], [0.0, 0.4, 0.2]])
    # Of the others' means, the first fact sees (0, .35, .2), the second (.45, .2, .2).
    assert held_out(gains).tolist() == [0.0, 0.0, 0.0]
    assert held_out(np.array([[0.1, 0.5], [0.2, 0.4]])).tolist() == [0.5, 0.4]
    assert np.isnan(held_out(np.array([[0.1, 0.5]]))).all()
    assert np.isnan(held_out(np.full((3, 2), np.nan))).all()
    assert np.isnan(held_out(np.zeros((3, 0)))).all()


def test_ahead_means_to_the_end():
    ranks = np.array([[[1, 2], [1, 2], [5, 2]], [[3, 2], [1, 2], [5, 2]], [[1, 2], [1, 2], [5, 2]]])
    found = stays_ahead(ranks)
    assert found[:2].tolist() == [2, 0]
    assert np.isnan(found[2])


def test_ranks_are_averaged_by_their_logarithms():
    ranks = np.full((2, 5, 2), 100)
    ranks[1, :, 0] = [1, 10, 100, 1000, 10_000]
    rows = mean_ranks(ranks, 0).set_index(["word", "depth"])
    assert rows["estimate"]["rival", 1] == pytest.approx(100)
    assert rows["estimate"]["answer", 1] == pytest.approx(100)
    assert rows["low"]["answer", 1] < 100 < rows["high"]["answer", 1]
