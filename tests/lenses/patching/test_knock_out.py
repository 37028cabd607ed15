"""Knock-outs against plain transformers, against closed forms, and on a planted model."""

import pytest
import torch

from lenses.patching import knock_out as lens
from lenses.patching.knock_out import (
    answered,
    edge_drops,
    embedding_drops,
    mean_embedding,
    shortened,
    without,
)
from models.planted.copy import planted_copy
from tests.lenses.blocks import CONFIGS, tiny

PROMPT = 8


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (11,), generator=torch.Generator().manual_seed(1))


def naive(model, tokens, prompt, hooks=()):
    """Log-probabilities of what follows the prompt, from all logits."""
    nats = model.run_with_hooks(tokens[None], fwd_hooks=list(hooks))[0].double().log_softmax(-1)
    return torch.stack([nats[pos - 1, tokens[pos]] for pos in range(prompt, len(tokens))])


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


def test_the_answer_is_read_where_it_was_said(model, tokens):
    found = answered(model, tokens[None], PROMPT)
    close(found.log_probability[0], naive(model, tokens, PROMPT))
    said = model(tokens[None])[0].argmax(-1)
    assert torch.equal(found.likeliest[0], said[PROMPT - 1 : -1])


def test_edges_to_one_token_are_cut_for_all_that_stands_after_it(model, tokens):
    drops = edge_drops(model, tokens, PROMPT)
    assert drops.shape == (3, PROMPT)
    for token in range(PROMPT):

        def cut(pattern, hook, token=token):
            new = pattern.clone()
            for query in range(token + 1, pattern.shape[-1]):
                new[:, :, query, token] = 0
                new[:, :, query] /= new[:, :, query].sum(-1, keepdim=True)
            return new

        hooks = [(f"blocks.{layer}.attn.hook_pattern", cut) for layer in range(2)]
        lost = naive(model, tokens, PROMPT) - naive(model, tokens, PROMPT, hooks)
        close(drops[:, token], lost)


def test_a_knocked_out_token_may_as_well_be_another_one():
    """Blocked in every layer, a token is not seen: in a model without positions it may be anything.

    (With post-norms and windows as without, so one family will do.)
    """
    model = tiny(CONFIGS["grouped queries"])
    tokens = torch.randint(0, 50, (11,), generator=torch.Generator().manual_seed(2))
    other = tokens.clone()
    other[3] = (tokens[3] + 7) % 50

    def without_it(text):
        return naive(model, text, PROMPT) - edge_drops(model, text, PROMPT)[:, 3]

    close(without_it(tokens), without_it(other))


def test_the_last_prompt_token_is_no_source_of_the_first_answer_token(model, tokens):
    assert edge_drops(model, tokens, PROMPT)[0, -1].abs() < 1e-5
    assert edge_drops(model, tokens[: PROMPT + 1], PROMPT)[:, -1].abs() < 1e-5


def test_an_embedding_is_replaced_at_one_token(model, tokens):
    instead = torch.randn(24, generator=torch.Generator().manual_seed(3))
    drops = embedding_drops(model, tokens, PROMPT, instead)
    for token in range(PROMPT):

        def replace(embed, hook, token=token):
            new = embed.clone()
            new[:, token] = instead
            return new

        lost = naive(model, tokens, PROMPT) - naive(
            model, tokens, PROMPT, [("hook_embed", replace)]
        )
        close(drops[:, token], lost)


def test_drops_do_not_depend_on_how_work_is_cut(model, tokens, monkeypatch):
    whole = edge_drops(model, tokens, PROMPT)
    monkeypatch.setattr(lens, "AT_ONCE", 3)
    close(edge_drops(model, tokens, PROMPT), whole, 1e-5)


def test_the_mean_embedding_is_that_of_all_tokens(model):
    seen = {}
    model.run_with_hooks(
        torch.arange(50).reshape(5, 10),
        fwd_hooks=[("hook_embed", lambda embed, hook: seen.update(embed=embed))],
    )
    close(mean_embedding(model), seen["embed"].reshape(50, -1).mean(0), 1e-6)


def test_cut_rows_are_renormalised_or_empty():
    pattern = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.5, 0.3, 0.2]])
    cut = without(pattern, torch.tensor([True, False, False]).expand(3, 3), has_sinks=False)
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.6, 0.4]])
    torch.testing.assert_close(cut, expected)


def test_a_learned_sink_grows_with_what_is_left_of_a_row():
    made = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 6, generator=made).double()  # the last column is the sink's
    gone = torch.tensor([False, True, False, False, True])
    pattern = scores.softmax(-1)[:, :-1]
    expected = scores.masked_fill(torch.cat([gone, gone[:1]]), -torch.inf).softmax(-1)
    torch.testing.assert_close(
        without(pattern, gone.expand(4, 5), has_sinks=True), expected[:, :-1]
    )
    everything = without(pattern, torch.ones(4, 5, dtype=torch.bool), has_sinks=True)
    assert not everything.any()


def test_shortened_prompts_are_shorter_prompts(model, tokens):
    found = shortened(model, tokens, PROMPT, [[1, 4], [2, 3]])
    for row, gone in enumerate([[1, 4], [2, 3]]):
        text = torch.tensor([t for pos, t in enumerate(tokens.tolist()) if pos not in gone])
        close(found.log_probability[row], naive(model, text, PROMPT - 2))


def test_one_token_prompts_and_answers_have_drops(model, tokens):
    for prompt, length in ((1, 2), (1, 4), (2, 3)):
        text = tokens[:length]
        assert edge_drops(model, text, prompt).isfinite().all()
        assert embedding_drops(model, text, prompt, torch.zeros(24)).isfinite().all()


@pytest.mark.parametrize("layer", [0, 1])
def test_in_a_planted_model_the_copied_word_alone_matters(layer):
    text = "the dog that we saw is called Rex and the dog is called"
    model, _ = planted_copy([text], ["Rex"], layer=layer)
    ids = model.tokenizer(text)["input_ids"]
    key = next(i for i, token in enumerate(ids) if model.tokenizer.decode([token]) == " Rex")
    tokens = torch.tensor([*ids, ids[key]])
    assert answered(model, tokens[None], len(ids)).likeliest[0, 0] == ids[key]
    for drops in (
        edge_drops(model, tokens, len(ids)),
        embedding_drops(model, tokens, len(ids), mean_embedding(model)),
    ):
        assert drops[0].argmax() == key
        assert drops[0, key] > 2
        others = torch.arange(len(ids)) != key
        assert drops[0, others].abs().max() < 0.1
