"""Edges against whole products of patterns and values, head by head, and on a planted model."""

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3TextConfig,
)

from lenses.flow.descriptions import Case, added_cases, worded_case
from lenses.flow.edge_patching import PATCHED, each_edge, read_edges
from models import load
from models.planted.edge import planted_edge
from prompts.additions import Addition
from prompts.adjectives import described_nouns
from tests.lenses.blocks import configs, tiny

CONFIGS = configs(layers=3)
CLEAN = np.array([[3, 5, 7, 9, 11, 13, 15], [4, 5, 7, 8, 10, 13, 15], [1, 5, 7, 2, 6, 13, 15]])
CHANGED = CLEAN.copy()
CHANGED[:, 1:3] = [20, 30]
NOUN = np.array([[0] * 5 + [1, 1], [0] * 5 + [1, 1], [0] * 4 + [1, 1, 0]], dtype=bool)
CASE = Case("frame", CLEAN, CHANGED, np.array([1, 2]), NOUN)


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


def cached(model, row: np.ndarray):
    return model.run_with_cache(torch.from_numpy(row)[None])[1]


def naive(model, reading: int, chosen) -> list[torch.Tensor]:
    """States of the noun after each block when chosen(layer, head) edges carry the other's values.

    Each such head's z is made anew for the noun: its pattern times values that are mixed of both.
    """
    noun, at = np.flatnonzero(CASE.noun[reading]), CASE.at[reading]
    v = {
        kind: [cached(model, rows[reading])[f"blocks.{i}.attn.hook_v"][0] for i in range(3)]
        for kind, rows in (("clean", CLEAN), ("changed", CHANGED))
    }
    states, pattern = [], {}

    def take(new, hook, layer):
        pattern[layer] = new[0]

    def mix(z, hook, layer):
        z, heads = z.clone(), z.shape[2]
        mixed = cached_now[layer].clone()
        mixed[1:3] = v["changed"][layer][1:3]
        for head in range(heads):
            if chosen(layer, head):
                kv = head // (heads // mixed.shape[1])
                z[0, noun, head] = (pattern[layer][head] @ mixed[:, kv])[noun]
        return z

    def see(x, hook, layer):
        cached_now[layer] = x[0]

    cached_now, hooks = {}, []
    for layer in range(3):
        for name, do in (("hook_v", see), ("hook_pattern", take), ("hook_z", mix)):
            hooks.append(
                (f"blocks.{layer}.attn.{name}", lambda x, hook, f=do, i=layer: f(x, hook, i))
            )
        hooks.append(
            (f"blocks.{layer}.hook_resid_post", lambda x, hook: states.append(x[0, at].clone()))
        )
    model.run_with_hooks(torch.from_numpy(CLEAN[reading])[None], fwd_hooks=hooks)
    return states


def states(model, rows: np.ndarray, reading: int) -> list[torch.Tensor]:
    cache = cached(model, rows[reading])
    return [cache[f"blocks.{i}.hook_resid_post"][0, CASE.at[reading]] for i in range(3)]


@torch.inference_mode()
def test_attention_is_the_sum_over_the_adjectives_tokens(model):
    found = read_edges(model, CASE).attention
    for reading in range(3):
        cache = cached(model, CLEAN[reading])
        for layer in range(3):
            row = cache[f"blocks.{layer}.attn.hook_pattern"][0, :, CASE.at[reading]]
            assert np.allclose(found[reading, layer], row[:, 1:3].sum(-1), atol=1e-6)


@torch.inference_mode()
def test_movements_are_those_of_whole_products(model):
    found = read_edges(model, CASE)
    clean, changed, edge = (
        [get(reading) for reading in range(3)]
        for get in (
            lambda r: states(model, CLEAN, r),
            lambda r: states(model, CHANGED, r),
            lambda r: naive(model, r, lambda layer, head: True),
        )
    )
    for layer in range(3):
        aim = changed[0][layer] - clean[0][layer]
        for to, names in ((changed, ("all", "control")), (edge, ("edge", "control edge"))):
            moves = [to[r][layer] - clean[r][layer] for r in range(3)]
            along = [float(m @ aim / aim.square().sum()) for m in moves]
            length = [float(moves[r].norm() / clean[r][layer].norm()) for r in range(3)]
            wanted = {names[0]: (along[0], length[0])}
            wanted[names[1]] = (np.mean(along[1:]), np.mean(length[1:]))
            for name, (share, size) in wanted.items():
                number = PATCHED.index(name)
                assert found.along[number, layer] == pytest.approx(share, abs=1e-4, nan_ok=True)
                assert found.length[number, layer] == pytest.approx(size, rel=1e-4, abs=1e-6)


@torch.inference_mode()
def test_single_edges_are_those_of_whole_products(model):
    found = each_edge(model, CASE)
    heads = model.cfg.n_heads
    clean, changed = states(model, CLEAN, 0)[-1], states(model, CHANGED, 0)[-1]
    aim = changed - clean
    assert found.shape == (3, heads + 1)
    for layer in range(3):
        for edge in range(heads + 1):
            moved = naive(model, 0, lambda i, h, e=edge, n=layer: i == n and e in (h, heads))[-1]
            share = float((moved - clean) @ aim / aim.square().sum())
            assert found[layer, edge] == pytest.approx(share, abs=1e-4)


def test_what_is_beyond_the_window_does_not_move_anything():
    """A sliding window of 2 in both layers: the noun, five tokens on, cannot be reached."""
    config = Gemma3TextConfig(
        num_hidden_layers=2, vocab_size=50, hidden_size=24, intermediate_size=40,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, sliding_window=2,
        layer_types=["sliding_attention"] * 2,
    )  # fmt: skip
    found = read_edges(tiny(config), CASE)
    assert (found.attention == 0).all()
    assert (found.length == 0).all()
    assert np.isnan(found.along).all()


def test_half_precision_is_near_the_same():
    half, full = (load("adder_6d_1l", dtype=kind) for kind in (torch.bfloat16, torch.float32))
    style = full.card.arithmetic
    (case,) = added_cases(style, Addition(6, 1, 0).sums, 0)
    one, other = read_edges(half, case), read_edges(full, case)
    assert np.allclose(one.attention, other.attention, atol=0.05)
    assert np.allclose(one.length, other.length, atol=0.05)
    assert np.allclose(each_edge(half, case), each_edge(full, case), atol=0.1)


def test_in_the_planted_model_one_head_moves_the_noun_and_only_where_it_is_described():
    planted = planted_edge(seed=3)
    case, _ = worded_case(planted.model, described_nouns()[3])
    found, edges = read_edges(planted.model, case), each_edge(planted.model, case)
    all_, edge, _, control_edge = found.length[:, planted.layer]
    assert edge > 0.8 * all_
    assert control_edge < 0.7 * edge
    assert edges[planted.layer, planted.head] > 0.5
    others = np.delete(edges[:, :-1].ravel(), planted.layer * 6 + planted.head)
    assert np.abs(others).max() < 0.2
