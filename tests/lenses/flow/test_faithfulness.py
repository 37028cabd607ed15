"""Ablations against one-at-a-time loops and closed forms, and on a planted model."""

import numpy as np
import pytest
import torch

from lenses.flow import faithfulness as lens
from lenses.flow.faithfulness import (
    Absent,
    Pieces,
    area,
    best_first,
    gradient_scores,
    read_clean,
    with_only,
)
from models.parts import attention_out
from models.planted.copy import planted_copy
from models.readout import unembedding
from models.text import tokenize
from tests.lenses.blocks import CONFIGS, tiny

TEXT = "We bought a blue boat. The boat is"


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def clean(model):
    return read_clean(model, torch.tensor([3, 5, 7, 9, 11, 13, 2]))


@pytest.fixture(scope="module")
def absent(clean):
    """Made up: different for the first token and the others."""
    rng = torch.Generator().manual_seed(2)
    zero = Absent.zero(clean)
    return Absent(*(torch.randn(x.shape, generator=rng) for x in (zero.value, zero.mlp)))


@pytest.fixture(scope="module")
def copying():
    return planted_copy([TEXT], ["blue"], layer=1, seed=1)[0]


def some(clean, count: int) -> Pieces:
    rng = torch.Generator().manual_seed(1)
    flat = clean.mass.flat()
    return clean.mass.unflat(torch.rand(count, len(flat), generator=rng) > 0.4)


