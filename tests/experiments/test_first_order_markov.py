"""Bigrams of additions in an adder and in a planted model; words of a file; the control."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from experiments import Results, UsageError
from experiments.first_order_markov import RECOVERED, FirstOrderMarkov
from lenses.flow.bigram_counts import read_pairs
from lenses.flow.ngrams import LONGEST, RULES, SEGMENT, SOME, passages_of_text, text_tokens
from models import load
from models.train.king_james import training_and_held_out

SMALL = {"additions": 300, "training_steps": 100}


@pytest.fixture(scope="module")
def experiment():
    return FirstOrderMarkov(model="adder_6d_1l", **SMALL)


@pytest.fixture(scope="module")
def results(experiment) -> Results:
    return experiment.measure(load("adder_6d_1l"))


@pytest.fixture(scope="module")
def planted(experiment) -> Results:
    return experiment.measure(experiment.planted())


def told(results, source, fit="with frequencies", counts="all") -> float:
    rows = results.tables["predictors"].set_index(["source", "fit", "counts"])
    return rows["estimate"][source, fit, counts]


def test_references_are_where_they_must_be(results):
    assert told(results, "unigram", "as it is") == pytest.approx(0, abs=1e-6)
    assert told(results, "bigram", "as it is") == pytest.approx(1)
    assert told(results, "uniform", "as it is") < 0
    rows = results.tables["predictors"].set_index("source")
    assert rows["kl_from_counts"]["bigram"] == pytest.approx(0, abs=1e-9)


def test_the_zero_layer_model_recovers_its_counts(experiment, results):
    assert told(results, "zero-layer, trained", "as it is", "training") > RECOVERED
    claim = next(c for c in experiment.claims(results) if "zero-layer" in c.sentence)
    assert (claim.verdict, claim.check) == ("holds", True)


def test_a_short_training_fails_its_check(results):
    short = FirstOrderMarkov(model="adder_6d_1l", additions=300, training_steps=10, d_model=1)
    found = short.measure(load("adder_6d_1l"))
    claim = next(c for c in short.claims(found) if "zero-layer" in c.sentence)
    assert claim.verdict != "holds"


def test_the_planted_model_is_a_bigram_model(experiment, planted):
    for source in ("E", "effective E", "whole model"):
        assert told(planted, source, "as it is") > 0.99
    assert told(planted, "E shuffled") < 0.5
    assert experiment.headline(planted).startswith("In part: embedding times unembedding tells")
    words = planted.tables["words"]
    assert (words["by_embedding"] == words["by_model"]).all()


def test_what_is_told_is_held_against_one_more_random_model(experiment, planted):
    claims = {c.label: c for c in experiment.claims(planted) if c.kind == "learned"}
    random = planted.tables["against_random"].query("weights != 'own'")
    assert set(random["source"]) == set(claims)
    assert {claim.verdict for claim in claims.values()} == {"holds"}
    assert max(claim.p for claim in claims.values()) <= 0.05
    table = planted.tables["against_random"].copy()
    at = (table["source"] == "E") & (table["weights"] == "random 0")
    table.loc[at, "estimate"] = told(planted, "E")
    beside = experiment.claims(Results({**planted.tables, "against_random": table}))
    assert [c.verdict for c in beside if c.label == "E"] == ["undecided"]


def test_rules_are_held_against_the_whole_model(experiment, results):
    rules = results.tables["ngrams"].set_index("rule")
    assert set(rules.index) == {*RULES, LONGEST, SOME}
    assert rules["estimate"][SOME] >= rules["estimate"].drop(SOME).max()
    assert rules["model_right"].iloc[0] > rules["right"][LONGEST]
    said = [c for c in experiment.claims(results) if c.kind == "descriptive"]
    assert said[0].sentence.startswith("The longest n-gram (up to 4)")
    assert said[0].estimate == rules["estimate"][LONGEST]


def test_an_own_text_must_be_long_enough(experiment, tmp_path):
    (tmp_path / "mine.txt").write_text("1 + 1")
    model = load("adder_6d_1l")
    model.card = model.card.model_copy(update={"arithmetic": None})
    mine = FirstOrderMarkov(model="adder_6d_1l", text_file=tmp_path / "mine.txt")
    with pytest.raises(UsageError, match=r"mine.txt: no n-grams to count \(a text of"):
        mine._ngrams(model)


def test_words_come_from_a_file(experiment, tmp_path):
    model = load("adder_6d_1l")
    model.card = model.card.model_copy(update={"arithmetic": None})
    (tmp_path / "mine.txt").write_text("a b 3\n")
    mine = FirstOrderMarkov(model="adder_6d_1l", counts_file=tmp_path / "mine.txt")
    with pytest.raises(UsageError, match="no bigrams to count"):
        mine.measure(model)
    with pytest.raises(ValidationError, match=r"no file .*none.txt"):
        FirstOrderMarkov(counts_file=tmp_path / "none.txt")


def test_pairs_of_a_text_are_counted_in_the_models_tokens(tmp_path):
    (tmp_path / "mine.txt").write_text("the LORD and the king: and the LORD " * 2)
    experiment = FirstOrderMarkov(pairs="text", text_file=tmp_path / "mine.txt", words=4)
    model = load("kjv_2l")
    assert experiment._counted_in(model) == "the text"
    found = experiment._bigrams(model, "the text")
    names = model.tokenizer.convert_ids_to_tokens
    # the LORD and the king : and the LORD the LORD and the king : and the LORD
    assert names(found.first.tolist()) == [" the", " and", " LORD", ":"]
    pairs = {
        (one, two): count.item()
        for one, row in zip(names(found.first.tolist()), found.counts, strict=True)
        for two, count in zip(names(found.following.tolist()), row, strict=True)
        if count
    }
    after_the = {(" the", " LORD"): 4, (" the", " king"): 2}
    after_lord = {(" LORD", " and"): 2, (" LORD", " the"): 1}
    assert pairs == {(" and", " the"): 4, (":", " and"): 2} | after_the | after_lord


def test_a_model_with_a_known_text_is_held_against_its_pairs(tmp_path):
    (tmp_path / "mine.txt").write_text("of the 3\nin the 2\n")
    model, adder = load("kjv_2l"), load("adder_6d_1l")
    own = FirstOrderMarkov(model="kjv_2l")
    assert own._counted_in(model) == "the model's training text"
    assert own._counted_in(adder) == "additions"
    assert FirstOrderMarkov(pairs="web")._counted_in(model) == "the web"
    counts = FirstOrderMarkov(counts_file=tmp_path / "mine.txt")
    assert counts._counted_in(model) == "a file of counts"
    model.card = model.card.model_copy(update={"training": None})
    assert own._counted_in(model) == "the web"
    assert FirstOrderMarkov(pairs="text")._counted_in(model) == "the text"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("of the", "line 2: 2 words; write three"),
        ("of  the 1.5", "line 2, column 9: '1.5' is no count"),
        ("of the -3", "line 2, column 8: '-3' is no count"),
    ],
)
def test_a_mistake_in_counts_is_named(tmp_path, line, told):
    path = tmp_path / "mine.txt"
    path.write_text(f"in the 3\n{line}\n")
    with pytest.raises(ValueError, match=told):
        read_pairs(path)


def test_the_example_of_counts_is_read():
    example = Path(__file__).parents[2] / "prompts" / "examples" / "counts.txt"
    assert read_pairs(example)[0] == ("of", "the", 2_766_332_391)


@pytest.mark.real
def test_counts_of_the_web_are_read_and_told_in_smollm2():
    experiment = FirstOrderMarkov()
    results = experiment.measure(load("smollm2", dtype=torch.float32))
    counts = results.tables["counts"].iloc[0]
    assert counts["first_tokens"] == 500
    assert counts["bigram_entropy"] < counts["unigram_entropy"]
    assert told(results, "zero-layer, trained", "as it is", "training") > RECOVERED
    assert told(results, "whole model") > told(results, "E")
    rules = results.tables["ngrams"].set_index("rule")["estimate"]
    assert rules["unigram"] < rules["bigram"] < rules[LONGEST] < rules[SOME]


@pytest.mark.real
def test_an_untied_model_is_held_against_the_pairs_it_was_trained_on():
    experiment, model = FirstOrderMarkov(model="kjv_2l"), load("kjv_2l")
    results = experiment.measure(model)
    assert results.tables["counts"]["counted_in"].tolist() == ["the model's training text"]
    assert "token pairs in the model's training text tell beyond" in experiment.headline(results)
    assert told(results, "whole model") > told(results, "E") > told(results, "E shuffled")
    trained, held_out = (text_tokens(model, text) for text in training_and_held_out())
    counted, read = passages_of_text(model, None, 5, 0)
    assert np.array_equal(counted.tokens.ravel(), trained[: counted.tokens.size])
    rows = held_out[: len(held_out) // SEGMENT * SEGMENT].reshape(-1, SEGMENT)
    assert {*map(tuple, read.tokens.tolist())} < {*map(tuple, rows.tolist())}
