"""Predictors as tables, against scores of one at a time."""

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.flow.bigram_counts import Bigrams, addition_bigrams
from lenses.flow.markov import FITS, SOURCES, Scored, fitted, logits_of, readout_error, unigram_log
from lenses.flow.markov_tables import (
    COMPARED,
    baseline_rows,
    beside_twins,
    count_rows,
    identity_rows,
    predictor_rows,
    scored_row,
    trained_rows,
    word_rows,
)
from models import load, untrained
from models.text import token_strings


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def bigrams(adder) -> Bigrams:
    return addition_bigrams(adder.card.arithmetic, 200, 0)


def unkept(items, keep, label):
    """A stream that keeps nothing."""
    return iter(items)


@pytest.fixture(scope="module")
def predicted(adder, bigrams):
    frames = []
    best = predictor_rows(adder, bigrams, frames, 0, unkept)
    return pd.concat(frames), best


def test_entropies_are_those_of_the_counts(bigrams):
    row = count_rows(bigrams).iloc[0]
    counts = bigrams.counts.numpy().astype(float)
    joint, following = counts / counts.sum(), counts.sum(0) / counts.sum()
    known = joint > 0
    given = joint / joint.sum(1, keepdims=True)
    assert row["bigram_entropy"] == pytest.approx(-(joint[known] * np.log(given[known])).sum())
    assert row["unigram_entropy"] == pytest.approx(-(following * np.log(following)).sum())
    assert row[["first_tokens", "next_tokens"]].tolist() == list(counts.shape)


def test_every_source_is_scored_in_every_fit(adder, bigrams, predicted):
    rows, best = predicted
    assert rows[["source", "fit"]].to_numpy().tolist() == [[s, f] for s in SOURCES for f in FITS]
    log_p, scale = fitted(logits_of(adder, "E", bigrams, 0), bigrams, "temperature", 0)
    row = rows.set_index(["source", "fit"]).loc["E", "temperature"]
    assert row["scale"] == scale
    assert row["estimate"] == pytest.approx(Scored(log_p, bigrams).share(0).estimate, abs=1e-9)
    whole = logits_of(adder, "whole model", bigrams, 0)
    assert best[1][3].tolist() == bigrams.following[whole[3].topk(3).indices.numpy()].tolist()


def test_baselines_lie_where_they_must(bigrams):
    rows = baseline_rows(bigrams, 0).set_index("source")
    assert rows["estimate"]["unigram"] == pytest.approx(0, abs=1e-6)
    assert rows["estimate"]["bigram"] == pytest.approx(1)
    width = len(bigrams.following)
    assert rows["cross_entropy"]["uniform"] == pytest.approx(np.log(width))
    assert rows["scale"].isna().all()


def test_a_zero_layer_model_is_scored_on_what_it_saw_and_on_all(bigrams):
    rows = trained_rows(bigrams, 5_000, 16, 60, 0).set_index("counts")
    assert rows.index.tolist() == ["training", "all"]
    assert rows.loc["training", "estimate"] > 0.5
    unigram = scored_row("unigram", "as it is", unigram_log(bigrams).expand(
        bigrams.counts.shape), bigrams, 0)  # fmt: skip
    assert rows.loc["all", "cross_entropy"] < unigram["cross_entropy"]


def test_words_are_told_with_what_is_likeliest(adder, bigrams, predicted):
    rows = word_rows(adder, bigrams, predicted[1], 0)
    names = token_strings(adder, range(len(adder.W_E)))
    assert rows["token"].tolist() == [names[token] for token in bigrams.first]
    top = bigrams.counts[2].topk(3).indices
    assert rows["by_counts"][2] == " · ".join(names[bigrams.following[at]].strip() for at in top)
    assert rows["count"].sum() == pytest.approx(1)
    scored = (rows["told"] * rows["count"]).sum() / (rows["known"] * rows["count"]).sum()
    row = predicted[0].set_index(["source", "fit"]).loc["E", "with frequencies"]
    assert scored == pytest.approx(row["estimate"])


def test_twins_stand_beside_own_weights(adder, bigrams, predicted):
    twins = [untrained(adder, seed) for seed in (0, 1)]
    rows = beside_twins(adder, twins, 2, bigrams, 0, unkept).set_index(["weights", "source"])
    assert rows.index.tolist() == [
        (weights, source) for weights in ("own", "random 0", "random 1") for source in COMPARED
    ]
    told = predicted[0].set_index(["source", "fit"])["estimate"]
    for source in COMPARED:
        assert rows["estimate"]["own", source] == pytest.approx(told[source, "with frequencies"])
    logits = logits_of(twins[1], "E", bigrams, 0)
    own = torch.from_numpy(bigrams.following)[logits.argmax(-1)] == torch.from_numpy(bigrams.first)
    assert rows["repeats"]["random 1", "E"] == own.double().mean()


def test_chances_are_shares_of_what_follows(adder, bigrams):
    chances = bigrams.chances(len(adder.W_E))
    assert chances.shape == (len(adder.W_E),) * 2
    first, following = bigrams.first[1], bigrams.following[2]
    assert chances[first, following] == bigrams.counts[1, 2] / bigrams.counts[1].sum()
    assert chances.sum(1)[bigrams.first].numpy() == pytest.approx(1)
    absent = sorted(set(range(len(chances))) - set(bigrams.first.tolist()))
    assert not chances[absent].any()
    assert identity_rows(adder, bigrams)["error"].item() == readout_error(adder, bigrams.first)
