"""A noun and its adjectives: against loops over heads and tokens, and on a model that copies."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.flow.described_noun import (
    ADJECTIVES,
    NOUN,
    NOUN_STEPS,
    SENTENCE,
    NounRead,
    Sentence,
    _turns,
    next_after_noun,
    noun_rows,
    read_noun,
    up_to_noun,
)
from models import ModelError, load
from models.planted.copy import planted_copy
from tests.lenses.blocks import CONFIGS, tiny

WORDS = ["a", *ADJECTIVES, NOUN]
NORMED = "post-norm"
"""Here what is moved is scaled by a norm, which only the sum above sees."""


def said(*adjectives: int) -> Sentence:
    """A sentence whose first adjective has two tokens, and whose noun has two."""
    ids = torch.tensor([3, *adjectives, 7, 8])
    return Sentence(ids, WORDS, torch.tensor([0, 1, 1, 2, 3, 3]))


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_moved_is_the_sum_over_heads_and_tokens(kind):
    model, sentence = tiny(CONFIGS[kind]), said(4, 5, 6)
    read = read_noun(model, sentence)
    _, cache = model.run_with_cache(sentence.ids[None])
    for layer in range(model.cfg.n_layers):
        found = cache[f"blocks.{layer}.hook_attn_out"][0, -1].double()
        np.testing.assert_allclose(read.written[layer], found, atol=1e-6)
        weights = cache[f"blocks.{layer}.attn.hook_pattern"][0, :, -1]
        v, W_O = cache[f"blocks.{layer}.attn.hook_v"][0], model.blocks[layer].attn.W_O.detach()
        group = model.cfg.n_heads // v.shape[1]
        plain = torch.zeros(len(WORDS), model.cfg.d_model)
        for pos, word in enumerate(sentence.word_of.tolist()):
            for head, weight in enumerate(weights[:, pos]):
                plain[word] += weight * (v[pos, head // group] @ W_O[head])
        bias = model.blocks[layer].attn.b_O
        rest = found - (0 if bias is None else bias.detach())
        np.testing.assert_allclose(read.moved[layer].sum(0), rest, atol=1e-5)
        if kind != NORMED:
            np.testing.assert_allclose(read.moved[layer], plain, atol=1e-5)
        shares = [weights[:, sentence.word_of == word].sum(1) for word in range(len(WORDS))]
        np.testing.assert_allclose(read.attention[layer], torch.stack(shares, 1), atol=1e-6)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_noun_that_attends_to_no_adjective_knows_none(kind):
    model = tiny(CONFIGS[kind])
    found, other = (next_after_noun(model, said(*ids)) for ids in ((4, 5, 6), (9, 10, 11)))
    np.testing.assert_allclose(found[1], other[1], atol=1e-6)
    assert (found[0] - other[0]).abs().max() > 1e-5
    logits = model(said(4, 5, 6).ids[None])[0, -1].detach()
    np.testing.assert_allclose(found[0], logits.float().softmax(-1), atol=1e-6)


def test_a_state_turns_by_the_angle_of_what_is_added():
    before, moved = torch.tensor([[2.0, 0.0]]), torch.tensor([[[0.0, 2.0], [1.0, 0.0]]])
    read = NounRead(["a", NOUN], torch.ones(1, 1, 2), before, moved, moved.sum(1))
    turned = [45, 0, math.degrees(math.atan2(2, 3))]
    np.testing.assert_allclose(_turns(read), [turned], atol=1e-4)


def test_tokens_are_given_to_their_words():
    model, _ = planted_copy([SENTENCE], ["fluffy"])
    found = up_to_noun(model)
    assert found.words[-4:] == WORDS
    assert found.word_of.tolist() == list(range(len(found.words)))
    assert found.tokens_of(NOUN).tolist() == [word == NOUN for word in found.words]
    with pytest.raises(ModelError):
        up_to_noun(load("adder_6d_1l"))


def test_a_model_that_copies_says_the_adjective_only_where_the_noun_attends_to_it():
    model, _ = planted_copy([SENTENCE], ["fluffy"], loud=10.0)
    frame = pd.concat(noun_rows(model))
    assert list(frame["step"].unique()) == list(NOUN_STEPS)
    assert set(frame["example"]) == {"noun"}
    assert noun_rows(None) == []
    chances = frame[frame["step"] == "Next word"].set_index(["row", "column"])["value"]
    assert chances["with them", " fluffy"] > 0.9
    assert chances["without them", " fluffy"] < 0.5
    told = frame[frame["step"] == "Attention"].groupby("row")["value"].sum()
    np.testing.assert_allclose(told, 1, atol=1e-5)
