"""What a loaded model offers, for every family, under TransformerLens 3.9 and 4.x alike."""

import pytest
import torch
from einops import einsum, rearrange

from models import identities, load, untrained
from models.parts import attention_out, final_norm, is_parallel
from models.text import continue_text, right_pad, token_strings, tokenize
from models.verification import relative_error

pytestmark = pytest.mark.contract

TEXT = "seven-ships;1874+26=1900"
END = 99
ATTENTION = {"gpt2": "attn", "gpt_neox": "attention"}
OUTPUT = {"gpt2": "c_proj", "gpt_neox": "dense"}


@pytest.fixture(scope="module")
def tokens(model):
    return torch.tensor([tokenize(model, TEXT)])


@pytest.fixture(scope="module")
def cache(model, tokens):
    with torch.no_grad():
        return model.run_with_cache(tokens)[1]


def plain_attention(plain, layer):
    """The attention module of plain transformers, and the map from z to its output."""
    kind = plain.config.model_type
    body = getattr(plain, plain.base_model_prefix)
    block = (body.h if kind == "gpt2" else body.layers)[layer]
    attention = getattr(block, ATTENTION.get(kind, "self_attn"))
    return block, attention, getattr(attention, OUTPUT.get(kind, "o_proj"))


def seen(module, run):
    """What a module of plain transformers puts out during a run."""
    found = []
    handle = module.register_forward_hook(lambda _m, _i, out: found.append(out))
    with torch.no_grad():
        run()
    handle.remove()
    return found[0]


def columns_of_head(plain, projection, head):
    """A view of the weights that read one head's z: rows in GPT-2, columns elsewhere."""
    weight, heads = projection.weight, plain.config.num_attention_heads
    by_input = weight if plain.config.model_type == "gpt2" else weight.T
    return rearrange(by_input, "(head d) m -> head d m", head=heads)[head]


def test_every_identity_holds(model):
    assert len(model.identities) >= 4
    assert all(identity.ok for identity in model.identities)
    assert all(identity.ok for identity in identities(model))


def test_logits_are_those_of_plain_transformers(model, plain, tokens):
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), plain(tokens).logits, rtol=1e-4, atol=1e-5)


def test_hooks_have_the_names_and_shapes_of_hooked_transformer(model, cache, tokens):
    cfg, pos = model.cfg, tokens.shape[1]
    wide = (1, pos, cfg.d_model)
    for layer in range(cfg.n_layers):
        at = f"blocks.{layer}."
        assert cache[f"{at}attn.hook_z"].shape == (1, pos, cfg.n_heads, cfg.d_head)
        assert cache[f"{at}attn.hook_pattern"].shape == (1, cfg.n_heads, pos, pos)
        for name in ("resid_pre", "resid_post", "attn_out", "mlp_out"):
            assert cache[f"{at}hook_{name}"].shape == wide
        assert (f"{at}hook_resid_mid" in cache) is not is_parallel(model)


def test_weights_are_stacked_by_layer_and_head(model):
    cfg = model.cfg
    assert model.W_O.shape == (cfg.n_layers, cfg.n_heads, cfg.d_head, cfg.d_model)
    assert model.W_E.shape == (100, cfg.d_model)
    assert model.W_U.shape == (cfg.d_model, 100)


def test_heads_sum_to_what_plain_attention_writes(model, plain, tokens, cache):
    out = attention_out(model)
    for layer in range(model.cfg.n_layers):
        _, _, projection = plain_attention(plain, layer)
        written = seen(projection, lambda: plain(tokens))
        z = cache[f"blocks.{layer}.attn.hook_z"]
        summed = einsum(z, out.W_O[layer], "b p head d, head d m -> b p m") + out.b_O[layer]
        torch.testing.assert_close(summed, written, rtol=1e-4, atol=1e-5)


def test_the_norm_after_attention_is_that_of_plain_transformers(folders):
    for name in ("gemma2", "gemma3"):
        model = load(str(folders[name]))
        out = attention_out(model)
        for layer in range(model.cfg.n_layers):
            tokens = torch.tensor([tokenize(model, TEXT)])
            with torch.no_grad():
                cache = model.run_with_cache(tokens)[1]
            z = cache[f"blocks.{layer}.attn.hook_z"]
            summed = einsum(z, out.W_O[layer], "b p head d, head d m -> b p m")
            rms = (summed.pow(2).mean(-1, keepdim=True) + out.post_eps).sqrt()
            entered = cache[f"blocks.{layer}.hook_attn_out"]
            torch.testing.assert_close(rms, cache[f"blocks.{layer}.ln1_post.hook_scale"])
            torch.testing.assert_close(out.post_gain[layer] * summed / rms, entered)


