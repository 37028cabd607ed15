"""One number for each fact, against what can be counted by hand."""

import numpy as np
import pandas as pd
import pytest

from lenses.kept import PerPrompt
from lenses.states.decoding import sites
from lenses.states.facts import LAST, SUBJECT, added_cases
from lenses.states.recall import Plan, last_ranks, ranks
from lenses.states.recall_tables import (
    RecallTables,
    best_run,
    embedding_rows,
    enough_alone,
    every_few_layers,
    mean_ranks,
    ranked_tables,
    stays_ahead,
)
from models import load
from prompts.additions import Addition


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


def test_tables_of_nothing_traced_are_empty(tables):
    nothing = RecallTables(PerPrompt(), tables.plan, seed=0).tables()
    assert [frame.shape for frame in nothing.values()] == [(0, 0)] * 3
    assert list(tables.tables()) == list(nothing)


def test_layers_after_which_one_state_is_enough(tables):
    states = tables.state_rows()  # one fact of two has moved on after layer 3
    assert enough_alone(states, "last of subject").tolist() == [1, 3]
    assert enough_alone(states, "last token").tolist() == [3]
    assert enough_alone(states.assign(share=0.4), "last token").empty


def test_the_best_run_of_a_place_is_of_either_component():
    rows = [("attention", 0, 0.1), ("mlp", 0, 0.3), ("mlp", 1, 0.2), ("attention", 1, 0.3)]
    runs = pd.DataFrame(rows, columns=["component", "first_layer", "estimate"])
    runs = runs.assign(put_back_at="last token")
    assert best_run(runs, "last token")[["component", "first_layer"]].tolist() == ["mlp", 0]
    runs.loc[3, "estimate"] = 0.4
    assert best_run(runs, "last token")[["component", "first_layer"]].tolist() == ["attention", 1]
    assert best_run(runs[runs["component"] == "mlp"], "last token") is None
    assert best_run(runs, "last of subject") is None


@pytest.fixture(scope="module")
def asked_adder():
    model = load("adder_6d_1l")
    form = model.card.arithmetic
    return model, added_cases(form, Addition(form.digits, 6, 0, padded=form.pad).sums, 0)


def test_ranks_at_the_end_are_those_of_each_prompts_last_token(asked_adder):
    model, asked = asked_adder
    where, found = sites(model), last_ranks(model, sites(model), asked.cases)
    for number, case in enumerate(asked.cases):
        alone = ranks(model, where, [case], [(0, len(case.ids) - 1)])
        np.testing.assert_array_equal(found["rank"][number], alone.rank[:, 0])
        np.testing.assert_array_equal(found["said"][number], alone.said[0])


def test_the_mean_course_is_of_known_facts(asked_adder):
    model, asked = asked_adder
    kept = PerPrompt()
    kept.update(**last_ranks(model, sites(model), asked.cases))
    tables = ranked_tables(model, asked, sites(model), kept, 0)
    known = tables["facts"]["known"].to_numpy(bool)
    assert known.any()
    rows = tables["trajectory"].set_index(["word", "depth"])["estimate"]
    logs = np.log10(kept["rank"][known].astype(float)).mean(0)
    np.testing.assert_allclose(rows["answer"], 10 ** logs[:, 0])
    np.testing.assert_allclose(rows["rival"], 10 ** logs[:, 1])
    assert tables["example"]["pos"].max() == len(asked.cases[0].ids) - 1


def test_the_embedding_ranks_the_answer_before_the_rival_or_not(asked_adder):
    cases = asked_adder[1].cases[:2]
    found = {"own": np.array([[1, 2], [5, 4]]), "random 0": np.array([[3, 3], [1, 9]])}
    rows = embedding_rows(found, cases)
    assert rows["value"].tolist() == [1, 0, 0, 1]
    assert rows["weights"].tolist() == ["own", "own", "random 0", "random 0"]
    assert rows["fact"].tolist() == [case.number for case in cases] * 2


def test_some_depths_are_shown_by_powers_of_ten():
    example = pd.DataFrame({"depth": range(33), "pos": 2, "token": " is", "rank": 10})
    example.loc[0, "rank"] = 1000
    rows = every_few_layers(example)
    assert rows["depth"].tolist() == list(range(0, 33, 3))
    assert rows["above"].tolist() == [0] + [2] * 10
    assert rows["token"].unique().tolist() == ["2 is"]
