"""States that are read by other texts: on a planted model, on an adder, and without a reader."""

import pandas as pd
import pytest

from experiments import Results, UsageError
from experiments.state_propagation import TOLD, StatePropagation
from models import load, untrained
from models.planted.implied import LAYER, planted_implied


@pytest.fixture(scope="module")
def planted():
    return planted_implied()


@pytest.fixture(scope="module")
def of_planted(planted) -> Results:
    return StatePropagation(written=1, new_tokens=2).measure(planted)


@pytest.fixture(scope="module")
def of_adder() -> Results:
    return experiment_of_adder().measure(load("adder_6d_2l"))


def experiment_of_adder() -> StatePropagation:
    return StatePropagation(model="adder_6d_2l", additions=24, written=1)


def test_how_many_cases_are_read_together_changes_no_table(of_adder):
    small = StatePropagation(model="adder_6d_2l", additions=24, written=1, batch_size=3)
    tables = small.measure(load("adder_6d_2l")).tables
    for name in of_adder.tables:
        pd.testing.assert_frame_equal(tables[name], of_adder.tables[name], rtol=1e-4, atol=1e-6)
    tried = of_adder.tables["identities"].query("identity == 'back'")
    assert (tried.groupby("told")["case"].nunique() == 8).all()


def test_what_is_planted_is_told_and_where(of_planted):
    experiment = StatePropagation()
    claims = experiment.claims(of_planted)
    assert [claim.verdict for claim in claims[:5]] == ["holds"] * 5
    chosen = of_planted.tables["held_out"].groupby("told")["layer"].unique()
    assert [chosen[told].tolist() for told in TOLD] == [[LAYER], [LAYER], [LAYER + 1]]
    said = experiment.headline(of_planted)
    assert said.startswith(
        "Put into a prompt that repeats a token, a state makes the model say its own token in 100 %"
    )
    assert "digit" not in said


def test_controls_stand_beside_every_reading(of_planted):
    states = of_planted.tables["shares"].groupby(["told", "layer"])["state"].agg(set)
    assert all(
        found >= {"own", "another", "shuffled", "none", "text", "decoded"} for found in states
    )


def test_what_is_written_begins_with_what_is_said(of_planted):
    tables = of_planted.tables
    both = tables["written"].merge(tables["said"], on=["told", "case", "layer", "state"])
    assert len(both) == len(tables["written"])
    assert all(t.startswith(s) for t, s in zip(both["text"], both["token"], strict=True))


def test_an_adder_reads_digits_before_its_first_block_and_answers_before_its_last(of_adder):
    own = of_adder.tables["shares"].query("state == 'own'")
    accuracy = own.set_index(["told", "layer"])["accuracy"]
    assert accuracy["word", 0] > 0.9
    assert accuracy["word", 1] < 0.3
    assert accuracy["answer", 0] < 0.3
    assert accuracy["answer", 1] > 0.9
    claims = experiment_of_adder().claims(of_adder)
    assert [claim.verdict for claim in claims[:2]] == ["holds"] * 2
    assert [claim.verdict for claim in claims[2:5]] == ["undecided", "undecided", "holds"]
    said = experiment_of_adder().headline(of_adder)
    assert (
        "a state is not shown to tell its own token more often than controls do: it does in "
        in said
    )
    assert said.endswith("what it implies is the next digit.")


def test_nothing_is_told_with_random_weights():
    adder = load("adder_6d_1l")
    experiment = StatePropagation(model="adder_6d_1l", additions=24, written=1)
    for seed in range(2):
        claims = experiment.claims(experiment.measure(untrained(adder, 50 + seed)))
        assert "holds" not in {claim.verdict for claim in claims if claim.kind == "learned"}


def test_what_reads_no_text_or_no_padded_numbers_is_refused(planted):
    silent = untrained(planted, 0)
    silent.tokenizer = None
    with pytest.raises(UsageError, match="reads no text; take a language model"):
        StatePropagation().measure(silent)
    with pytest.raises(UsageError, match="take a padded adder"):
        StatePropagation().measure(load("adder_1to6d"))