def test_slice_of_channels_of_attn_out_is_no_head(model, cache):
    """Cutting attn_out into n_heads pieces, as a popular library's documentation does."""
    out, name = attention_out(model), "blocks.0.hook_attn_out"
    z, written = cache["blocks.0.attn.hook_z"], cache[name]
    heads = einsum(z, out.W_O[0], "b p head d, head d m -> b p head m")
    pieces = torch.zeros_like(heads)
    width = model.cfg.d_model // model.cfg.n_heads
    for head in range(model.cfg.n_heads):
        channels = slice(head * width, (head + 1) * width)
        pieces[:, :, head, channels] = written[:, :, channels]
    torch.testing.assert_close(pieces.sum(2), written)
    cosine = torch.cosine_similarity(heads, pieces, dim=-1).abs()
    assert cosine.mean() < 0.9
    assert not torch.allclose(heads.norm(dim=-1), pieces.norm(dim=-1), rtol=0.1)


def test_zeroing_a_slice_of_z_is_slicing_W_O(model, plain, tokens):
    """Zero one head's z here; zero the weights that read it in plain transformers."""
    layer, head = model.cfg.n_layers - 1, 2

    def without_head(z, hook):
        z = z.clone()
        z[:, :, head] = 0
        return z

    _, _, projection = plain_attention(plain, layer)
    before = projection.weight.detach().clone()
    with torch.no_grad():
        ablated = model.run_with_hooks(
            tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", without_head)]
        )
        columns_of_head(plain, projection, head).zero_()
        expected = plain(tokens).logits
        projection.weight.copy_(before)
        assert not torch.allclose(expected, plain(tokens).logits, atol=1e-2)
    torch.testing.assert_close(ablated, expected, rtol=1e-4, atol=1e-5)


def test_final_norm_and_unembedding_give_the_logits(model, tokens, cache):
    norm = final_norm(model)
    logits = norm(cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]) @ model.W_U
    if (cap := getattr(model.cfg, "output_logits_soft_cap", None) or 0) > 0:
        logits = cap * torch.tanh(logits / cap)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(tokens), rtol=1e-4, atol=1e-4)


def test_right_padding_needs_no_mask(model):
    short, long = tokenize(model, TEXT[:9]), tokenize(model, TEXT)
    batch, lengths = right_pad([short, long])
    assert lengths.tolist() == [9, 24]
    with torch.no_grad():
        together, alone = model(batch), model(torch.tensor([short]))
    torch.testing.assert_close(together[:1, :9], alone, rtol=1e-4, atol=1e-5)


def test_continuations_are_those_of_plain_transformers(model, plain):
    prompts = [tokenize(model, text) for text in (TEXT, TEXT[:3], "a=b")]
    said = continue_text(model, prompts, new_tokens=8)
    for prompt, new in zip(prompts, said, strict=True):
        row = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                row.append(int(plain(torch.tensor([row])).logits[0, -1].argmax()))
        expected = row[len(prompt) :]
        assert new == (expected[: expected.index(END)] if END in expected else expected)


def test_continuation_stops_at_the_end_token(model):
    prompt = [tokenize(model, TEXT)]
    said = continue_text(model, prompt, 12, temperature=1e6, seed=0)[0]
    end, model.tokenizer.eos_token = model.tokenizer.eos_token, model.tokenizer.decode([said[5]])
    shorter = continue_text(model, prompt, 12, temperature=1e6, seed=0)[0]
    model.tokenizer.eos_token = end
    assert shorter == said[: said.index(said[5])]


def test_sampling_follows_the_seed(model):
    prompt = [tokenize(model, TEXT)]
    first, again, other = (
        continue_text(model, prompt, 12, temperature=3.0, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_tokens_are_shown_one_by_one(model):
    ids = tokenize(model, TEXT)
    assert token_strings(model, ids) == list(TEXT)
    assert model.to_tokens(TEXT).tolist() == [ids]


def test_untrained_twin_has_the_shape_and_nothing_else(model, tokens):
    twin, same, other = (untrained(model, seed) for seed in (1, 1, 2))
    assert all(identity.ok for identity in identities(twin))
    assert twin.card is model.card
    with torch.no_grad():
        logits = [m(tokens) for m in (twin, same, other, model)]
    assert logits[0].shape == logits[3].shape
    assert torch.equal(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)
    assert not torch.allclose(logits[0], logits[3], atol=1e-3)
    assert not torch.equal(untrained(twin, 1).W_E, twin.W_E), "a model is no twin of itself"


def test_folded_weights_say_the_same(folder, model, tokens):
    folded = load(str(folder), processing="folded")
    assert all(identity.ok for identity in folded.identities)
    with torch.no_grad():
        said = [m(tokens).log_softmax(-1) for m in (folded, model)]
    assert relative_error(*said) < 1e-4
    assert relative_error(folded.W_U, model.W_U) > 1e-2


def test_bfloat16_is_computed_in_bfloat16(folder):
    model = load(str(folder), dtype="bfloat16")
    assert model.W_O.dtype == torch.bfloat16
    assert {identity.tolerance for identity in model.identities} == {0, 1e-2, 2e-2}
