"""n-gram rules against counting by hand, and in a model that is a bigram model."""

from collections import Counter

import numpy as np
import pytest
import torch

from lenses.flow.ngrams import (
    LONGEST,
    REACH,
    RULES,
    SOME,
    SUFFIXES,
    Passages,
    guesses,
    passages_of,
    passages_of_sums,
    passages_of_text,
    rule_rows,
    rules_against,
    said,
)
from models import load
from models.planted.markov import planted_markov
from prompts.additions import AdditionFormat

WORDS = 5


def drawn(rows: int, length: int, seed: int) -> Passages:
    rng = np.random.default_rng(seed)
    return Passages(
        rng.integers(0, WORDS, (rows, length)), rng.integers(REACH + 1, length + 1, rows)
    )


@pytest.fixture(scope="module")
def counted():
    return drawn(30, 9, 0)


@pytest.fixture(scope="module")
def read():
    return drawn(12, 9, 1)


def by_hand(counted: Passages, back: tuple[int, ...], before: tuple[int, ...]) -> int:
    """What most often followed, of equals the smallest token."""
    found = Counter(
        int(row[at])
        for row, length in zip(counted.tokens, counted.lengths, strict=True)
        for at in range(max(back, default=0), length)
        if tuple(row[at - by] for by in back) == before
    )
    return min(found, key=lambda token: (-found[token], token)) if found else -1


def test_rules_say_what_most_often_followed(counted, read):
    found = guesses(counted, read, WORDS)
    for number, back in enumerate(RULES.values()):
        for row, tokens in enumerate(read.tokens):
            for at in range(REACH, len(tokens)):
                before = tuple(tokens[at - by] for by in back)
                assert found[number, row, at - REACH] == by_hand(counted, back, before)
    assert (found[list(RULES).index("4-gram")] == -1).any()


def test_rules_are_held_against_what_the_model_says(counted, read):
    guessed, told = guesses(counted, read, WORDS), read.told(REACH)
    says = np.random.default_rng(2).integers(0, WORDS, told.shape)
    rows = rule_rows(guessed, says, read, 0).set_index("rule")
    by = dict(zip(RULES, guessed, strict=True))
    for name in RULES:
        same = [(by[name][n] == says[n])[told[n]].mean() for n in range(len(told))]
        assert rows["estimate"][name] == pytest.approx(np.mean(same))
        assert rows["counted"][name] == pytest.approx((by[name] >= 0)[told].mean())
    longest = [
        next(by[name][cell] for name in SUFFIXES if by[name][cell] >= 0)
        for cell in zip(*np.nonzero(told), strict=True)
    ]
    truth = read.tokens[:, REACH:][told]
    assert rows["right"][LONGEST] == pytest.approx(np.mean(longest == truth))
    assert rows["right"][SOME] == pytest.approx(
        (guessed == read.tokens[:, REACH:]).any(0)[told].mean()
    )
    assert rows["estimate"][SOME] >= rows["estimate"].drop(SOME).max()
    assert rows["model_right"].nunique() == 1


def test_a_bigram_model_says_what_the_bigram_rule_says():
    signs = "0123456789+="
    form = AdditionFormat(
        digits=2, layout=tuple("a+b=c"), vocabulary={sign: n for n, sign in enumerate(signs)}
    )
    rng = np.random.default_rng(3)
    counted, read = (
        Passages(rng.integers(0, 12, (rows, 9)), np.full(rows, 9)) for rows in (200, 20)
    )
    follows = torch.zeros(12, 12, dtype=torch.float64)
    for one, two in zip(counted.tokens[:, :-1].ravel(), counted.tokens[:, 1:].ravel(), strict=True):
        follows[one, two] += 1
    model = planted_markov(form, follows / follows.sum(1, keepdim=True))
    bigram = guesses(counted, read, 12)[list(RULES).index("bigram")]
    assert np.array_equal(said(model, read), bigram)


def test_an_adder_is_read_at_additions_that_were_not_counted():
    adder = load("adder_6d_1l")
    counted, read = passages_of_sums(adder.card.arithmetic, 300, 20, 0)
    assert not {*map(tuple, counted.tokens.tolist())} & {*map(tuple, read.tokens.tolist())}
    says = said(adder, read)
    assert says.shape == read.told(REACH).shape
    answers = says[:, -4:] == read.tokens[:, -4:]
    assert answers.mean() > 0.9


def test_a_text_of_a_file_is_read_in_place_of_additions(tmp_path):
    adder = load("adder_6d_1l")
    mine = tmp_path / "mine.txt"
    mine.write_text("000012+000034=0000046" * 80)
    for one, other in zip(
        passages_of(adder, 50, mine, 5, 0),
        passages_of_sums(adder.card.arithmetic, 50, 5, 0),
        strict=True,
    ):
        assert np.array_equal(one.tokens, other.tokens)
    counted, read = passages_of(adder, 50, mine, 5, 0)
    rows = rules_against(adder, counted, read, 0)
    assert rows.equals(rule_rows(guesses(counted, read, 13), said(adder, read), read, 0))
    adder.card = adder.card.model_copy(update={"arithmetic": None})
    counted, read = passages_of(adder, 50, mine, 2, 0)
    assert (len(read.tokens), counted.tokens.shape[1]) == (2, 64)
    assert np.array_equal(read.tokens, passages_of_text(adder, mine, 2, 0)[1].tokens)
    with pytest.raises(OSError, match="none"):
        passages_of(adder, 50, tmp_path / "none", 2, 0)


def test_passages_of_a_text_are_read_after_a_bos(tmp_path):
    model, mine = load("kjv_2l"), tmp_path / "mine.txt"
    mine.write_text("And the LORD said unto Moses, Go in unto Pharaoh. " * 150)
    _, read = passages_of_text(model, mine, 2, 0)
    assert model.tokenizer.bos_token_id not in read.tokens
    for says, row in zip(said(model, read), read.tokens, strict=True):
        tokens = torch.tensor([[model.tokenizer.bos_token_id, *row]])
        for at in range(REACH, len(row)):
            assert says[at - REACH] == model(tokens[:, : at + 1])[0, -1].argmax()
