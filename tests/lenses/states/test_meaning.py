"""Movement of meaning against naive sums, closed forms, and a model with a head that copies."""

from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from lenses.states import meaning as lens
from lenses.states.meaning import (
    Movement,
    jensen_shannon,
    movement,
    moves_with_weight,
    permutations,
    recency_moves,
)
from models.card import Card, NativeConfig
from models.loading import native_model
from models.native import in_bridge_names
from tests.lenses.blocks import CONFIGS, tiny
from tests.lenses.patching.test_knock_out import close

LENGTH = 9


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (LENGTH,), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def found(model, tokens) -> Movement:
    return movement(model, tokens)


@pytest.fixture(scope="module")
def cache(model, tokens):
    model.set_use_attn_result(True)
    cache = model.run_with_cache(tokens[None])[1]
    model.set_use_attn_result(False)
    return cache


def test_divergence_equals_that_of_scipy_and_its_closed_forms():
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(0)) * 3
    log_p = logits.log_softmax(-1)
    found = jensen_shannon(log_p[:4], log_p[2:])
    for i in range(4):
        for j in range(4):
            expected = jensenshannon(log_p[i].exp(), log_p[j + 2].exp()) ** 2
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6)
    assert found[2, 0] == found[3, 1] == 0
    sure = torch.eye(3).log()
    assert jensen_shannon(sure[:1], sure[1:]).tolist()[0] == pytest.approx([log(2)] * 2)


