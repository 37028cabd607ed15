"""Attribution in Gram forms against whole vectors, hooks and finite differences."""

import pytest
import torch
from einops import einsum

from lenses.heads.attribution import Attributing, output_gradients
from lenses.patching.single_heads import gate_effects, read_clean
from models import load
from models.parts import attention_out, final_norm, is_parallel, mlp_norms
from tests.lenses.blocks import CONFIGS, tiny


@pytest.fixture(scope="module", params=[*CONFIGS, "adder_6d_2l"])
def model(request):
    name = request.param
    return tiny(CONFIGS[name]) if name in CONFIGS else load(name)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 13, (12,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def clean(model, tokens):
    return read_clean(model, tokens)


@pytest.fixture(scope="module")
def cache(model, tokens):
    with torch.no_grad():
        return model.run_with_cache(tokens[None, :-1])[1]


@pytest.fixture(scope="module")
def found(model, tokens, clean):
    return Attributing(model)(tokens, clean)


def after_norm(model, cache, layer: int, written: torch.Tensor) -> torch.Tensor:
    """What vectors before the norm after attention are after it, its scale frozen."""
    if f"blocks.{layer}.ln1_post.hook_scale" not in cache:
        return written
    gain = attention_out(model).post_gain[layer].double()
    scale = cache[f"blocks.{layer}.ln1_post.hook_scale"][0].double()
    return written * gain / scale.reshape(-1, *[1] * (written.ndim - 1))


def results(model, cache, layer: int) -> torch.Tensor:
    """What each head writes [pos head d_model]."""
    z = cache[f"blocks.{layer}.attn.hook_z"][0].double()
    written = einsum(z, model.W_O[layer].double(), "pos head d, head d m -> pos head m")
    return after_norm(model, cache, layer, written)


def close(found, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_value_weighted_sums_what_is_moved_from_each_source(found, model, cache) -> None:
    for layer in range(2):
        v = cache[f"blocks.{layer}.attn.hook_v"][0].double()
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0].double()
        group = model.cfg.n_heads // v.shape[1]
        for head in range(model.cfg.n_heads):
            moved = v[:, head // group] @ model.W_O[layer, head].double()
            each = pattern[head, :, :, None] * moved  # query key d_model
            each = after_norm(model, cache, layer, each)
            close(found.value_weighted[:, layer, head], each.norm(dim=-1).sum(-1))
            whole = results(model, cache, layer)[:, head].norm(dim=-1)
            assert (found.value_weighted[:, layer, head] >= whole - 1e-6).all()


def test_direct_logits_are_those_through_the_frozen_norm(found, model, cache, clean, tokens):
    last = cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"][0].double()
    norm = final_norm(model)
    wide = last - last.mean(-1, keepdim=True) if norm.kind == "LN" else last
    rms = (wide.square().mean(-1) + norm.eps).sqrt()
    for layer in range(2):
        r = results(model, cache, layer)
        r = r - r.mean(-1, keepdim=True) if norm.kind == "LN" else r
        logits = (r * norm.gain.double() / rms[:, None, None]) @ model.W_U.double()
        for pos in range(11):
            true, rival = int(tokens[pos + 1]), int(clean.rival[pos])
            expected = logits[pos, :, true] - logits[pos, :, rival]
            close(found.direct_logit[pos, layer], expected)


def test_into_mlp_is_a_share_of_what_enters_the_neurons(found, model, cache) -> None:
    if is_parallel(model):
        assert found.into_mlp.isnan().all()
        return
    for layer, norm in enumerate(mlp_norms(model)):
        mid = cache[f"blocks.{layer}.hook_resid_mid"][0].double()
        weights = [model.W_in[layer], *([model.W_gate[layer]] if model.cfg.gated_mlp else [])]
        read = torch.cat(weights, dim=-1).double()
        wide = mid - mid.mean(-1, keepdim=True) if norm.kind == "LN" else mid
        rms = (wide.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        entering = (wide / rms * norm.gain + norm.shift).double() @ read
        r = results(model, cache, layer)
        r = r - r.mean(-1, keepdim=True) if norm.kind == "LN" else r
        each = (r * norm.gain.double() / rms[:, None]) @ read
        expected = each.norm(dim=-1) / entering.norm(dim=-1, keepdim=True)
        close(found.into_mlp[:, layer], expected)


def test_what_enters_the_neurons_is_the_models_own(model, cache) -> None:
    """The weights that `into_mlp` reads with give the hooked pre-activation, less its bias."""
    if is_parallel(model):
        return
    for layer, norm in enumerate(mlp_norms(model)):
        mid = cache[f"blocks.{layer}.hook_resid_mid"][0]
        weights = model.W_gate[layer] if model.cfg.gated_mlp else model.W_in[layer]
        apart = cache[f"blocks.{layer}.mlp.hook_pre"][0] - norm(mid) @ weights
        close(apart, apart[:1].expand_as(apart))


def test_gradients_are_the_slopes_of_gates(model, tokens, clean) -> None:
    weight = torch.zeros(2, 11)
    weight[0, 2:5] = 1 / 3
    weight[1, 9] = 1
    gradients = output_gradients(model, tokens, clean, weight)
    products = einsum(gradients, clean.z, "o layer pos head d, layer pos head d -> o layer head")
    step = 4e-3
    gates = torch.tensor([1 - step, 1 + step])
    for layer in range(2):
        for head in range(model.cfg.n_heads):
            nll = gate_effects(model, clean, [(layer, head)], gates)[0, :, 0]
            slope = (nll[0] - nll[1]) @ weight.T / (2 * step)
            close(products[:, layer, head], slope, 1e-2)


def test_gradients_leave_the_model_without_any(model, tokens, clean) -> None:
    output_gradients(model, tokens, clean, torch.ones(1, 11))
    assert all(p.grad is None for p in model.parameters())
