"""Shares of the variance of scores in closed form and naively; kinds of heads on planted ones."""

import numpy as np
import pytest
import torch

from lenses.heads.selection import (
    COMPONENTS,
    KINDS,
    as_shares,
    attention_by_kind,
    latin_squares,
    relations,
    score_shares,
    score_variances,
)
from models import load, untrained
from models.planted.selection import planted_selection

ORDERS = (5, 7, 11)


@pytest.fixture(scope="module")
def planted():
    return planted_selection()


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.mark.parametrize("order", ORDERS)
def test_every_token_stands_at_every_slot_once_in_each_square(order):
    design = latin_squares(order)
    squares = design.reshape(order - 1, order, order)
    assert (np.sort(squares, axis=1) == np.arange(order)[:, None]).all()
    assert (np.sort(squares, axis=2) == np.arange(order)).all()
    agreements = (squares[0][:, None] == squares[1]).sum(-1)
    assert (agreements == 1).all()


@pytest.mark.parametrize("order", [3, 4, 9, 1])
def test_only_primes_have_these_squares(order):
    with pytest.raises(ValueError, match="not a prime"):
        latin_squares(order)


def effects(order: int, seed: int = 0):
    """Content, position and an interaction that has neither, by token and slot."""
    rng = np.random.default_rng(seed)
    content, position = rng.normal(size=order), rng.normal(size=order)
    both = rng.normal(size=(order, order))
    both -= both.mean(0)
    return content, position, both - both.mean(1, keepdims=True)


@pytest.mark.parametrize("order", ORDERS)
def test_effects_without_noise_are_found_in_closed_form(order):
    content, position, both = effects(order)
    design, slot = latin_squares(order), np.arange(order)
    scores = content[design] + position + both[design, slot]
    rows = np.random.default_rng(1).normal(size=(len(scores), 1))  # mean nothing to a softmax
    found = score_variances(torch.from_numpy(scores + 10 * rows)[:, None]).numpy()[:, 0]
    within = both[design, slot].var(axis=1, ddof=1).mean()
    expected = [content.var(ddof=1), position.var(ddof=1), within, 0]
    assert np.allclose(found, expected, atol=1e-9)


def naive(scores: np.ndarray) -> np.ndarray:
    """The same parts by loops over pairs of squares, families of lines and lines."""
    order = scores.shape[1]
    squares = [{(t, p): 0.0 for t in range(order) for p in range(order)} for _ in range(order - 1)]
    for row, line in enumerate(latin_squares(order)):
        for slot, token in enumerate(line):
            squares[row // order][token, slot] = scores[row, slot]

    def products(line_of, own=None):
        means = []
        for square, cells in enumerate(squares):
            if square == own:
                continue
            level = np.mean(list(cells.values()))
            lines = [[v for at, v in cells.items() if line_of(*at) == i] for i in range(order)]
            means.append(np.array([np.mean(line) - level for line in lines]))
        pairs = [a @ b for i, a in enumerate(means) for j, b in enumerate(means) if i != j]
        return np.mean(pairs)

    content = products(lambda token, slot: token) / (order - 1)
    position = products(lambda token, slot: slot) / (order - 1)
    both = sum(
        products(lambda token, slot, k=k: (token - k * slot) % order, own=k - 1)
        for k in range(1, order)
    )
    both *= (order - 2) / (order - 1) ** 2
    whole = np.mean([row.var(ddof=1) for row in scores])
    return np.array([content, position, both, whole - content - position - both])


def test_variances_equal_a_naive_sum_over_pairs_of_squares():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(20, 2, 5))
    found = score_variances(torch.from_numpy(scores)).numpy()
    assert np.allclose(found[:, 0], naive(scores[:, 0]))
    assert np.allclose(found[:, 1], naive(scores[:, 1]))


def test_noise_of_the_context_is_told_from_effects_in_the_mean():
    content, position, both = effects(5)
    design = latin_squares(5)
    clean = content[design] + position + both[design, np.arange(5)]
    noise = np.random.default_rng(3).normal(0, 2, (*clean.shape, 4000))
    rows = np.random.default_rng(4).normal(0, 3, (len(clean), 1, 4000))
    scores = np.moveaxis(clean[..., None] + noise + rows, 2, 1)
    found = score_variances(torch.from_numpy(scores)).numpy()
    within = both[design, np.arange(5)].var(axis=1, ddof=1).mean()
    expected = [content.var(ddof=1), position.var(ddof=1), within, 4]
    error = found.std(axis=1) / 4000**0.5
    assert (np.abs(found.mean(axis=1) - expected) < 4 * error).all()


