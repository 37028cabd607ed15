"""Relevances against naive sums, closed forms, and a planted model whose answer is known."""

import pytest
import torch
from einops import repeat

from lenses.flow.relevance import (
    LAYERED,
    attention_rows,
    gradient_relevance,
    inside_window,
    over_rows,
    without_sink,
)
from lenses.patching.knock_out import mean_embedding
from models import load
from models.passes import windows
from models.planted.copy import planted_copy
from tests.lenses.blocks import CONFIGS, tiny
from tests.lenses.patching.test_knock_out import PROMPT, close, naive
from tests.models.tiny import LLAMA, save
from tests.models.tiny import tiny as of_kind


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (11,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found(model, tokens):
    return attention_rows(model, tokens, PROMPT)


@pytest.fixture(scope="module")
def cache(model, tokens):
    model.set_use_attn_result(True)
    cache = model.run_with_cache(tokens[None, :-1])[1]
    model.set_use_attn_result(False)
    return cache


def rows(found, measure):
    return found.rows[LAYERED.index(measure)]


def test_attention_is_that_of_the_rows_that_say_something(found, cache):
    for layer in range(2):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0, :, PROMPT - 1 :]
        close(rows(found, "attention")[layer], pattern.mean(0), 1e-6)
        close(rows(found, "attention_max")[layer], pattern.max(0).values, 1e-6)
        bare = pattern[..., 1:] / pattern[..., 1:].sum(-1, keepdim=True)
        close(rows(found, "attention_without_sink")[layer][:, 1:], bare.nan_to_num().mean(0))
        assert (rows(found, "attention_without_sink")[layer][:, 0] == 0).all()


def test_value_weighted_is_what_each_head_takes_from_each_token(model, found, cache):
    for layer in range(2):
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"][0].double()
        v = cache[f"blocks.{layer}.attn.hook_v"][0].double()
        v = repeat(v, "pos kv d -> pos (kv group) d", group=len(pattern) // v.shape[1])
        gain = 1.0
        if hasattr(model.blocks[layer], "ln1_post"):
            gain = 1 + model.blocks[layer].ln1_post.original_component.weight.double()
        for row in range(3):
            query = PROMPT - 1 + row
            taken = torch.stack(
                [
                    torch.stack(
                        [
                            pattern[head, query, key]
                            * (v[key, head] @ model.W_O[layer, head].double() * gain)
                            for head in range(len(pattern))
                        ]
                    )
                    for key in range(v.shape[0])
                ]
            )
            apart, summed = taken.norm(dim=-1).sum(-1), taken.sum(1).norm(dim=-1)
            close(rows(found, "value_weighted")[layer, row], apart / apart.sum())
            close(rows(found, "value_weighted_sum")[layer, row], summed / summed.sum())


def test_what_is_taken_from_all_tokens_is_what_attention_writes(model, cache):
    """The naive sum above is the model's own: it pairs values, heads and groups in this way."""
    pattern = cache["blocks.1.attn.hook_pattern"][0].double()
    v = cache["blocks.1.attn.hook_v"][0].double()
    v = repeat(v, "pos kv d -> pos (kv group) d", group=len(pattern) // v.shape[1])
    result = torch.einsum("hqk,khd,hdm->qhm", pattern, v, model.W_O[1].double())
    close(cache["blocks.1.attn.hook_result"][0], result)


def test_rollout_multiplies_layers(found, cache):
    eye = torch.eye(10)
    first, second = (
        (cache[f"blocks.{layer}.attn.hook_pattern"][0].mean(0) + eye) / 2 for layer in range(2)
    )
    close(rows(found, "rollout")[0], first[PROMPT - 1 :], 1e-6)
    close(rows(found, "rollout")[1], (second @ first)[PROMPT - 1 :], 1e-6)


def test_rows_sum_to_one_over_what_they_can_see(found):
    for measure in set(LAYERED) - {"attention_max"}:
        close(rows(found, measure).sum(-1), torch.ones(2, 3), 1e-5)
    generated = rows(found, "attention")[:, :, PROMPT:].sum(-1)
    prompt = rows(found, "attention")[:, :, :PROMPT].sum(-1)
    close(prompt, 1 - generated, 1e-5)
    assert (generated[:, 0] == 0).all()
    assert (generated[:, 1:] > 0).any()


def test_relevance_is_the_mean_over_rows_that_can_see(found):
    relevance = over_rows(found.rows, PROMPT)
    close(relevance[..., :PROMPT], found.rows[..., :PROMPT].mean(-2), 1e-6)
    close(relevance[..., PROMPT], found.rows[..., 1:, PROMPT].mean(-1), 1e-6)
    close(relevance[..., PROMPT + 1], found.rows[..., 2:, PROMPT + 1].mean(-1), 1e-6)
    assert relevance.shape[-1] == PROMPT + 2


def test_relevance_by_hand():
    seen = torch.tensor([[0.2, 0.8, 0.0, 0.0], [0.1, 0.4, 0.5, 0.0], [0.3, 0.3, 0.1, 0.3]])
    close(over_rows(seen, 2), torch.tensor([0.2, 0.5, 0.3, 0.3]), 1e-6)


def test_all_rows_weigh_early_tokens_by_more_rows(found, cache):
    pattern = cache["blocks.0.attn.hook_pattern"][0].mean(0)
    for token in range(10):
        close(found.all_rows[0, token], pattern[token:, token].mean(), 1e-6)


def test_lengths_are_those_of_the_residual_stream(found, cache):
    close(found.length[1], cache["blocks.1.hook_resid_pre"][0].norm(dim=-1))


def test_the_sink_is_removed_and_the_rest_renormalised():
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.5, 0.2, 0.3]])
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.4, 0.6]])
    torch.testing.assert_close(without_sink(pattern), expected)


