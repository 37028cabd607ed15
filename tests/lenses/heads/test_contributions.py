"""Contributions against a naive computation, one head at a time, and against closed forms."""

from dataclasses import fields
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM

from lenses.heads import contributions as lens
from lenses.heads.contributions import (
    COMPONENTS,
    Contributions,
    HeadMeasures,
    contributions,
    output_gain,
)
from models.hooked import hook_model
from models.parts import AttentionOut
from tests.lenses.blocks import CONFIGS, tiny


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (3, 11), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def group():
    return torch.tensor([[-1] * 1 + [0] * 5 + [1] * 5, [-1] + [0] * 10, [-1] * 2 + [1] * 9])


@pytest.fixture(scope="module")
def found(model, tokens, group) -> Contributions:
    return contributions(model, tokens, group)


@pytest.fixture(scope="module")
def cache(model, tokens):
    model.set_use_attn_result(True)
    cache = model.run_with_cache(tokens)[1]
    model.set_use_attn_result(False)
    return cache


def naive_results(cache, model, layer: int) -> torch.Tensor:
    """Each head's vector in the residual stream [batch, pos, head, d_model], from the cache."""
    result = cache[f"blocks.{layer}.attn.hook_result"].double()
    if f"blocks.{layer}.ln1_post.hook_in" not in cache:
        return result
    block = result.sum(dim=2)
    gain = 1 + model.blocks[layer].ln1_post.original_component.weight.double()
    rms = (block.square().mean(dim=-1) + 1e-6).sqrt()
    return result * gain / rms[..., None, None]


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_every_measure_equals_the_naive_one(found, cache, model) -> None:
    for layer in range(2):
        result = naive_results(cache, model, layer)
        o = result.sum(dim=2)
        whole = o.norm(dim=-1)
        nearer = torch.zeros(result.shape[:3])
        for head in range(result.shape[2]):
            r, at = result[:, :, head], (slice(None), slice(None), layer, head)
            within = partial(close, tolerance=1e-6)
            within(found.l2_norm[at], r.norm(dim=-1))
            within(found.cosine[at], torch.cosine_similarity(r, o, dim=-1))
            within(found.closeness[at], 1 - (o - r).norm(dim=-1) / whole)
            within(found.projection_share[at], (r * o).sum(-1) / whole**2)
            within(found.norm_share[at], r.norm(dim=-1) / result.norm(dim=-1).sum(-1))
            lost = o.abs().sum(-1) - (o - r).abs().sum(-1)
            nearer[:, :, head] = lost.clamp(min=0)
        total = nearer.sum(-1, keepdim=True)
        expected = torch.where(total > 0, nearer / total, 0)
        close(found.l1_proximity[:, :, layer], expected)
        assert torch.equal(found.l1_proximity_defined[:, :, layer], total[..., 0] > 0)


def test_attention_entropy_equals_the_naive_one(found, cache, tokens) -> None:
    for layer in range(2):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"].double()
        for query in range(tokens.shape[1]):
            row = pattern[:, :, query, : query + 1]
            entropy = -(row * row.clamp(min=1e-300).log()).sum(-1)
            keys = max(2, int((row > 0).sum(-1).max()))
            close(found.attention_entropy[:, query, layer], entropy)
            close(
                found.attention_entropy_share[:, query, layer], entropy / torch.tensor(keys).log()
            )
    assert not found.attention_entropy_defined[:, 0].any()
    assert found.attention_entropy_defined[:, 1:].all()
    assert (found.attention_entropy[:, 0] == 0).all()


def test_beside_a_learned_sink_the_entropy_is_that_of_the_row_renormalised() -> None:
    pattern = torch.ones(1, 1, 4, 4).tril()
    pattern = 0.25 * pattern / pattern.sum(-1, keepdim=True)  # three quarters go to the sink
    found = lens._attention_scalars(pattern, True)
    even = torch.arange(1, 5).log()
    assert torch.allclose(found["attention_entropy"][0, :, 0], even, atol=1e-6)
    assert torch.allclose(found["attention_sum"], torch.tensor(0.25))


