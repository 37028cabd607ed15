"""Likeness, overlap and joint removal against direct computations; clusters by hand."""

import numpy as np
import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from lenses.heads import redundancy
from lenses.heads.redundancy import (
    _hsic,
    cka,
    joint_effects,
    leaf_order,
    likeness,
    merges,
    share_below,
    subspace_overlap,
)
from lenses.patching.single_heads import Replacement, read_clean, removal_effects
from lenses.statistics.intervals import wilson
from models.hooked import hook_model
from models.parts import attention_out
from models.planted.twins import planted_twins

SIZES = {
    "vocab_size": 31, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64,
}  # fmt: skip
GEN = torch.Generator().manual_seed(0)
TEXTS = torch.randint(31, (3, 9), generator=GEN)
COUNTED = torch.cartesian_prod(torch.arange(3), torch.arange(1, 9))


def small(kind, config, **more):
    torch.manual_seed(0)
    plain = kind(config(**SIZES, **more, attn_implementation="eager"))
    for name, weight in plain.named_parameters():
        weight.data = torch.randn_like(weight) * (0.3 if "norm" in name else 0.4)
    model = hook_model(plain.eval().requires_grad_(False), folded=False)
    model.blueprint = plain.config
    return model


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request):
    if request.param == "llama":
        return small(LlamaForCausalLM, LlamaConfig)
    return small(Gemma3ForCausalLM, Gemma3TextConfig, query_pre_attn_scalar=8)


def results(model) -> torch.Tensor:
    """What each head adds to the residual stream [head token d_model], head by head."""
    out = attention_out(model)
    _, cache = model.run_with_cache(TEXTS)
    found = []
    for layer in range(2):
        raw = torch.einsum("bphd,hdm->bphm", cache[f"blocks.{layer}.attn.hook_z"], out.W_O[layer])
        if out.post_gain is not None:
            rms = (raw.sum(2, keepdim=True).square().mean(-1, keepdim=True) + out.post_eps).sqrt()
            raw = raw * out.post_gain[layer] / rms
        found.append(raw[COUNTED[:, 0], COUNTED[:, 1]].movedim(1, 0))
    return torch.cat(found).double()


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, by its sums over distinct indices written as loops."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    first = np.trace(k @ m)
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ k @ m @ one)
    return (first + second - third) / (n * (n - 3))


def test_likeness_equals_that_of_the_heads_own_vectors(model):
    found, r = likeness(model, TEXTS, COUNTED), results(model)
    unit = r / r.norm(dim=-1, keepdim=True)
    cosine = torch.einsum("atm,btm->ab", unit, unit)
    assert torch.allclose(found.cosine.double(), cosine, atol=1e-4)
    assert found.tokens == len(COUNTED)
    expected = [[naive_hsic(x, y) for y in r.numpy()] for x in r.numpy()]
    scale = np.abs(expected).max()
    assert np.allclose(found.hsic.numpy() / scale, np.array(expected) / scale, atol=1e-5)


def test_hsic_has_no_bias_where_heads_are_independent():
    rng = np.random.default_rng(0)
    values = []
    for _ in range(3000):
        x, y = rng.normal(size=(2, 6, 3))
        kernels = torch.from_numpy(np.stack([x @ x.T, y @ y.T]))
        values.append(_hsic(kernels)[0, 1].item())
    assert abs(np.mean(values)) < 4 * np.std(values) / 3000**0.5
    biased = np.mean([naive_hsic(x, x) for x in rng.normal(size=(500, 6, 3))])
    assert biased == pytest.approx(3, rel=0.1)  # the trace of the squared covariance


def test_cka_of_one_thing_turned_and_scaled_is_one():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 5))
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 7
    constant = np.ones((40, 5))
    kernels = torch.from_numpy(np.stack([v @ v.T for v in (x, turned, constant)]))
    found = cka(_hsic(kernels).numpy() * np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]]))
    assert found[0, 1] == pytest.approx(1)
    assert np.isnan(found[2]).all()


def test_three_tokens_are_too_few():
    with pytest.raises(ValueError, match="3 tokens are too few"):
        _hsic(torch.eye(3)[None])


def test_overlap_of_subspaces_in_closed_form():
    axes = torch.eye(6)
    turn = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    half = torch.stack([axes[0], 3**-0.5 * (axes[1] + axes[2] + axes[3])])
    weights = torch.stack([axes[:2], 5 * turn @ axes[:2], axes[4:], half])[None]
    expected = [
        [1, 1, 0, 2 / 3],
        [1, 1, 0, 2 / 3],
        [0, 0, 1, 0],
        [2 / 3, 2 / 3, 0, 1],
    ]
    assert np.allclose(subspace_overlap(weights), expected)


