from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

from lenses.states.decoding import (
    Decoder,
    MeanStates,
    Readout,
    edited,
    is_tied,
    read_states,
    readouts,
    single_tokens,
    sites,
)
from models import load
from models.native import vocabulary_tokenizer
from models.planted.places import planted_places
from models.verification import CHECK_TEXT

CHARACTERS = sorted({*CHECK_TEXT.read_text("utf-8"), *"0123456789"})
VOCAB = len(CHARACTERS)


def saved(config, folder: Path) -> str:
    """A model of that shape with random weights, in a folder that `load` reads."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(config)
    for parameter in plain.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    plain.tie_weights()
    plain.save_pretrained(folder)
    vocabulary_tokenizer({char: i for i, char in enumerate(CHARACTERS)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def reading(adder):
    tokens = torch.randint(0, 10, (3, 12), generator=torch.Generator().manual_seed(0))
    row, pos = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 5, 11, 3, 7])
    return tokens, row, pos, *read_states(adder, tokens, sites(adder), row, pos)


def test_sites_from_bottom_to_top(adder) -> None:
    every = sites(adder, ("embedding", "resid_mid", "resid_post"))
    assert [site.passed for site in every] == [0, 0.5, 1, 1.5, 2]
    assert [site.passed for site in sites(adder)] == [0, 1, 2]
    assert [site.passed for site in sites(adder, ("resid_post",))] == [1, 2]


def test_states_are_those_of_the_cache(adder, reading) -> None:
    tokens, row, pos, states, said = reading
    logits, cache = adder.run_with_cache(tokens)
    names = ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    for state, name in zip(states, names, strict=True):
        assert torch.equal(state, cache[name][row, pos])
    assert said.tolist() == [-1, *logits[row, pos - 1].argmax(-1)[1:].tolist()]


def test_the_logit_lens_at_the_last_site_is_the_model(adder, reading) -> None:
    tokens, row, pos, states, _ = reading
    decoder, ids = Decoder(adder, torch.zeros(3, states.shape[-1])), torch.arange(13)
    expected = adder(tokens)[row, pos]
    assert torch.allclose(decoder(states, Readout(), ids)[-1], expected, atol=1e-4)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_logit_lens_of_gemma_keeps_its_soft_cap(tmp_path, softcap) -> None:
    config = Gemma2Config(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, vocab_size=VOCAB, final_logit_softcapping=softcap,
    )  # fmt: skip
    model = load(saved(config, tmp_path))
    tokens = torch.randint(0, VOCAB, (2, 7))
    row, pos = torch.tensor([0, 1]), torch.tensor([6, 3])
    states, _ = read_states(model, tokens, sites(model), row, pos)
    decoder = Decoder(model, torch.zeros(3, 24))
    found = decoder(states, Readout(), torch.arange(VOCAB))[-1]
    assert torch.allclose(found, model(tokens)[row, pos], atol=1e-4)
    # Gemma multiplies its embedding on the way in: E and U are one decoder all the same.
    assert is_tied(model)
    assert [r.decoder for r in readouts(model)] == ["U", "U"]


def test_e_is_another_decoder_only_where_it_is_another_matrix(tmp_path, adder) -> None:
    shape = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "vocab_size": VOCAB,
    }
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12}
    apart = load(saved(LlamaConfig(**shape, tie_word_embeddings=False), tmp_path / "apart"))
    tied = load(saved(LlamaConfig(**shape, tie_word_embeddings=True), tmp_path / "tied"))
    assert not is_tied(apart)
    assert is_tied(tied)
    assert {r.decoder for r in readouts(apart)} == {"E", "U"}
    apart.W_U.data.copy_((apart.W_E.detach().mT * 16).round() / 16)
    assert is_tied(apart), "the same matrix, rounded, is still one decoder"
    apart.W_U.data[:, 3] *= -1
    assert not is_tied(apart), "one token that is another is enough"
    states = torch.randn(2, 3, 24)
    decoder, ids = Decoder(apart, torch.zeros(2, 24)), torch.tensor([4, 7])
    found = decoder(states, Readout("E", "none"), ids)
    assert torch.allclose(found, states @ apart.W_E[ids].T, atol=1e-5)


def test_norms_and_centring_by_hand(adder, reading) -> None:
    _, _, _, states, _ = reading
    centre = torch.randn(3, states.shape[-1])
    decoder, ids = Decoder(adder, centre), torch.tensor([1, 5])
    U = adder.W_U[:, ids]
    bias = 0 if adder.b_U is None else adder.b_U[ids]
    unit = states / states.norm(dim=-1, keepdim=True)
    assert torch.allclose(decoder(states, Readout(norm="none"), ids), states @ U + bias, atol=1e-4)
    assert torch.allclose(decoder(states, Readout(norm="unit"), ids), unit @ U + bias, atol=1e-5)
    moved = (states - centre[:, None]) @ U + bias
    assert torch.allclose(decoder(states, Readout("U", "none", True), ids), moved, atol=1e-4)


@pytest.mark.parametrize("how", [Readout(), Readout(centred=True), Readout("U", "none")])
def test_ranks_and_the_likeliest_against_a_plain_softmax(adder, reading, how, monkeypatch) -> None:
    _, _, _, states, _ = reading
    decoder = Decoder(adder, torch.randn(3, states.shape[-1]))
    vocabulary = adder.W_U.shape[1]
    logprob = decoder(states, how, torch.arange(vocabulary)).log_softmax(-1)
    ids = torch.randint(0, vocabulary, (5, 2))
    monkeypatch.setattr("lenses.states.decoding.NUMBERS", 4 * vocabulary)  # several pieces
    found, rank = decoder.ranked(states, how, ids)
    order = logprob.argsort(dim=-1, descending=True).argsort(dim=-1) + 1
    asked = ids.expand(3, 5, 2)
    assert torch.allclose(found, logprob.gather(-1, asked), atol=1e-5)
    assert torch.equal(rank, order.gather(-1, asked))
    best, token = decoder.likeliest(states, how, 3)
    assert torch.allclose(best, logprob.topk(3).values, atol=1e-5)
    assert torch.equal(token[..., 0], logprob.argmax(-1))


def test_mean_states_per_group_and_their_state() -> None:
    rng = torch.Generator().manual_seed(0)
    states, group = torch.randn(2, 9, 4, generator=rng), torch.tensor([0, 1, 1, -1, 0, 2, 2, 2, -1])
    whole, halves = MeanStates(4), MeanStates(4)
    whole.update(states, group)
    halves.update(states[:, :4], group[:4])
    resumed = MeanStates(4)
    resumed.restore(halves.state())
    resumed.update(states[:, 4:], group[4:])
    for means in (whole, resumed):
        assert means.count.tolist() == [2, 2, 3, 0]
        for number in range(3):
            expected = states[:, group == number].mean(1)
            assert torch.allclose(means.mean[number], expected, atol=1e-6)
        assert not means.mean[3].any()
    fresh = MeanStates(4)
    fresh.restore(MeanStates(4).state())
    with pytest.raises(ValueError, match="no state"):
        _ = fresh.mean
    assert np.isfinite(whole.state()["sum"]).all()


def test_words_of_one_token_and_of_several() -> None:
    model = planted_places()
    ids = model.tokenizer.get_vocab()
    assert single_tokens(model, "hundred") == [ids[" hundred"]]
    assert single_tokens(model, "万") == [ids["万"]]
    assert single_tokens(model, "x") == [ids["x"]]
    assert single_tokens(model, "lamp") == []


def test_an_edit_reaches_its_pos_and_what_comes_after(adder) -> None:
    tokens = torch.randint(0, 10, (3, 12), generator=torch.Generator().manual_seed(1))
    pos, read, row = torch.tensor([2, 5, 7]), torch.tensor([9, 4, 7]), torch.arange(3)
    logits, cache = adder.run_with_cache(tokens)
    width = adder.cfg.d_model
    for site in sites(adder):
        same, state = edited(adder, tokens, site, pos, torch.zeros(3, width), read)
        assert torch.allclose(same, logits[row, read], atol=1e-4)
        assert torch.allclose(state, cache["blocks.1.hook_resid_post"][row, pos], atol=1e-4)
    change = torch.randn(3, width)
    moved, state = edited(adder, tokens, sites(adder)[-1], pos, change, read)
    # Added to the last state, a change is added to what is read there, and reaches no other pos.
    assert torch.allclose(state - change, cache["blocks.1.hook_resid_post"][row, pos], atol=1e-4)
    assert torch.allclose(moved[:2], logits[row, read][:2], atol=1e-4)
    decoder = Decoder(adder, torch.zeros(1, width))
    expected = decoder(state[None], Readout(), torch.arange(13))[0, 2]
    assert torch.allclose(moved[2], expected, atol=1e-4)
    earlier, _ = edited(adder, tokens, sites(adder)[0], pos, change, read)
    assert not torch.allclose(earlier[0], logits[0, 9], atol=1e-3)
    assert torch.allclose(earlier[1], logits[1, 4], atol=1e-4)