def test_a_window_limits_the_keys() -> None:
    pattern = torch.ones(1, 1, 6, 6).tril().triu(-2)
    pattern = pattern / pattern.sum(-1, keepdim=True)
    found = lens._attention_scalars(pattern, False)
    close(found["attention_entropy_share"][0, 1:, 0], torch.ones(5))


def test_rows_sum_to_one_and_projection_shares_too(found) -> None:
    close(found.attention_sum, torch.ones_like(found.attention_sum))
    close(found.projection_share.sum(-1), torch.ones_like(found.l2_norm[..., 0]))
    close(found.component_share.sum(-1), torch.ones_like(found.l2_norm[..., 0]))


def test_the_heads_and_the_bias_sum_to_what_the_model_writes(found) -> None:
    assert found.output_error.max() < 1e-5


def test_components_equal_the_cache(found, cache, model) -> None:
    for layer in range(2):
        before, after = (cache[f"blocks.{layer}.hook_resid_{x}"].double() for x in ("pre", "post"))
        written = cache[f"blocks.{layer}.hook_attn_out"].double()
        heads = naive_results(cache, model, layer).sum(dim=2)
        parts = {
            "attention": heads,
            "b_O": written - heads,
            "mlp": after - before - written,
            "residual": before,
        }
        for i, name in enumerate(COMPONENTS):
            share = (parts[name] * after).sum(-1) / after.square().sum(-1)
            close(found.component_share[:, :, layer, i], share)
            close(found.component_norm[:, :, layer, i], parts[name].norm(dim=-1), 2e-5)
        bias = ((written - heads) * written).sum(-1) / written.square().sum(-1)
        close(found.bias_share[:, :, layer], bias)


def test_variances_are_traces_of_covariances(found, cache, model, group) -> None:
    for layer in range(2):
        result = naive_results(cache, model, layer)
        for prompt in range(3):
            for g in range(2):
                chosen = result[prompt, group[prompt] == g]
                if not len(chosen):
                    continue
                summed = chosen.sum(dim=1).var(dim=0, correction=0).sum()
                close(found.sum_variance[prompt, g, layer], summed)
                each = chosen.var(dim=0, correction=0).sum(dim=-1)
                close(found.head_variance[prompt, g, layer], each)