def test_overlap_of_random_subspaces_is_the_share_of_their_width():
    weights = torch.randn(1, 60, 4, 32, generator=torch.Generator().manual_seed(2))
    found = subspace_overlap(weights)
    others = found[~np.eye(60, dtype=bool)]
    assert others.mean() == pytest.approx(4 / 32, rel=0.02)


def test_removing_two_heads_equals_a_plain_hook_on_each(model, monkeypatch):
    tokens = TEXTS[0]
    clean = read_clean(model, tokens)
    other = read_clean(model, TEXTS[1]).z
    replacement = Replacement(other, other)
    true = tokens[1:]
    pairs = np.array([[0, 1], [2, 6], [5, 7], [3, 4]])
    expected = []
    for pair in pairs:
        hooks = []
        for number in pair:
            layer, head = divmod(int(number), 4)

            def swap(z, hook, layer=layer, head=head):
                z = z.clone()
                z[:, :, head] = other[layer, :, head]
                return z

            hooks.append((f"blocks.{layer}.attn.hook_z", swap))
        nll = [
            -logits.log_softmax(-1)[0].gather(-1, true[:, None])[:, 0]
            for logits in (
                model.run_with_hooks(tokens[None, :-1], fwd_hooks=hooks),
                model(tokens[None, :-1]),
            )
        ]
        expected.append(nll[0] - nll[1])
    found = joint_effects(model, clean, replacement, pairs)
    assert torch.allclose(found, torch.stack(expected), atol=1e-4)
    monkeypatch.setattr(redundancy, "LOGITS", 1)
    assert torch.allclose(joint_effects(model, clean, replacement, pairs), found, atol=1e-5)


def test_a_head_twice_is_that_head_alone(model):
    tokens = TEXTS[0]
    clean, other = read_clean(model, tokens), read_clean(model, TEXTS[1]).z
    replacement = Replacement(other, other)
    alone = removal_effects(model, clean, replacement, ["mean"])[0, 0, :, :, 0].flatten(0, 1)
    pairs = np.repeat(np.arange(8)[:, None], 2, axis=1)
    found = joint_effects(model, clean, replacement, pairs)
    assert torch.allclose(found, alone, atol=1e-4)


def test_twins_are_found():
    model, twins = planted_twins()
    tokens = torch.randint(10, (4, 21), generator=GEN)
    counted = torch.cartesian_prod(torch.arange(4), torch.arange(1, 21))
    found = likeness(model, tokens, counted)
    one, other = (layer * 6 + head for layer, head in twins)
    alike = cka(found.hsic.numpy())
    assert alike[one, other] == pytest.approx(1)
    assert found.cosine[one, other] == pytest.approx(found.cosine[one, one].item())
    np.fill_diagonal(alike, 0)
    assert {one, other} == set(np.unravel_index(np.nanargmax(alike), alike.shape))
    assert subspace_overlap(model.W_O)[one, other] == pytest.approx(1)


def test_clusters_by_hand():
    alike = np.array([[1, 0.9, 0.1, 0.3], [0.9, 1, 0.1, 0.3], [0.1, 0.1, 1, np.nan],
                      [0.3, 0.3, np.nan, 1]])  # fmt: skip
    merged = merges(alike)
    assert merged[0].tolist() == pytest.approx([0, 1, 0.1])
    assert merged[1].tolist() == pytest.approx([3, 4, 0.7])
    assert merged[2].tolist() == pytest.approx([2, 5, (0.9 + 0.9 + 1) / 3])
    assert leaf_order(merged).tolist() == [2, 3, 0, 1]


def test_share_of_cheap_heads_and_its_interval():
    costs = np.array([[0.0, 1.0, 0.005, 0.02], [0.0, 1.0, 0.005, 0.004]] * 8)
    estimate, low, high = share_below(costs, 0.01)
    assert estimate == 0.5
    assert low == pytest.approx(1 - high)
    # Resamples reach three heads of four: the distance to that, as t of 15 is wider, on both sides.
    assert high == pytest.approx(0.5 + 0.25 * 2.131 / 1.960 * np.sqrt(16 / 15), abs=1e-3)


def test_a_share_that_no_resample_changes_has_wilsons_interval_and_few_texts_none():
    costs = np.full((6, 4), 0.5)
    assert share_below(costs, 0.01) == (0, 0, wilson(0, 6)[1])
    assert np.isnan(share_below(costs[:4], 0.01)[1:]).all()
