"""Adjectives and nouns on an adder, on a planted model, and where there is nothing to read."""

import numpy as np
import pytest
import torch

from experiments import Results, UsageError
from experiments.adjective_noun import LEAST, AdjectiveNoun
from lenses.flow.descriptions import added_cases
from lenses.flow.edge_patching import read_edges
from models import load, untrained
from models.planted.edge import planted_edge
from prompts.additions import Addition


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def experiment():
    return AdjectiveNoun(model="adder_6d_1l", additions=6)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


@pytest.fixture(scope="module")
def planted():
    return planted_edge(seed=0)


@pytest.fixture(scope="module")
def of_planted(planted) -> Results:
    return AdjectiveNoun().measure(planted.model)


def test_heads_are_means_over_additions(results, adder):
    cases = added_cases(adder.card.arithmetic, Addition(6, 6, 0).sums, 0)
    found = [read_edges(adder, case).attention for case in cases]
    wanted = np.mean([one[0] - one[1:].mean(0) for one in found], axis=0)
    assert np.allclose(results.tables["attention"]["estimate"], wanted.ravel())


def test_a_digits_own_column_is_what_a_trained_adder_attends_to(experiment, results):
    claim = experiment.claims(results)[0]
    assert claim.kind == "learned"
    assert claim.verdict == "holds"
    assert claim.estimate > 0.5
    assert claim.n == 6


def test_nothing_is_found_with_random_weights(experiment, adder):
    for seed in range(3):
        claims = experiment.claims(experiment.measure(untrained(adder, 100 + seed)))
        assert claims[0].verdict != "holds"
        assert abs(claims[0].estimate) < LEAST


def test_the_planted_head_is_named_and_no_other(planted, of_planted):
    heads = of_planted.tables["attention"]
    is_it = (heads["layer"] == planted.layer) & (heads["head"] == planted.head)
    assert heads[heads["p_any"] <= 0.05].index.tolist() == heads[is_it].index.tolist()
    assert (heads["estimate"].abs() > LEAST).tolist() == is_it.tolist()
    best = of_planted.tables["best"]
    assert (best[["layer", "head"]].to_numpy() == [planted.layer, planted.head]).all()
    edges = of_planted.tables["edges"].dropna()
    top = edges.loc[edges["estimate"].idxmax()]
    assert (top["layer"], top["head"]) == (planted.layer, planted.head)
    assert edges["estimate"].nlargest(2).iloc[1] < 0.5 * top["estimate"]


def test_the_claims_of_the_planted_model_hold(planted, of_planted):
    claims = AdjectiveNoun().claims(of_planted)
    assert {claim.verdict for claim in claims[:4]} == {"holds"}
    assert f"(most often L{planted.layer}H{planted.head})" in claims[0].sentence


def test_the_headline_names_the_head(experiment, results, planted, of_planted):
    named = f"L{planted.layer}H{planted.head}"
    said = AdjectiveNoun().headline(of_planted)
    assert said.startswith(f"Yes, by {named}: its attention from a noun")
    assert "In an adder" not in said
    assert experiment.headline(results).endswith("its adjective is that column's digits.")


def test_the_headline_says_no_without_such_a_head(experiment, results):
    best = results.tables["best"].assign(estimate=np.linspace(0, 0.01, 6))
    without = Results({**results.tables, "best": best})
    assert experiment.headline(without).startswith("No; the best head is L0H")
    assert experiment.claims(without)[0].verdict == "fails"


def test_a_head_that_luck_may_explain_is_undecided(experiment, results):
    best = results.tables["best"].assign(p=0.2, estimate=np.linspace(0.5, 0.6, 6))
    claim = experiment.claims(Results({**results.tables, "best": best}))[0]
    assert claim.verdict == "undecided"
    assert claim.p == 0.2
    assert claim.decide == "more frames (prompts/adjectives.toml)"


def test_sentences_that_do_not_fit_are_named(of_planted):
    rows = of_planted.tables["sentences"]
    read = rows[rows["skipped"] == ""]
    assert len(read) >= 40
    assert read["text"].iloc[0] == "A fluffy blue creature roamed the verdant forest."
    assert rows["control"][rows["skipped"] != ""].str.contains("'s").all()
    assert (read["own_attention"] > read["control_attention"]).all()


def test_the_example_is_one_row_of_attention(of_planted):
    for _, rows in of_planted.tables["example"].groupby("adjective"):
        assert rows["attention"].sum() == pytest.approx(1, abs=1e-5)
        assert rows["token"].str.strip().isin(["fluffy"]).sum() == 1


def test_a_model_that_reads_no_text_is_refused(planted):
    silent = untrained(planted.model, 0)
    silent.tokenizer = None
    with pytest.raises(UsageError, match="reads no text; take a language model"):
        AdjectiveNoun().measure(silent)


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3_270m_q4"])
def test_language_models_write_at_least_forty_sentences_as_needed(name):
    model = load(name, dtype=torch.float32)
    read, skipped = AdjectiveNoun(model=name)._read_texts(model)
    assert len(read) >= 40
    assert len({one.case.frame for one in read}) >= 8
    assert len(read) + len(skipped) == 56
    first = read_edges(model, read[0].case)
    assert np.isfinite(first.along).all()
    assert first.along[0] == pytest.approx(1)
