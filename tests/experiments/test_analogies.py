"""Analogies between digits, on an adder, on a planted model, and with pairs of one's own."""

import numpy as np
import pytest
import torch

from experiments import Results, UsageError
from experiments.analogies import Analogies, _readable
from models import load, untrained
from prompts.analogies import WordPairs


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def planted() -> Results:
    experiment = Analogies()
    return experiment.measure(experiment.planted())


def test_accuracy_is_the_share_of_first_ranks(adder):
    results = Analogies(model="adder_6d_1l").measure(adder)
    pairs = results.tables["pairs"]
    for row in results.tables["accuracy"].itertuples():
        part = pairs[(pairs["matrix"] == row.matrix) & (pairs["space"] == row.space)]
        part = part[part["method"] == row.method]
        part = part if row.relation == "all" else part[part["relation"] == row.relation]
        rank = part["rank_without" if row.query_words == "excluded" else "rank"]
        assert row.estimate == pytest.approx((rank == 1).mean())
        assert row.top_5 == pytest.approx((rank <= 5).mean())
        assert row.estimate <= row.top_5 <= row.top_10


def test_the_planted_relations_are_found_and_neighbours_are_not(planted):
    rows = planted.tables["pairs"].query("matrix == 'E' and space == 'raw'")
    found = (rows["rank_without"] == 1).groupby(rows["method"]).mean()
    assert found["mean offset"] == found["mean with the test pair"] == 1
    assert found["nearest neighbour"] < 0.1
    assert found["unordered pairs"] < 0.6
    assert Analogies().headline(planted).startswith("Yes: adding the mean offset finds")


def test_the_published_error_finds_more_also_where_nothing_was_learned(adder):
    experiment = Analogies(model="adder_6d_1l")
    results = experiment.measure(untrained(adder, 7))
    rows = results.tables["against_random"].query("weights != 'own'")
    found = rows.groupby("method")["value"].mean()
    assert found["mean with the test pair"] > found["mean offset"]


def test_a_pair_in_other_letters_is_a_copy():
    words = ["France", "france", "Paris", "paris", "PARIS", "Rome", "Italy"]
    ids = {f" {word}": number for number, word in enumerate(words)}
    pairs = (("France", "Paris"), ("france", "paris"), ("Italy", "Rome"), ("Paris", "PARIS"))
    found = _readable(WordPairs("capital", (*pairs, *pairs, ("Spain", "Madrid"))), ids, " ")
    assert found.words == (("France", "Paris"), ("Italy", "Rome"))
    assert found.ids.tolist() == [[0, 2], [6, 5]]


def test_words_that_are_not_one_token_are_counted(adder, tmp_path):
    adder = untrained(adder, 0)
    experiment = Analogies(model="adder_6d_1l")
    told = experiment.measure(adder).tables["relations"]
    assert told["n"].tolist() == [9, 8, 7, 8]
    assert (told["skipped"] == 0).all()
    adder.card = adder.card.model_copy(update={"arithmetic": None})
    with pytest.raises(UsageError, match="no relation has 4 pairs of single tokens"):
        experiment.measure(adder)
    (tmp_path / "mine.toml").write_text("no")
    with pytest.raises(UsageError, match="no TOML that can be read"):
        Analogies(pairs_file=tmp_path / "mine.toml").measure(adder)


def test_the_relation_is_as_parallel_as_its_offsets(planted):
    rows = planted.tables["directions"].query("matrix == 'E' and space == 'raw'")
    assert rows["parallel"].to_numpy() == pytest.approx(1)
    assert np.mean(rows["shuffled"]) < 0.8


@pytest.mark.real
def test_in_smollm2_the_offset_beats_the_neighbour_in_most_relations():
    experiment = Analogies()
    results = experiment.measure(load("smollm2", dtype=torch.float32))
    assert len(results.tables["relations"]) >= 8
    assert (results.tables["relations"]["n"] >= 15).all()
    verdicts = [c.verdict for c in experiment.claims(results) if c.family]
    assert verdicts.count("holds") > len(verdicts) / 2
    told = results.tables["accuracy"].set_index(["matrix", "space", "method", "query_words"])
    told = told[told["relation"] == "all"]["estimate"]
    assert told["GloVe", "raw", "mean offset", "excluded"] > 0.5
    found = results.tables["pairs"].query("matrix == 'GloVe' and space == 'raw'")
    assert (
        len(found) == (results.tables["pairs"].query("matrix == 'E' and space == 'raw'").shape[0])
    )
    assert "GloVe's word vectors find" in experiment.headline(results)
