"""The planted model says every fact, its rival second, and knows nothing of other subjects."""

import pytest
import torch

from models.planted.recall import planted_recall
from models.text import tokenize


@pytest.fixture(scope="module", params=[0, 1])
def planted(request):
    return planted_recall(seed=request.param)


def said(planted, text):
    logits = planted.model(torch.tensor([tokenize(planted.model, text)]))[0, -1]
    return logits, planted.model.tokenizer.convert_ids_to_tokens(logits.topk(2).indices.tolist())


def test_it_says_every_fact_and_the_rival_second(planted):
    for fact in planted.facts:
        assert said(planted, fact.text)[1] == [f" {fact.answer}", f" {fact.rival}"], fact


def test_it_says_nothing_of_a_subject_without_such_a_fact(planted):
    logits, _ = said(planted, "The capital of Eiffel Tower is the city of")
    assert logits.abs().max() < 1e-3


def test_other_heads_write_as_well(planted):
    _, cache = planted.model.run_with_cache(
        torch.tensor([tokenize(planted.model, planted.facts[1].text)])
    )
    for layer in range(4):
        z = cache[f"blocks.{layer}.attn.hook_z"][0, -1]
        lengths = torch.einsum("hd,hdm->hm", z, planted.model.W_O[layer]).norm(dim=-1)
        assert (lengths > 0.1).sum() >= 3