def test_surprisal_is_the_models_own(found, model, tokens, group, monkeypatch) -> None:
    logp = model(tokens, return_type="logits").log_softmax(-1)
    expected = -logp[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    monkeypatch.setattr(lens, "LOGITS", 7 * 50)  # seven positions at a time
    read, nats = HeadMeasures(model).with_surprisal(tokens, group)
    close(nats[:, 1:], expected)
    assert nats[:, 0].isnan().all()
    assert torch.equal(read.l2_norm, found.l2_norm)


def test_no_logits_are_made_where_they_are_not_asked_for(model, tokens, group) -> None:
    unembedded: list[torch.Size] = []
    handle = model.unembed.register_forward_hook(lambda *at: unembedded.append(at[-1].shape))
    contributions(model, tokens, group)
    handle.remove()
    assert unembedded == [(3, 0, 50)]
    assert model(tokens).shape == (3, 11, 50)


def test_tokens_that_cannot_be_said_have_no_surprisal() -> None:
    found = lens._nats(torch.zeros(3, 10), torch.tensor([3, 10, 9]))
    assert found.isnan().tolist() == [False, True, False]
    close(found[[0, 2]], torch.tensor([10.0, 10.0]).log())


def test_a_prompt_of_a_batch_by_itself(found) -> None:
    alone = found.prompt(2, 7)
    assert torch.equal(alone.l2_norm, found.l2_norm[2:3, :7])
    assert torch.equal(alone.head_variance, found.head_variance[2:3])


def test_right_padding_changes_nothing(model, tokens, group, found) -> None:
    padded = torch.nn.functional.pad(tokens, (0, 4))
    longer = contributions(model, padded, torch.nn.functional.pad(group, (0, 4), value=-1))
    close(longer.l2_norm[:, :11], found.l2_norm)
    close(longer.attention_entropy_share[:, :11], found.attention_entropy_share)
    close(longer.head_variance, found.head_variance)


def test_small_chunks_change_nothing(model, tokens, group, found, monkeypatch) -> None:
    monkeypatch.setattr(lens, "AT_ONCE", {"cpu": 300})
    monkeypatch.setattr(lens, "FEWEST_TOKENS", 4)
    chunked = contributions(model, tokens, group)
    for field in fields(Contributions):
        close(getattr(chunked, field.name), getattr(found, field.name))


def test_patterns_are_the_models_own(model, tokens, cache) -> None:
    found = lens.attention_patterns(model, tokens[1])
    assert found.shape == (2, model.cfg.n_heads, 11, 11)
    close(found[1], cache["blocks.1.attn.hook_pattern"][1])


def test_half_precision_is_accumulated_in_float64() -> None:
    plain = AutoModelForCausalLM.from_config(
        CONFIGS["grouped queries"], attn_implementation="eager"
    )
    half = hook_model(plain.to(torch.bfloat16).eval(), folded=False)
    tokens = torch.arange(8)[None]
    found = contributions(half, tokens, torch.zeros_like(tokens))
    assert found.l2_norm.dtype == torch.float64
    close(found.projection_share.sum(-1), torch.ones_like(found.l2_norm[..., 0]))
    assert 1e-5 < found.output_error.max() < 2e-2


def closed_form(results: list[list[float]]) -> dict[str, list[float]]:
    """The measures of heads that write the given vectors at a single token."""
    W = torch.tensor(results)[:, None, :]
    out = AttentionOut([W], torch.zeros(1, W.shape[-1]), None, 0.0)
    found = lens.head_scalars(lens.Layer.of(out, 0), torch.ones(1, len(results), 1)).scalars
    by_gram = lens.gram_scalars(lens.Written.of(torch.ones(1, 1, len(results), 1), out, 0))
    for name, value in by_gram.items():
        close(value[0], found[name], 1e-7)
    return {name: value[0].tolist() for name, value in found.items()}


def test_one_head_is_everything() -> None:
    found = closed_form([[3.0, -4.0, 0.0]])
    assert found["l2_norm"] == pytest.approx([5])
    for name in ("cosine", "closeness", "projection_share", "norm_share", "l1_proximity"):
        assert found[name] == pytest.approx([1], abs=1e-7), name


def test_a_head_that_is_nearly_everything_is_told_from_one_that_is() -> None:
    found = closed_form([[1.0, 0.0], [0.0, 1e-4]])
    assert found["closeness"][0] == pytest.approx(1 - 1e-4, abs=1e-7)


def test_orthogonal_heads_share_by_squares() -> None:
    found = closed_form([[3.0, 0.0], [0.0, 4.0]])
    assert found["cosine"] == pytest.approx([0.6, 0.8])
    assert found["projection_share"] == pytest.approx([0.36, 0.64])
    assert found["norm_share"] == pytest.approx([3 / 7, 4 / 7])
    assert found["l1_proximity"] == pytest.approx([3 / 7, 4 / 7])
    assert found["closeness"] == pytest.approx([0.2, 0.4])


def test_opposite_heads_cancel_into_nothing() -> None:
    found = closed_form([[1.0, 2.0], [-1.0, -2.0]])
    assert found["l2_norm"] == pytest.approx([5**0.5] * 2)
    for name in ("cosine", "closeness", "projection_share", "l1_proximity"):
        assert found[name] == [0, 0], name
    assert found["l1_proximity_defined"] is False
    found = closed_form([[3.0, 0.0], [-1.0, 0.0]])
    assert found["cosine"] == pytest.approx([1, -1])
    assert found["projection_share"] == pytest.approx([1.5, -0.5])


def test_gain_is_the_singular_values(model) -> None:
    found = output_gain(model)
    for layer in range(2):
        W = model.W_O[layer].double()
        if "ln1_post" in dict(model.blocks[layer].named_children()):
            W = W * (1 + model.blocks[layer].ln1_post.original_component.weight.double())
        expected = torch.linalg.svdvals(W)
        close(found[layer, :, : expected.shape[-1]], expected, 1e-4)
