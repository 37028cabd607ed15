"""Bigrams and what is told of them, against naive counts and closed forms."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lenses.flow.bigram_counts import (
    Bigrams,
    addition_bigrams,
    counted_words,
    read_pairs,
    text_bigrams,
    word_bigrams,
)
from lenses.flow.markov import (
    Scored,
    beginning,
    best_scale,
    fitted,
    logits_of,
    nearer_to_itself,
    readout_error,
    unigram_log,
)
from models import load
from models.planted.edge import planted_edge
from models.text import token_strings
from prompts.additions import Addition


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture
def bigrams():
    counts = torch.from_numpy(np.random.default_rng(0).integers(1, 50, (8, 12))).double()
    return Bigrams(np.arange(8), np.arange(12), counts)


def test_words_that_are_no_single_token_are_left_out():
    pairs = [("a", "b", 6), ("a", "c", 2), ("b", "a", 3), ("c", "b", 1), ("zz", "a", 8)]
    found = word_bigrams(pairs, {" a": 5, " b": 7, " c": 9}, most=2)
    assert found.first.tolist() == [5, 7]
    assert found.following.tolist() == [5, 7, 9]
    assert found.counts.tolist() == [[0, 6, 2], [3, 0, 0]]
    assert found.kept == pytest.approx(11 / 20)


def test_too_few_words_and_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 or more"):
        word_bigrams([("a", "b", 6)], {" a": 5, " b": 7}, most=9)
    (tmp_path / "pairs.txt").write_text("of the 12\nof the\n")
    with pytest.raises(ValueError, match="first second count"):
        read_pairs(tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_text("of the 12\n")
    assert read_pairs(tmp_path / "pairs.txt") == [("of", "the", 12)]


def test_words_of_a_file_are_counted_in_a_models_tokens(tmp_path):
    reader = planted_edge().model
    names = {name: number for number, name in enumerate(token_strings(reader, range(60)))}
    one, two = [name.strip() for name in names if name.startswith(" ")][:2]
    (tmp_path / "pairs.txt").write_text(f"{one} {two} 12\n{two} {one} 3\n{one} nowhere 9\n")
    found = counted_words(reader, tmp_path / "pairs.txt", 5)
    assert found.first.tolist() == [names[f" {one}"], names[f" {two}"]]
    assert found.counts.sum() == 15
    assert found.kept == 15 / 24


def test_pairs_of_a_text_are_counted_one_by_one():
    ids = np.array([7, 3, 7, 3, 5, 7, 3, 7, 9])
    counted = text_bigrams(ids, 2)
    assert counted.first.tolist() == [7, 3]
    assert counted.following.tolist() == [3, 5, 7, 9]
    assert counted.counts.tolist() == [[3, 0, 0, 1], [0, 1, 2, 0]]
    assert counted.kept == 7 / 8
    with pytest.raises(ValueError, match="1 words"):
        text_bigrams(ids[:2], 2)


def test_bigrams_of_additions_are_counted_one_by_one(adder):
    form = adder.card.arithmetic
    found = addition_bigrams(form, 20, 3)
    sums = Addition(form.digits, 20, 3).sums
    naive = {}
    for row in form.tokens(sums.a, sums.b).tolist():
        for pair in pairwise(row):
            naive[pair] = naive.get(pair, 0) + 1
    at = {(a, b): (i, j) for i, a in enumerate(found.first) for j, b in enumerate(found.following)}
    assert found.counts.sum() == sum(naive.values())
    assert all(found.counts[at[pair]] == count for pair, count in naive.items())


def test_counts_tell_all_and_frequencies_nothing(bigrams):
    given = bigrams.shares / bigrams.shares.sum(1, keepdim=True)
    assert Scored(given.log(), bigrams).share(0).estimate == pytest.approx(1)
    unigram = unigram_log(bigrams).expand(8, 12)
    assert Scored(unigram, bigrams).share(0).estimate == pytest.approx(0, abs=1e-6)
    exact = Scored(given.log(), bigrams).numbers()
    assert exact["kl_from_counts"] == pytest.approx(0, abs=1e-12)
    assert exact["top_1"] == pytest.approx((bigrams.shares.max(1).values).sum().item())


def test_the_share_is_the_naive_ratio(bigrams):
    log_p = torch.randn(8, 12, generator=torch.Generator().manual_seed(1)).log_softmax(-1).double()
    shares, unigram = bigrams.shares, bigrams.shares.sum(0)
    ce = -(shares * log_p).sum()
    h_unigram = -(unigram * unigram.log()).sum()
    h_bigram = -(shares * (shares / shares.sum(1, keepdim=True)).log()).sum()
    found = Scored(log_p, bigrams).share(0)
    assert found.estimate == pytest.approx(((h_unigram - ce) / (h_unigram - h_bigram)).item())
    assert found.low < found.estimate < found.high
    assert found.n == 8


def test_the_best_scale_is_that_of_a_grid(bigrams):
    given = bigrams.shares / bigrams.shares.sum(1, keepdim=True)
    prior = unigram_log(bigrams).float()
    logits = 3 * (given.log().float() - prior) + torch.randn(8, 12)

    def ce(scale):
        return -(bigrams.shares * (prior + scale * logits).log_softmax(-1)).sum().item()

    grid = np.linspace(0, 1, 2001)
    assert best_scale(logits, prior, bigrams.shares) == pytest.approx(
        grid[np.argmin([ce(s) for s in grid])], abs=1e-3
    )


def test_a_scale_is_never_negative(bigrams):
    given = bigrams.shares / bigrams.shares.sum(1, keepdim=True)
    upside_down = (unigram_log(bigrams) - given.log()).float()
    log_p, scale = fitted(upside_down, bigrams, "with frequencies", 0)
    assert scale == pytest.approx(0, abs=1e-3)
    assert Scored(log_p, bigrams).share(0).estimate == pytest.approx(0, abs=1e-2)


def test_a_fit_never_sees_what_it_is_scored_on(bigrams):
    logits = torch.randn(8, 12, generator=torch.Generator().manual_seed(2))
    fold = np.random.default_rng(0).permutation(8) % 2
    here = int(np.flatnonzero(fold == 0)[0])
    changed = Bigrams(bigrams.first, bigrams.following, bigrams.counts.clone())
    changed.counts[here] = changed.counts[here].flip(0)
    before, after = (fitted(logits, b, "temperature", 0)[0][here] for b in (bigrams, changed))
    assert torch.allclose(before, after, atol=1e-4)


def test_sources_are_the_models_own_parts(adder):
    bigrams = addition_bigrams(adder.card.arithmetic, 50, 0)
    found = logits_of(adder, "E", bigrams, 0)
    states = adder.W_E[torch.from_numpy(bigrams.first)]
    naive = adder.ln_final(states[None])[0] @ adder.W_U
    assert torch.allclose(found, naive[:, torch.from_numpy(bigrams.following)], atol=1e-4)
    whole = logits_of(adder, "whole model", bigrams, 0)
    assert beginning(adder) == 12  # <bos>, as its tokenizer puts it
    said = adder(torch.tensor([[12, int(bigrams.first[3])]]), return_type="logits")[0, -1]
    assert torch.allclose(whole[3], said[torch.from_numpy(bigrams.following)], atol=1e-4)
    other = logits_of(adder, "E without itself", bigrams, 0)
    same = torch.from_numpy(bigrams.first[:, None] == bigrams.following)
    assert same.any()
    assert torch.equal(other[~same], found[~same])
    assert torch.allclose(other, torch.where(same, found.mean(1, keepdim=True), found), atol=1e-5)
    shuffled = logits_of(adder, "E shuffled", bigrams, 0)
    assert not torch.allclose(shuffled, found)
    rows = [row.round(decimals=3).tolist() for row in shuffled]
    assert sorted(rows) == sorted(row.round(decimals=3).tolist() for row in found)
    assert readout_error(adder, bigrams.first) < 1e-5


def test_a_model_that_repeats_its_input_is_nearer_to_itself(bigrams):
    itself = (10.0 * torch.eye(8, 12)).log_softmax(-1)
    repeats, gap = nearer_to_itself(itself, bigrams)
    assert repeats.all()
    assert (gap > 1).all()
    given = (bigrams.shares / bigrams.shares.sum(1, keepdim=True)).log()
    repeats, gap = nearer_to_itself(given, bigrams)
    assert (gap < 0).all()
    assert repeats.sum() == (bigrams.counts.argmax(1) == torch.arange(8)).sum()


def test_tokens_that_never_come_second_have_no_answer(bigrams):
    moved = Bigrams(bigrams.first, bigrams.following + 1, bigrams.counts)
    repeats, gap = nearer_to_itself(torch.randn(8, 12).log_softmax(-1), moved)
    assert np.isnan(gap[0])
    assert not repeats[0]
    assert not np.isnan(gap[1:]).any()


def test_a_sample_has_the_size_and_shares_of_the_counts(bigrams):
    sample = bigrams.sampled(200_000, 0)
    assert sample.counts.sum() == 200_000
    assert torch.allclose(sample.shares, bigrams.shares, atol=2e-3)


def test_tokens_that_a_sample_never_has_change_nothing(bigrams):
    wider = Bigrams(
        bigrams.first, np.arange(13), torch.cat([bigrams.counts, torch.zeros(8, 1)], dim=1)
    )
    log_p = torch.randn(8, 13, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    narrow = log_p[:, :12]
    same, found = Scored(narrow, bigrams), Scored(log_p, wider)
    assert found.share(0).estimate == pytest.approx(same.share(0).estimate)
    assert all(np.isfinite(value) for value in found.numbers().values())
