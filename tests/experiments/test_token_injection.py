"""Words that are put into states: on a planted model, on an adder, and with random weights."""

import pytest

from experiments import Results, percent
from experiments.token_injection import TokenInjection
from models import ModelError, load, untrained
from models.planted.implied import LAYER, planted_implied


@pytest.fixture(scope="module")
def of_planted() -> Results:
    return TokenInjection().measure(planted_implied())


@pytest.fixture(scope="module")
def of_adder() -> Results:
    return TokenInjection(model="adder_6d_2l", additions=24).measure(load("adder_6d_2l"))


def test_every_claim_holds_where_it_is_planted(of_planted):
    claims = TokenInjection().claims(of_planted)
    judged = {c.sentence: c for c in claims if c.kind != "descriptive"}
    (control,) = (judged.pop(said) for said in list(judged) if said.startswith("Random tokens"))
    assert {claim.verdict for claim in judged.values()} == {"holds"}
    # None of 36 questions: that may hide .096 of others, and the claim is about .05.
    assert (control.verdict, control.estimate) == ("undecided", 0)
    learned = [claim for claim in claims if claim.kind == "learned"]
    assert len(learned) == 4
    assert all(claim.estimate == 1 for claim in learned)
    best = of_planted.tables["held_out"].query("at == 'subject'")
    assert set(best["layer"]) == {LAYER}


def test_thirty_questions_or_more_are_asked(of_planted):
    rows = of_planted.tables["questions"]
    assert len(rows) >= 30
    assert rows["group"].nunique() >= 5
    assert (rows["says"] == rows["answer"]).all()
    assert (rows["implied"] != rows["answer"]).all()
    assert rows.groupby("group")["answer"].agg(lambda answers: answers.is_unique).all()


def test_being_said_and_being_implied_are_kept_apart(of_planted):
    rows = of_planted.tables["success"].set_index(["at", "way", "layer", "outcome"])["estimate"]
    assert rows["subject", "replace", 1, "implied"] == 1
    assert rows["subject", "replace", 1, "word said"] == 0
    assert rows["last", "replace", 2, "implied"] == 0
    assert rows["last", "replace", 2, "word said"] == 1


def test_an_adder_takes_another_digit_before_its_first_block_alone(of_adder):
    experiment = TokenInjection(model="adder_6d_2l", additions=24)
    rows = of_adder.tables["success"].set_index(["at", "way", "layer", "outcome"])["estimate"]
    assert rows["subject", "replace", 0, "implied"] > 0.9
    assert rows["subject", "replace", 0, "implied by random"] < 0.1
    assert rows["subject", "replace", 1, "implied"] < 0.3
    identities = [c for c in experiment.claims(of_adder) if c.kind == "identity"]
    assert [claim.verdict for claim in identities] == ["holds"] * 2
    said = experiment.headline(of_adder)
    assert said.endswith("these tokens are digits of the first number.")
    held_out = of_adder.tables["held_out"].query("at == 'subject' and way == 'state'")
    assert f"(best control {percent(held_out['best_control'].mean())})" in said


def test_of_a_model_of_one_layer_nothing_is_said_of_what_is_within():
    experiment = TokenInjection(model="adder_6d_1l", additions=12)
    results = experiment.measure(load("adder_6d_1l"))
    told = [claim.sentence for claim in experiment.claims(results)]
    assert not any("within the model" in text for text in (experiment.headline(results), *told))
    assert sum("before the only layer" in text for text in told) == 2


def test_random_words_that_do_as_well_fail_the_check(of_planted):
    said = of_planted.tables["said"]
    same = said["token"].where(said["put"] == "word").ffill()  # each random row follows its word
    swapped = Results({**of_planted.tables, "said": said.assign(token=same)})
    before, after = (TokenInjection().claims(found)[2] for found in (of_planted, swapped))
    assert (before.verdict, after.verdict) == ("undecided", "fails")  # none of 36, and all


def test_nothing_is_implied_with_random_weights():
    adder = load("adder_6d_1l")
    experiment = TokenInjection(model="adder_6d_1l", additions=24)
    claims = experiment.claims(experiment.measure(untrained(adder, 60)))
    assert "holds" not in {claim.verdict for claim in claims if claim.kind == "learned"}


def test_what_reads_no_text_or_no_padded_numbers_is_refused():
    silent = untrained(planted_implied(), 0)
    silent.tokenizer = None
    with pytest.raises(ModelError, match="reads no text; take a language model"):
        TokenInjection().measure(silent)
    with pytest.raises(ModelError, match="take a padded adder"):
        TokenInjection().measure(load("adder_1to6d"))