def one_at_a_time(model, clean, kept: Pieces, row: int, absent: Absent) -> torch.Tensor:
    """log_p of one choice: every z is mixed anew, of each source's value or what stands in."""
    seen, place = {}, (torch.arange(len(clean.tokens)) > 0).long()

    def take(act, name):
        seen[name] = act

    def mix(z, hook, layer):
        v, alpha = seen["hook_v"][0], seen["hook_pattern"][0]
        group, made = z.shape[2] // v.shape[1], torch.zeros_like(z)
        for head in range(z.shape[2]):
            for query in range(z.shape[1]):
                for source in range(query + 1):
                    is_kept = kept.attention[row, layer, query, source]
                    stand_in = absent.value[place[source], layer, head // group]
                    value = v[source, head // group] if is_kept else stand_in
                    made[0, query, head] += alpha[head, query, source] * value
        return made

    def replace(out, hook, layer):
        out = out.clone()
        for pos in range(out.shape[1]):
            if not kept.mlp[row, layer, pos]:
                out[0, pos] = absent.mlp[place[pos], layer]
        return out

    hooks = []
    for layer in range(model.cfg.n_layers):
        block = f"blocks.{layer}"
        for name in ("hook_v", "hook_pattern"):
            hooks.append((f"{block}.attn.{name}", lambda act, hook, n=name: take(act, n)))
        hooks.append((f"{block}.attn.hook_z", lambda z, hook, n=layer: mix(z, hook, n)))
        hooks.append((f"{block}.hook_mlp_out", lambda x, hook, n=layer: replace(x, hook, n)))
    with torch.inference_mode():
        logits = model.run_with_hooks(clean.tokens[None], fwd_hooks=hooks)
    return logits[0, -1].double().log_softmax(-1)


def test_many_choices_at_once_are_as_one_at_a_time(model, clean, absent, monkeypatch):
    kept = some(clean, 5)
    expected = torch.stack([one_at_a_time(model, clean, kept, row, absent) for row in range(5)])
    monkeypatch.setattr(lens, "ROWS", 2)
    found = with_only(model, clean, kept, absent)
    np.testing.assert_allclose(found.log_probability, expected[:, clean.token], atol=1e-4)
    own = clean.log_p.double()
    kl = (own.exp() * (own - expected)).sum(-1)
    np.testing.assert_allclose(found.kl, kl, atol=1e-4)
    assert np.ptp(found.log_probability) > 0.1, "the choices tell nothing apart"


def test_all_kept_is_the_model(model, clean, absent):
    everything = clean.mass.unflat(torch.ones(1, len(clean.mass.flat()), dtype=torch.bool))
    with torch.inference_mode():
        own = model(clean.tokens[None])[0, -1].double().log_softmax(-1)
    found = with_only(model, clean, everything, absent)
    assert clean.token == int(own.argmax())
    assert found.log_probability[0] == pytest.approx(own.max().item(), abs=1e-5)
    assert found.kl[0] < 1e-6


def test_nothing_kept_is_the_embedding_and_the_biases(model, clean):
    nothing = clean.mass.unflat(torch.zeros(1, len(clean.mass.flat()), dtype=torch.bool))
    found = with_only(model, clean, nothing, Absent.zero(clean))
    _, cache = model.run_with_cache(clean.tokens[None], names_filter=["blocks.0.hook_resid_pre"])
    state = cache["blocks.0.hook_resid_pre"][0, -1] + attention_out(model).b_O.sum(0)
    logits = unembedding(model)(state).double()
    expected = logits.log_softmax(-1)[clean.token].item()
    assert found.log_probability[0] == pytest.approx(expected, abs=1e-4)


def test_a_token_gathers_a_mass_of_one_in_each_layer_and_its_mlp_has_another(clean):
    layers, pos = clean.mass.mlp.shape
    assert clean.mass.attention.sum(-1) == pytest.approx(torch.ones(layers, pos), abs=1e-5)
    assert clean.mass.flat().sum().item() == pytest.approx(2 * layers * pos, abs=1e-3)


def test_gradients_are_slopes(model, clean):
    """Against central differences: a piece scaled by a little more and a little less than 1."""
    found, step = gradient_scores(model, clean), 0.02

    def nats(scaled) -> float:
        with torch.inference_mode():
            logits = model.run_with_hooks(clean.tokens[None], fwd_hooks=[scaled])
        return logits[0, -1].double().log_softmax(-1)[clean.token].item()

    def scaling(name, where, factor):
        def scale(act, hook):
            act = act.clone()
            act[where] *= factor
            return act

        return name, scale

    for layer, query, source in ((0, 4, 2), (1, 6, 5), (0, 3, 3)):
        at = (f"blocks.{layer}.attn.hook_pattern", (0, slice(None), query, source))
        slope = (nats(scaling(*at, 1 + step)) - nats(scaling(*at, 1 - step))) / (2 * step)
        assert found.attention[layer, query, source].item() == pytest.approx(slope, abs=5e-3)
    for layer, pos in ((0, 2), (1, 6)):
        at = (f"blocks.{layer}.hook_mlp_out", (0, pos))
        slope = (nats(scaling(*at, 1 + step)) - nats(scaling(*at, 1 - step))) / (2 * step)
        assert found.mlp[layer, pos].item() == pytest.approx(slope, abs=5e-3)


def test_the_best_are_kept_up_to_a_share_of_the_mass():
    mass = torch.tensor([0.5, 0.25, 0.25, 1.0, 0.0])
    scores = torch.tensor([[4.0, 3, 2, 1, 0], [1.0, 2, 3, 4, 5]])
    found = best_first(scores, mass, (0.0, 0.3, 0.5, 1.0), np.random.default_rng(0))
    assert found[0, :, :4].int().tolist() == [
        [0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1],
    ]  # fmt: skip
    assert found[1, :, :4].int().tolist() == [
        [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1],
    ]  # fmt: skip


def test_every_order_keeps_equally_much_less_than_one_piece_short():
    rng = torch.Generator().manual_seed(0)
    mass, scores = torch.rand(200, generator=rng), torch.rand(4, 200, generator=rng)
    shares = (0.1, 0.5, 0.9)
    found = best_first(scores, mass, shares, np.random.default_rng(0))
    short = torch.tensor(shares) - (found * mass).sum(-1) / mass.sum()
    assert (short >= -1e-6).all()
    assert (short < mass.max() / mass.sum()).all()
    assert (found[:, 0] <= found[:, 1]).all(), "what is kept of less is kept of more"


def test_equal_scores_come_in_an_order_of_chance():
    flat, mass = torch.zeros(2, 50), torch.ones(50)
    one, same, other = (
        best_first(flat, mass, (0.5,), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert (one == same).all()
    assert (one[0] == one[1]).all()
    assert (one != other).any()
    assert one.sum() == 50


def test_the_area_of_a_straight_line_is_a_half():
    assert area(np.array([0, 0.1, 1]), np.array([[0, 0.1, 1.0], [1, 1, 1]])) == pytest.approx(
        [0.5, 1]
    )


def test_the_true_edge_keeps_the_answer_and_its_loss_takes_it(copying):
    clean = read_clean(copying, torch.tensor(tokenize(copying, TEXT)))
    key = tokenize(copying, TEXT).index(tokenize(copying, " blue")[0])
    assert clean.token in tokenize(copying, " blue")
    truth = torch.zeros_like(clean.mass.attention)
    truth[1, -1, key] = 1
    rng = torch.Generator().manual_seed(0)
    true = Pieces(truth, clean.mass.mlp).flat()
    scores = torch.stack([true, *torch.rand(20, len(true), generator=rng)])
    mass, shares = clean.mass.flat(), (0.05, 0.2, 0.5)
    first = best_first(scores, mass, shares, np.random.default_rng(0))
    zero = Absent.zero(clean)
    kept, removed = (
        with_only(copying, clean, clean.mass.unflat(rows.flatten(0, 1)), zero)
        .log_probability.reshape(21, 3) - clean.log_p.max().item()
        for rows in (first, ~first)
    )  # fmt: skip
    assert np.abs(kept[0]).max() < 1e-4, "the one edge keeps all of the answer"
    assert removed[0].max() < -1, "without it the answer is gone"
    assert (np.exp(kept[1:]).mean(1) <= np.exp(kept[0]).mean()).all()
    assert np.exp(kept[1:, 0]).mean() < 0.5
