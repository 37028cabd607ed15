"""Circuits over pairs of tokens, against plain weights and against the scores of the model."""

from functools import partial

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from lenses.heads.circuits import CIRCUITS, TokenPairs, circuits
from models import load
from models.hooked import hook_model
from models.planted.selection import planted_selection

SIZES = {
    "vocab_size": 31, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64,
}  # fmt: skip


def grouped(kind, config, **more):
    """A small model with grouped queries, rotation and, for Gemma 3, norms of q, k and output."""
    torch.manual_seed(0)
    plain = kind(config(**SIZES, **more, attn_implementation="eager"))
    for name, weight in plain.named_parameters():
        weight.data = torch.randn_like(weight) * (0.3 if "norm" in name else 0.4)
    return hook_model(plain.eval().requires_grad_(False), folded=False)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def model(request):
    if request.param == "llama":
        return grouped(LlamaForCausalLM, LlamaConfig)
    return grouped(Gemma3ForCausalLM, Gemma3TextConfig, query_pre_attn_scalar=8)


def rows_of(model, tokens, first):
    return circuits(model, tokens, first, lambda pairs: [pair.scores for pair in pairs])


def standard(scores: torch.Tensor) -> torch.Tensor:
    centred = scores - scores.mean(-1, keepdim=True)
    return centred / centred.std((-2, -1), keepdim=True)


def states(model, tokens, first):
    """Effective embeddings [token d_model]."""
    texts = torch.stack([torch.full_like(tokens, first), tokens], dim=1)
    return model.run_with_cache(texts)[1]["blocks.0.hook_resid_post"][:, 1]


def read_at(model, tokens, state, layer, names, *, edits=()):
    """What passes hooks of a layer, when a block but the first is given `state`."""
    seen = {}

    def see(name, x, hook):
        seen[name] = x

    given = [(f"blocks.{layer}.hook_resid_pre", lambda x, hook: state)] if layer else []
    hooks = [(f"blocks.{layer}.{name}", partial(see, name)) for name in names]
    model.run_with_hooks(tokens, fwd_hooks=[*given, *edits, *hooks])
    return seen


TOKENS, FIRST = torch.tensor([3, 9, 20, 27, 5]), 1


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_qk_scores_are_those_of_the_model_on_two_tokens(layer, model):
    """Every pair is put before the block by itself, and its attention score is read."""
    state, count = states(model, TOKENS, FIRST), len(TOKENS)
    expected = torch.zeros(6, count, count)
    for query in range(count):
        for key in range(count):
            pair = [key, query]
            seen = read_at(
                model, TOKENS[pair][None], state[pair][None], layer, ["attn.hook_attn_scores"]
            )
            expected[:, query, key] = seen["attn.hook_attn_scores"][0, :, 1, 0]
    found = rows_of(model, TOKENS, FIRST)[layer][CIRCUITS.index("QK, next pos")]
    assert torch.allclose(found, standard(expected), atol=1e-4)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_qk_scores_at_one_pos_are_those_at_any_pos(layer, model):
    state = states(model, TOKENS, FIRST)[:, None]
    names = ["attn.hook_rot_q", "attn.hook_rot_k"]
    seen = read_at(model, TOKENS[:, None], state, layer, names)
    q, k = (seen[name][:, 0] for name in names)
    scores = torch.stack([q[:, head] @ k[:, head // 3].T for head in range(6)])
    found = rows_of(model, TOKENS, FIRST)[layer][CIRCUITS.index("QK, same pos")]
    assert torch.allclose(found, standard(scores), atol=1e-4)


@pytest.mark.parametrize("head", range(6))
def test_ov_is_what_a_head_alone_writes_when_it_attends_to_a_token(head, model):
    """A text of one token attends to itself; the scale of the norm after attention, one number a
    row, is left out of the circuit, and only directions are compared."""

    def only(z, hook):
        kept = torch.zeros_like(z)
        kept[:, :, head] = z[:, :, head]
        return kept

    state = states(model, TOKENS, FIRST)[:, None]
    edits = [("blocks.1.attn.hook_z", only)]
    seen = read_at(model, TOKENS[:, None], state, 1, ["hook_attn_out"], edits=edits)
    weight = model.original_model.model.norm.weight
    gain = 1 + weight if "Gemma" in type(model.original_model).__name__ else weight
    logits = (seen["hook_attn_out"][:, 0] * gain) @ model.W_U[:, TOKENS]
    own = logits - logits.mean(-1, keepdim=True)
    found = rows_of(model, TOKENS, FIRST)[1][CIRCUITS.index("OV")][head]
    assert (torch.cosine_similarity(own, found, dim=-1) > 0.9999).all()


def test_the_first_block_of_an_adder_from_its_weights_alone():
    model = load("adder_6d_2l")
    tokens = torch.arange(13)
    found = rows_of(model, tokens, 12)[0]
    plain = model.original_model.transformer
    block = plain.h[0]
    at = {pos: block.ln_1(plain.wte.weight[:13] + plain.wpe.weight[pos]) for pos in (0, 1)}
    q, k, v = ({p: part.unflatten(-1, (4, -1)) for p, part in zip(at, parts, strict=True)}
               for parts in zip(*(block.attn.c_attn(x).split(128, -1) for x in at.values()),
                                strict=True))  # fmt: skip
    for number, pos in ((0, 1), (1, 0)):
        scores = torch.einsum("ahd,bhd->hab", q[1], k[pos])
        assert torch.allclose(found[number], standard(scores), atol=1e-4)
    W_O = block.attn.c_proj.weight.unflatten(0, (4, -1))
    written = torch.einsum("ahd,hdm->ham", v[1], W_O)
    written = (written - written.mean(-1, keepdim=True)) * plain.ln_f.weight
    logits = written @ model.W_U[:, :13]
    assert torch.allclose(found[2], standard(logits), atol=1e-3)


def test_planted_heads_match_and_copy():
    planted = planted_selection()
    own = circuits(planted.model, torch.arange(13), 12, lambda pairs: [p.own() for p in pairs])
    for name, (layer, head) in planted.heads.items():
        matches, _, copies = (own[layer][i][head] for i in range(3))
        assert ((matches == 1).all(), (copies == 1).all()) == {
            "duplicate": (True, False), "induction": (True, True),
        }.get(name, (False, False))  # fmt: skip


def test_pairs_and_favourites_by_hand():
    scores = torch.tensor([[[0.0, 1.0, -1.0], [2.0, 3.0, -5.0], [1.0, 2.0, -3.0]]])
    pairs = TokenPairs("OV", scores)
    assert torch.allclose(pairs.favourites, torch.tensor([[1.0, 2.0, -3.0]]))
    assert torch.allclose(pairs.special[0, 0], torch.tensor([-1.0, -1.0, 2.0]))
    found, score = pairs.top_pairs(1)
    assert found.tolist() == [[[0, 2]]]
    assert score.tolist() == [[2.0]]
    # Special: (-1, -1, 2), (1, 1, -2), (0, 0, 0); ties count a half.
    assert pairs.own().tolist() == [[0.25, 0.75, 0.5]]