def test_what_a_learned_sink_takes_is_no_token_s(tmp_path, tokens):
    shape = {**LLAMA, "head_dim": 16, "num_local_experts": 4, "sliding_window": 16}
    model = load(str(save(tmp_path, of_kind("gpt_oss", **shape))))
    found = attention_rows(model, tokens, PROMPT)
    assert rows(found, "attention").sum(-1).max() < 0.99
    for measure in ("attention_without_sink", "value_weighted", "value_weighted_sum", "rollout"):
        sums = rows(found, measure).sum(-1)
        close(sums, torch.ones_like(sums), 1e-5)


@pytest.mark.parametrize(("prompt", "length"), [(1, 2), (1, 4), (2, 3)])
def test_one_token_prompts_and_answers_divide_by_nothing(model, tokens, prompt, length):
    found = attention_rows(model, tokens[:length], prompt)
    for part in (found.rows, over_rows(found.rows, prompt), found.all_rows):
        assert part.isfinite().all()
    assert found.rows.shape == (len(LAYERED), 2, length - prompt, length - 1)
    gradients = gradient_relevance(model, tokens[:length], prompt, mean_embedding(model))
    assert not gradients.integrated.isinf().any()
    assert gradients.norm.isfinite().all()


def test_gradient_x_input_is_what_an_embedding_that_shrinks_costs(model, tokens):
    """The derivative of the answer by a factor before each embedding."""
    found = gradient_relevance(model, tokens, PROMPT, torch.zeros(24))
    factor = torch.ones(len(tokens), requires_grad=True)
    hook = ("hook_embed", lambda embed, hook: embed * factor[:, None])
    naive(model, tokens, PROMPT, [hook]).sum().backward()
    close(found.x_input, factor.grad[:PROMPT], 1e-3)


def test_integrated_gradients_sum_to_what_the_prompt_is_worth(tokens):
    """Completeness, on a model smooth enough for the few points of the path."""
    model = tiny(CONFIGS["gpt2"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 0.2
    reference = mean_embedding(model)
    found = gradient_relevance(model, tokens, PROMPT, reference)

    def replace(embed, hook):
        new = embed.clone()
        new[:, :PROMPT] = reference
        return new

    lost = naive(model, tokens, PROMPT) - naive(model, tokens, PROMPT, [("hook_embed", replace)])
    assert found.whole == pytest.approx(lost.sum().item(), rel=1e-3)
    assert found.integrated.sum().item() == pytest.approx(found.whole, rel=2e-2)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_planted_head_is_seen_in_its_own_layer(layer):
    text = "the dog that we saw is called Rex and the dog is called"
    model, head = planted_copy([text], ["Rex"], layer=layer)
    ids = model.tokenizer(text)["input_ids"]
    key = next(i for i, token in enumerate(ids) if model.tokenizer.decode([token]) == " Rex")
    tokens = torch.tensor([*ids, ids[key]])
    found = attention_rows(model, tokens, len(ids))
    for measure in ("attention", "attention_max", "value_weighted_sum"):
        assert over_rows(rows(found, measure)[layer], len(ids)).argmax() == key
    other = over_rows(rows(found, "attention_max")[1 - layer], len(ids))
    assert other[key] < 0.9 < over_rows(rows(found, "attention_max")[layer], len(ids))[key]
    gradients = gradient_relevance(model, tokens, len(ids), mean_embedding(model))
    assert gradients.integrated.argmax() == key
    assert 0 <= head < 6


def test_what_a_window_hides_gets_nothing():
    model = tiny(CONFIGS["post-norm"])
    tokens = torch.randint(0, 50, (11,), generator=torch.Generator().manual_seed(1))
    sizes = windows(model, tokens)
    assert sizes == [4, 4]
    attention = attention_rows(model, tokens, PROMPT).rows[0]
    close(inside_window(attention, PROMPT, sizes), torch.ones(2), 1e-5)
    narrow = inside_window(attention, PROMPT, [2, None])
    rows = [attention[0, row, PROMPT + row - 2 : PROMPT + row].sum() for row in range(3)]
    close(narrow, torch.stack([torch.stack(rows).mean(), torch.tensor(1.0)]), 1e-5)


def test_models_without_windows_see_everything():
    model = tiny(CONFIGS["gpt2"])
    assert windows(model, torch.arange(11)) == [None, None]