def test_divergence_does_not_depend_on_how_work_is_cut(monkeypatch):
    log_p = torch.randn(7, 13, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    whole = jensen_shannon(log_p, log_p)
    monkeypatch.setattr(lens, "NUMBERS", 100)
    close(jensen_shannon(log_p, log_p), whole, 1e-6)


def test_the_last_state_decodes_to_what_the_model_says(found):
    assert found.output_error < 1e-4


def test_weights_are_attention_and_what_it_moves(found, cache, model):
    for layer in range(2):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0]
        close(found.weight[0, layer], pattern, 1e-6)
        v = cache[f"blocks.{layer}.attn.hook_v"][0]
        heads = len(pattern)
        gain = 1.0
        if hasattr(model.blocks[layer], "ln1_post"):
            gain = 1 + model.blocks[layer].ln1_post.original_component.weight
        for head in range(heads):
            moved = v[:, head * v.shape[1] // heads] @ model.W_O[layer, head] * gain
            close(found.weight[1, layer, head], pattern[head] * moved.norm(dim=-1))


def test_movement_is_the_change_of_the_distance_to_where_the_source_was(found, cache, model):
    for layer in range(2):
        pre = cache[f"blocks.{layer}.hook_resid_pre"][0]
        steps = (
            pre + cache[f"blocks.{layer}.hook_attn_out"][0],
            cache[f"blocks.{layer}.hook_resid_post"][0],
        )
        for step, after in enumerate(steps):
            for i, j in ((2, 1), (7, 3), (3, 7)):
                turned = torch.cosine_similarity(after[i], pre[j], dim=0)
                turned = turned - torch.cosine_similarity(pre[i], pre[j], dim=0)
                close(found.towards[step, 1, layer, i, j], turned, 1e-5)
                p = {
                    name: said(model, state)
                    for name, state in (("i", pre[i]), ("j", pre[j]), ("after", after[i]))
                }
                nearer = jensenshannon(p["i"], p["j"]) ** 2 - jensenshannon(p["after"], p["j"]) ** 2
                assert found.towards[step, 0, layer, i, j].item() == pytest.approx(nearer, abs=1e-5)


def said(model, state):
    """What the model's own end makes of a state."""
    logits = model.unembed(model.ln_final(state[None, None]))[0, 0]
    return logits.detach().double().softmax(-1).numpy()


def test_correlations_equal_those_of_pandas_row_by_row(found):
    none = np.arange(LENGTH)[None]
    got = moves_with_weight(found, none)[0]
    weight, towards = found.weight.double().numpy(), found.towards.double().numpy()
    for w, s, d, layer, head in ((0, 0, 0, 0, 0), (1, 1, 1, 1, 1), (0, 1, 0, 1, 0)):
        rows, held = [], []
        for i in range(5, LENGTH):
            frame = pd.DataFrame(
                {"x": weight[w, layer, head, i, 1:i], "y": towards[s, d, layer, i, 1:i]}
            )
            frame["z"] = np.arange(1, i)
            r = frame.corr("spearman")
            if r.isna().any(axis=None):
                continue  # all sources are outside the window
            rows.append(r.x.y)
            with np.errstate(invalid="ignore", divide="ignore"):  # a source's position may say all
                held.append((r.x.y - r.x.z * r.y.z) / np.sqrt((1 - r.x.z**2) * (1 - r.y.z**2)))
        assert got[0, w, s, d, layer, head] == pytest.approx(np.mean(rows))
        if np.isfinite(held).all():
            assert got[1, w, s, d, layer, head] == pytest.approx(np.mean(held))


def test_permuted_sources_are_other_tokens_and_never_the_token_itself():
    """Movement that names its source: what is correlated with is read off it."""
    length, order = 7, np.array([[0, 3, 6, 1, 2, 4, 5]])
    towards = torch.zeros(2, 2, 1, length, length)
    towards[...] = torch.tensor([0.0, 5.0, 1.0, 4.0, 2.0, 6.0, 3.0])
    weight = torch.zeros(2, 1, 1, length, length)
    weight[...] = torch.arange(length).double()
    found = moves_with_weight(Movement(weight, towards, 0.0), order)[0, 0, 0, 0, 0, 0, 0]
    # Query 5: sources 1..4 stand for 3, 6, 1, 2. Query 6: 1..5 for 3, 5 (not 6), 1, 2, 4.
    expected = [
        pd.Series([4.0, 3.0, 5.0, 1.0]).corr(pd.Series(range(4)), "spearman"),
        pd.Series([4.0, 6.0, 5.0, 1.0, 2.0]).corr(pd.Series(range(5)), "spearman"),
    ]
    assert found == pytest.approx(np.mean(expected))


def test_orders_leave_the_first_token_in_its_place():
    orders = permutations(6, 50, np.random.default_rng(0))
    assert (orders[:, 0] == 0).all()
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    assert len(np.unique(orders, axis=0)) > 20


def test_recency_is_the_position_of_the_source():
    length = 7
    towards = torch.arange(length).double().expand(2, 2, 1, length, length)
    found = Movement(torch.zeros(2, 1, 1, length, length), towards, 0.0)
    assert recency_moves(found).ravel().tolist() == pytest.approx([1.0] * 4)


def test_short_texts_and_flat_weights_are_undefined(model):
    short = movement(model, torch.tensor([1, 2, 3]))
    assert np.isnan(moves_with_weight(short, np.arange(3)[None])).all()
    assert np.isnan(recency_moves(short)).all()
    flat = Movement(torch.ones(2, 1, 1, 7, 7), torch.randn(2, 2, 1, 7, 7), 0.0)
    assert np.isnan(moves_with_weight(flat, np.arange(7)[None])).all()


def test_one_token_is_no_pair(model):
    found = movement(model, torch.tensor([5]))
    assert found.towards.isfinite().all()
    assert found.towards.shape[-2:] == (1, 1)


WORDS = 12


def copying_model(seed: int):
    """Every token means itself; head 1 moves tokens as they are, head 0 moves what is not read."""
    rng = torch.Generator().manual_seed(seed)
    d_model, ignored = WORDS + 8, slice(WORDS, None)
    W_Q, W_K, W_V = torch.zeros(3, 2, d_model, WORDS)
    W_O = torch.zeros(2, WORDS, d_model)
    W_Q[:, :WORDS] = torch.randn(2, WORDS, WORDS, generator=rng)
    W_K[:, :WORDS] = torch.randn(2, WORDS, WORDS, generator=rng)
    W_V[:, :WORDS] = torch.eye(WORDS)
    W_O[1, :, :WORDS] = torch.eye(WORDS)
    W_O[0, :, ignored] = torch.randn(WORDS, 8, generator=rng)
    W_E = torch.eye(WORDS, d_model)
    names = {"W_Q": W_Q, "W_K": W_K, "W_V": W_V, "W_O": W_O}
    weights = {f"blocks.0.attn.{name}": weight for name, weight in names.items()}
    weights |= {"embed.W_E": W_E, "unembed.W_U": 4 * W_E.mT.contiguous()}
    weights["pos_embed.W_pos"] = torch.zeros(16, d_model)
    shape = {"n_layers": 1, "n_heads": 2, "d_model": d_model, "d_head": WORDS, "n_ctx": 16}
    config = NativeConfig(**shape, d_vocab=WORDS, attn_only=True)
    fields = {"source": "native", "weights": "none", "config": config.model_dump()}
    card = Card.of("copying", Path.cwd(), fields)
    return native_model(card, config, in_bridge_names(weights, config))


def test_a_head_that_copies_moves_meaning_towards_what_it_attends_to():
    """And a head whose writing is not decoded does not."""
    found = []
    for seed in range(8):
        text = torch.randperm(WORDS, generator=torch.Generator().manual_seed(seed))
        found.append(moves_with_weight(movement(copying_model(seed), text), np.arange(WORDS)[None]))
    both = np.mean(found, axis=0)[0, :, :, :, :, 0]  # control weight step distance head
    assert (both[..., 1] > 0.9).all()
    assert (abs(both[..., 0]) < 0.4).all()
