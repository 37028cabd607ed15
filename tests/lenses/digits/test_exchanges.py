"""Exchanged digits: what is exchanged, what should be answered, and what a moved state does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lenses.digits.exchanges import (
    LANGUAGE_SLOTS,
    NUMBER_SLOTS,
    adder_exchanges,
    adder_slots,
    adder_values,
    entering,
    has_number_tokens,
    language_exchanges,
    language_values,
    said_after,
    states_at,
)
from lenses.digits.geometry import helix
from lenses.texts import likeliest
from models import ModelError, load
from models.card import Card, NativeConfig
from models.loading import native_model
from models.native import in_bridge_names, parameters_of, sizes_of, vocabulary_tokenizer
from prompts.additions import AdditionFormat

SIGNS = {"+": 10, "=": 11, "<bos>": 12}
FORMATS = {
    "padded": {"digits": 3},
    "reversed": {"digits": 3, "operands": "lsb", "answer": "lsb"},
    "of any width": {"digits": 3, "pad": False},
}


def a_format(name):
    vocabulary = {**{str(digit): digit for digit in range(10)}, **SIGNS}
    layout = ("<bos>", "a", "+", "b", "=", "c")
    return AdditionFormat(layout=layout, vocabulary=vocabulary, **FORMATS[name])


def read(tokens, lsb):
    """The numbers that stand in a row of tokens."""
    names = {token: sign for sign, token in SIGNS.items()}
    text = "".join(names.get(token, str(token)) for token in tokens)
    a, rest = text.removeprefix("<bos>").split("+")
    b, c = rest.split("=")
    return [int(part[::-1] if lsb else part) for part in (a, b)], c


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("above", [False, True])
def test_answers_are_those_of_plain_arithmetic(name, above):
    style, lsb = a_format(name), name == "reversed"
    slots = adder_slots(style)
    assert len(slots) == (4 if name == "of any width" else 6)
    found = adder_exchanges(style, slots, 9, seed=0, above=above)
    assert np.bincount(found.slot).tolist() == [9] * len(slots)
    for row in range(len(found)):
        (a, b), c = read(found.tokens[row], lsb)
        (a2, b2), _ = read(found.exchanged[row], lsb)
        operand, place = slots[found.slot[row]]
        step = int(found.target[row] - found.value[row]) * 10**place
        assert (a2 - a, b2 - b) == ((step, 0) if operand == "a" else (0, step))
        column = place + above
        assert found.answer[row] == (a2 + b2) // 10**column % 10
        assert found.right[row] == (a + b) // 10**column % 10
        assert found.tokens[row, found.read[row] + 1] == found.right[row], (a, b, c)
        assert (found.tokens[row] != found.exchanged[row]).sum() == 1
        if above:
            assert (a + b) // 10**column != (a2 + b2) // 10**column, "a carry is toggled"


def test_every_pair_of_digits_comes_as_often():
    found = adder_exchanges(a_format("padded"), [("a", 0)], 180, seed=1)
    pairs = np.zeros((10, 10), dtype=int)
    np.add.at(pairs, (found.value, found.target), 1)
    assert (pairs == 2 * (1 - np.eye(10))).all()


@pytest.mark.parametrize("name", FORMATS)
def test_every_digit_takes_its_turn_and_nothing_else_changes(name):
    style = a_format(name)
    slots = adder_slots(style)
    every = adder_values(style, slots, 5, seed=0)
    for slot, at in enumerate(every.at):
        assert (every.tokens[slot, :, :, at] == np.arange(10)).all()
        others = np.delete(every.tokens[slot], at, axis=-1)
        assert (others == others[:, :1]).all()
    assert len(set(every.at.tolist())) == len(slots)


def test_states_are_those_of_the_cache(adder):
    tokens = adder_values(adder.card.arithmetic, [("a", 2)], 2, 0).tokens[0].reshape(20, -1)
    found = states_at(adder, tokens, at=4)
    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]
    cache = adder.run_with_cache(torch.from_numpy(tokens), names_filter=names)[1]
    for layer, name in enumerate(names):
        assert np.allclose(found[layer], cache[name][:, 4].numpy(), atol=1e-5)


def test_a_state_that_is_left_alone_or_made_another_tokens(adder):
    style = adder.card.arithmetic
    rows = adder_exchanges(style, adder_slots(style), 3, seed=2)
    state = entering(adder, rows.tokens, 0)
    nothing = np.zeros((len(rows), adder.cfg.d_model), dtype=np.float32)
    plain = likeliest(adder, rows.tokens, rows.read[:, None])[:, 0]
    assert (said_after(adder, state, 0, rows, nothing) == plain).all()
    before = style.digit_ids[rows.value]
    step = (adder.W_E[rows.token] - adder.W_E[before]).numpy()
    other = likeliest(adder, rows.exchanged, rows.read[:, None])[:, 0]
    assert (said_after(adder, state, 0, rows, step) == other).all()
    assert (other == rows.answer).mean() > 0.9


# TransformerLens encodes "a" whenever a tokenizer is set.
NUMBER_TOKENS = {**{str(n): n for n in range(100)}, " = ": 100, "\n": 101, " + ": 102, "a": 103}


def copier():
    """A model that copies a number token: it attends to the pos before, whose number lies on a
    helix, and says the nearest number."""
    d_head, n_ctx = 32, 40
    points = torch.from_numpy(helix(100) * 10).float()
    shape = {"n_layers": 1, "n_heads": 1, "d_model": 16 + n_ctx, "d_head": d_head, "n_ctx": n_ctx,
             "d_vocab": len(NUMBER_TOKENS), "attn_only": True}  # fmt: skip
    config = NativeConfig(**shape)
    rng, sizes = torch.Generator().manual_seed(0), sizes_of(config)
    weights = {
        names.hooked: torch.zeros([sizes[axis] for axis in names.axes.split()])
        for names in parameters_of(config)
    }
    weights["embed.W_E"][:100, :8] = points
    pos = torch.linalg.qr(torch.randn(n_ctx, n_ctx, generator=rng)).Q
    weights["pos_embed.W_pos"][:, 16:] = pos
    # The d_head numbers of a pos tell it from the others well enough for a sharp look back.
    key = torch.randn(n_ctx, d_head, generator=rng)
    weights["blocks.0.attn.W_K"][0, 16:] = pos.T @ key
    weights["blocks.0.attn.W_Q"][0, 16:] = pos.T @ key.roll(1, 0) * 30
    weights["blocks.0.attn.W_V"][0, :8, :8] = torch.eye(8)
    weights["blocks.0.attn.W_O"][0, :8, 8:16] = torch.eye(8)
    weights["unembed.W_U"][8:16, :100] = points.T
    weights["unembed.b_U"][:100] = -points.square().sum(1) / 2
    weights["unembed.b_U"][100:] = -1000
    fields = {"source": "native", "weights": "copier.safetensors", "config": shape}
    card = Card.of("copier", Path.cwd(), fields)
    model = native_model(card, config, in_bridge_names(weights, config))
    model.tokenizer = vocabulary_tokenizer(NUMBER_TOKENS)
    return model


@pytest.fixture(scope="module")
def counting():
    return copier()


def test_numbers_that_are_tokens_are_found_and_exchanged(counting):
    assert has_number_tokens(counting)
    found = language_exchanges(counting, NUMBER_SLOTS, 50, seed=0, values=100)
    assert (found.tokens[np.arange(50), found.at] == found.value).all()
    assert (found.token == found.target).all()
    assert (found.answer == found.target).all()
    assert (found.read == found.at + 1).all()
    assert (likeliest(counting, found.tokens, found.read[:, None])[:, 0] == found.right).all()
    said = likeliest(counting, found.exchanged, found.read[:, None])[:, 0]
    assert (said == found.answer).all()


def test_digits_to_be_copied_and_added(counting):
    found = language_exchanges(counting, LANGUAGE_SLOTS, 20, seed=0)
    adding = found.slot == 1
    assert adding.sum() == 20
    other = found.right[adding] - found.value[adding]
    assert (other >= 0).all()
    assert (found.answer[adding] == found.target[adding] + other).all()
    assert (found.answer <= 9).all()
    every = language_values(counting, LANGUAGE_SLOTS, 3, seed=0)
    for slot, at in enumerate(every.at):
        assert (every.tokens[slot, :, :, at] == np.arange(10)).all()
        before = every.tokens[slot, :, :, :at]
        assert (before == before[:, :1]).all()


def test_numbers_written_digit_by_digit_are_refused(counting):
    digits = {str(n): n for n in range(10)} | {" = ": 100, "\n": 101, " + ": 102, "a": 103}
    whole, counting.tokenizer = counting.tokenizer, vocabulary_tokenizer(digits)
    assert not has_number_tokens(counting)
    with pytest.raises(ModelError, match="as one token"):
        language_exchanges(counting, NUMBER_SLOTS, 5, seed=0, values=100)
    counting.tokenizer = whole