def test_scores_that_do_not_vary_have_no_shares():
    parts = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1e-12, 2.0]]).double()
    shares = as_shares(parts, torch.tensor([1.0, 1.0]).double())
    assert shares[:, 0].isnan().all()
    assert torch.allclose(shares[:, 1], torch.tensor([0.25, 0.25, 0, 0.5]).double())


def exchanged(model, order=7, seed=0):
    """Shares on a text of the adder's form, and its tokens and slots."""
    rng = np.random.default_rng(seed)
    text = np.r_[
        12, rng.integers(10, size=6), 10, rng.integers(10, size=6), 11, rng.integers(10, size=7)
    ]
    tokens = rng.permutation(10)[:order]
    slots = rng.permutation(np.r_[1:7, 8:14])[:order]
    arrays = (text, tokens, slots, np.arange(14, 21))
    return score_shares(model, *map(torch.from_numpy, arrays)).numpy(), tokens, slots


@pytest.mark.parametrize("name", ["content", "position", "sum"])
def test_planted_heads_have_the_shares_of_their_weights(name, planted):
    shares, tokens, slots = exchanged(planted.model)
    parts = np.array(
        [
            planted.content[name][tokens].var().item() if name in planted.content else 0,
            planted.position[name][slots].var().item() if name in planted.position else 0,
        ]
    )
    layer, head = planted.heads[name]
    assert np.allclose(shares[:2, layer, head], parts / parts.sum(), atol=1e-5)
    assert np.allclose(shares[2:, layer, head], 0, atol=1e-5)


def test_the_induction_head_goes_by_context(planted):
    shares = np.mean([exchanged(planted.model, seed=seed)[0] for seed in range(6)], axis=0)
    layer, head = planted.heads["induction"]
    assert COMPONENTS[shares[:, layer, head].argmax()] == "context"


def test_in_the_first_layer_the_context_has_no_share(adder):
    for model in (adder, untrained(adder, 0)):
        shares = exchanged(model)[0]
        assert np.abs(shares[3, 0]).max() < 1e-4
        assert np.allclose(shares.sum(0), 1)


def test_relations_by_hand():
    found = relations(torch.tensor([[7, 8, 7, 9, 7]]))[:, 0, 4]
    expected = {
        "previous": [0, 0, 0, 1, 0],
        "duplicate": [1, 0, 1, 0, 0],
        "induction": [0, 1, 0, 1, 0],
        "sink": [1, 0, 0, 0, 0],
    }
    assert {kind: found[i].int().tolist() for i, kind in enumerate(KINDS)} == expected


def repeated(count=4):
    rng = np.random.default_rng(0)
    digits = np.stack([rng.permutation(10) for _ in range(count)])
    return torch.from_numpy(np.c_[np.full(count, 12), digits, digits])


def test_planted_heads_are_of_their_kind_and_of_no_other(planted):
    attention, even = attention_by_kind(planted.model, repeated(), 11)
    for i, kind in enumerate(KINDS):
        layer, head = planted.heads[kind]
        assert (attention[:, i, layer, head] > 0.999).all()
        others = [j for j in range(len(KINDS)) if j != i]
        assert (attention[:, others, layer, head] < 0.001).all()
    rows = 1 / np.arange(12, 22)
    assert np.allclose(even, rows.mean())


def test_attention_by_kind_equals_a_loop_over_queries(adder):
    tokens = torch.tensor([[12, 1, 2, 1, 10, 2, 2], [12, 1, 2, 3, 4, 5, 6]])
    attention, _ = attention_by_kind(adder, tokens, 2)
    _, cache = adder.run_with_cache(tokens)
    pattern = cache["blocks.1.attn.hook_pattern"]
    for row, ids in enumerate(tokens.tolist()):
        values = []
        for query in range(2, len(ids)):
            keys = [k + 1 for k in range(query) if ids[k] == ids[query]]
            if keys:
                values.append(pattern[row, :, query, keys].sum(-1))
        expected = torch.stack(values).mean(0) if values else torch.full((4,), torch.nan)
        found = attention[row, KINDS.index("induction"), 1]
        assert torch.allclose(found, expected, atol=1e-6, equal_nan=True)
