"""Facts recalled by an adder, by a model in which the place is known, and where nothing is."""

import numpy as np
import pytest
import torch

from experiments import Results
from experiments.fact_recall import LEAST, FactRecall
from lenses.states.decoding import sites
from lenses.states.facts import told_cases
from lenses.states.recall import ranks
from models import ModelError, load, untrained
from models.planted.recall import planted_recall
from prompts.additions import AdditionFormat
from prompts.recall import recalled_facts

LEARNED = [
    "MLPs at the exchanged part",
    "MLPs less attention at the exchanged part",
    "attention at the last token",
]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def experiment():
    return FactRecall(model="adder_6d_1l", count=10)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


@pytest.fixture(scope="module")
def planted():
    return planted_recall().model


@pytest.fixture(scope="module")
def of_planted(planted) -> Results:
    return FactRecall(every=1).measure(planted)


def by_label(claims):
    return {claim.label: claim for claim in claims if claim.kind == "learned"}


def test_an_adder_looks_nothing_up_at_the_digit_and_attends_to_it(experiment, results):
    claims = by_label(experiment.claims(results))
    assert list(claims) == LEARNED
    # Attention at the digit brings back exactly 0 of all ten: that hides up to .28 of others.
    assert [claims[label].verdict for label in LEARNED] == ["fails", "undecided", "holds"]
    assert claims["attention at the last token"].estimate > 0.9


def test_the_checks_of_an_adder_pass(experiment, results):
    checks = [claim for claim in experiment.claims(results) if claim.check]
    assert [claim.verdict for claim in checks] == ["holds", "holds"]


def test_the_answer_of_the_planted_model_moves_on_as_it_was_made_to(of_planted):
    rows = of_planted.tables["states"]
    rows = rows[rows["corruption"] == "another subject"]
    wide = rows.pivot(index="layer", columns="put_back_at", values="share")
    assert (wide["last of subject"] > 0.99).tolist() == [True, True, False, False]
    assert (wide["last token"] > 0.99).tolist() == [False, False, True, True]
    assert (of_planted.tables["traced"]["handover"] == 2).all()


def test_the_claims_of_the_planted_model_hold(of_planted):
    claims = by_label(FactRecall().claims(of_planted))
    assert [claims[label].verdict for label in LEARNED] == ["holds"] * 3
    assert min(claim.estimate for claim in claims.values()) > 0.99


def test_the_headline_names_layers_and_the_rival(of_planted):
    said = FactRecall().headline(of_planted)
    # The states that layers 0 and 1 hand on, and those that layers 2 and 3 do.
    assert said.startswith(
        "The state of the exchanged part (after 1 or 2 layers) or of the last token (after 3 "
        "layers or more), put back alone, restores the lost answer by half or more."
    )
    assert "The model predicts 127 of 127 answers correctly; the" in said
    assert "MLPs of layer 1 bring back 1.00 at the exchanged part" in said
    assert "named beforehand in 127, another token in 0." in said
    assert said.endswith("the right answer Presley is at rank 1, its rival Costello at rank 2.")


def test_relations_take_turns_among_traced_facts(of_planted):
    facts = of_planted.tables["facts"].set_index("fact")
    traced = facts.loc[of_planted.tables["traced"]["fact"]]
    assert traced["relation"].value_counts().tolist() == [4] * 8


def test_learned_claims_need_more_than_random_weights_bring_back(experiment, adder):
    claims = by_label(experiment.claims(experiment.measure(untrained(adder, 0))))
    for claim in claims.values():
        alike = claim.label == "MLPs less attention at the exchanged part"  # exactly 0 in all ten
        assert claim.verdict == ("undecided" if alike else "fails")
        assert abs(claim.estimate) < LEAST


def test_too_few_facts_are_not_tested(experiment, results):
    few = Results({**results.tables, "traced": results.tables["traced"].head(3)})
    for claim in by_label(experiment.claims(few)).values():
        assert claim.verdict == "not tested"
        assert "5 questions" in claim.needs


def test_one_fact_alone_is_ranked_and_not_traced(planted, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text(
        "relation,prompt,subject,answer,rival\n"
        "capital,The capital of {subject} is the city of,France,Paris,Lyon\n"
    )
    experiment = FactRecall(facts_file=path)
    found = experiment.measure(planted)
    said = experiment.headline(found)
    assert said.startswith("The model predicts 1 of 1 answers correctly; the likeliest")
    assert {claim.verdict for claim in by_label(experiment.claims(found)).values()} == {
        "not tested"
    }
    assert len(experiment.figures(found)) == 4


def test_a_wrong_file_is_refused_by_line_and_field(planted, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("relation,prompt,subject,answer,rival\nx,The capital is,France,Paris,Lyon\n")
    with pytest.raises(ModelError, match=r"own\.csv, line 2: field 'prompt' needs \{subj"):
        FactRecall(facts_file=path).measure(planted)


def test_models_that_cannot_be_asked_are_refused(planted, adder):
    silent = untrained(planted, 0)
    silent.tokenizer = None
    with pytest.raises(ModelError, match="reads no text; take a language model"):
        FactRecall().measure(silent)
    wide = untrained(adder, 0)
    form = AdditionFormat(**adder.card.arithmetic.model_dump() | {"pad": False})
    wide.card = adder.card.model_copy(update={"arithmetic": form})
    with pytest.raises(ModelError, match="take an adder that pads them"):
        FactRecall().measure(wide)


def test_figures_of_the_first_fact_show_its_last_token(of_planted):
    drawn = FactRecall().figures(of_planted)
    assert next(iter(drawn)) == "From where the answer comes back"
    last = drawn["Right and wrong answer, layer by layer"].data
    assert set(last["word"]) == {"Presley", "Costello"}
    assert last["rank"][last["depth"] == 4].tolist() == [1, 2]
    assert (last["pos"] == of_planted.tables["example"]["pos"].max()).all()


def test_the_first_prompt_is_traced_by_itself_for_both_its_words(of_planted):
    rows = of_planted.tables["first_traced"].set_index(["word", "component", "first_layer"])
    # Its subject is the last token: layer 1's MLP knows the fact there, that of layer 3 says it.
    assert set(rows["put_back_at"]) == {"last of subject"}
    assert (rows["lost"]["Presley"] > 0.99).all()
    mlp = rows.xs("mlp", level="component")["back"]
    assert mlp["Presley", 1] == pytest.approx(rows["lost"]["Presley", "mlp", 1], rel=0.01)
    assert mlp["Presley"].drop([1, 3]).abs().max() < 0.01
    assert 0 not in set(of_planted.tables["traced"]["fact"])


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "first"), [("smollm2", "Costello"), ("gemma3_270m_q4", "Presley")]
)
def test_language_models_know_enough_facts_and_say_one_of_the_two(name, first):
    model = load(name, dtype=torch.float32)
    cases, last = told_cases(model, recalled_facts(), 0).cases, sites(model)[-1:]
    found = [ranks(model, last, [case], [(0, len(case.ids) - 1)]).rank[0, 0] for case in cases]
    known = [case for case, rank in zip(cases, found, strict=True) if rank[0] == 1]
    assert len(known) >= 60
    assert len({case.relation for case in known}) >= 6
    assert ["Presley", "Costello"][int(np.argmin(found[0]))] == first
    assert min(found[0]) == 1
