"""Norms found by what they do, and the one readout from the last state to the logits."""

import pytest
import torch
from torch import nn

from lenses.states.decoding import Decoder, Readout
from models import identities, load
from models.parts import attention_out, final_norm, measured_norm, mlp_norms
from models.readout import unembedding
from models.verification import check_tokens
from tests.models.tiny import LLAMA, SIZE, save, saying, tiny

WIDE = {**SIZE, "intermediate_size": 96, "max_position_embeddings": 512, "bos_token_id": None}
MODELS = {
    "a divisor (Granite)": lambda: tiny("granite", **LLAMA, logits_scaling=8.0),
    "a factor (Cohere)": lambda: tiny("cohere", **LLAMA, logit_scale=0.3),
    "a soft cap (Gemma 2)": lambda: tiny("gemma2", **LLAMA, head_dim=12),
    "a bias (Phi)": lambda: saying_much(),
    "a norm without weights (OLMo 1)": lambda: tiny("olmo", **LLAMA),
    "a norm that stores its distance from one (Gemma)": lambda: tiny("gemma", **LLAMA, head_dim=12),
    "nothing (Llama)": lambda: tiny("llama", **LLAMA),
    "one key for all heads": lambda: tiny("llama", **LLAMA | {"num_key_value_heads": 1}),
    "heads wider than the model": lambda: tiny("llama", **LLAMA, head_dim=20),
    "biases on the MLP alone, and a tied head": lambda: tiny(
        "llama", **LLAMA, mlp_bias=True, tie_word_embeddings=True
    ),
    "biases on queries, keys and values alone": lambda: tiny("qwen2", **LLAMA),
    "a norm of the embedding (BLOOM)": lambda: tiny("bloom", hidden_size=48, n_layer=3, n_head=4),
}


def saying_much():
    from tests.models.tiny import byte_tokenizer

    return saying(byte_tokenizer(), {7: 3.0, 9: -2.0})


class Offset(nn.Module):
    """Gemma's norm: the weight is the distance of the gain from one."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x):
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return (normed * (1 + self.weight.float())).to(x.dtype)


def random(norm):
    """The norm with random weights."""
    for weight in norm.parameters():
        nn.init.normal_(weight)
    return norm


@pytest.mark.parametrize("width", [48, 33])
@pytest.mark.parametrize(
    ("make", "kind", "eps"),
    [
        (lambda d: nn.LayerNorm(d, eps=1e-5), "LN", 1e-5),
        (lambda d: nn.LayerNorm(d, eps=1e-12, bias=False), "LN", 0),
        (lambda d: nn.LayerNorm(d, eps=1e-5, elementwise_affine=False), "LN", 1e-5),
        (lambda d: nn.RMSNorm(d, eps=1e-3), "RMS", 1e-3),
        (lambda d: nn.RMSNorm(d, eps=1e-6, elementwise_affine=False), "RMS", 1e-6),
        (Offset, "RMS", 1e-6),
        (lambda d: nn.Identity(), None, 0),
    ],
)
def test_a_norm_is_found_by_what_it_does(make, kind, eps, width):
    torch.manual_seed(0)
    norm = random(make(width))
    found = measured_norm(norm, torch.zeros(width))
    assert found.kind == kind
    assert found.eps == pytest.approx(eps, rel=1e-6, abs=1e-11)
    for size in (1e-3, 1.0, 1e3):
        states = size * torch.randn(5, width)
        torch.testing.assert_close(found(states), norm(states), rtol=1e-4, atol=1e-5)


def test_a_norm_in_bfloat16_has_its_gain_to_the_bit():
    norm = Offset(48).bfloat16()
    assert torch.equal(measured_norm(norm, torch.zeros(48).bfloat16()).gain, 1 + norm.weight)


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    return load(str(save(tmp_path_factory.mktemp("readout"), MODELS[request.param]())))


@pytest.fixture(scope="module")
def last(model):
    tokens = check_tokens(model.card, model.tokenizer, 64)
    name = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=[name])
    return cache[name][0], logits[0]


def test_the_readout_of_the_last_state_gives_the_logits(model, last):
    states, logits = last
    assert all(identity.ok for identity in identities(model))
    torch.testing.assert_close(unembedding(model)(states), logits, rtol=1e-4, atol=1e-4)
    some = torch.tensor([3, 200, 7])
    torch.testing.assert_close(
        unembedding(model)(states, some), logits[:, some], rtol=1e-4, atol=1e-4
    )


def test_the_logit_lens_is_the_same_readout(model, last):
    states, logits = last
    decoder = Decoder(model, torch.zeros(1, model.cfg.d_model))
    found = decoder(states[None], Readout(), torch.arange(logits.shape[-1]))[0]
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


def test_parts_of_a_state_add_up_to_its_logits(model, last):
    """Along the directions, at a frozen norm: what is left is the same for every state."""
    states, logits = last
    head, ids = unembedding(model), torch.arange(last[1].shape[-1])
    linear = logits if head.cap is None else head.cap * torch.atanh(logits / head.cap)
    parts = torch.stack([0.3 * states, 0.7 * states])
    found = (parts @ head.directions(ids).mT / head.norm.scale(states)).sum(0)
    left = linear - found
    torch.testing.assert_close(left, left[:1].expand_as(left), rtol=1e-3, atol=2e-3)


def test_factors_on_what_is_added_are_part_of_the_heads(tmp_path):
    shape = {**LLAMA, "residual_multiplier": 0.22}
    model = load(str(save(tmp_path, tiny("granite", **shape))))
    plain = model.original_model.model.layers[1].self_attn.o_proj.weight
    own = torch.einsum("hdm->mhd", attention_out(model).W_O[1]).flatten(1)
    torch.testing.assert_close(own, 0.22 * plain)


def test_norms_without_weights_have_gain_one(tmp_path):
    model = load(str(save(tmp_path, tiny("olmo", **LLAMA))))
    for norm in (final_norm(model), *mlp_norms(model)):
        assert norm.kind == "LN"
        torch.testing.assert_close(norm.gain, torch.ones(48))
        assert not norm.shift.any()
