"""The effective embedding is E plus the first MLP, by its own parts."""

import torch

from models import load
from models.effective import effective_embedding


def test_it_is_the_embedding_plus_the_first_mlp():
    model = load("adder_6d_1l")
    ids = torch.arange(13)
    _, cache = model.run_with_cache(ids[:, None])
    entered = cache["blocks.0.hook_resid_pre"]
    expected = entered + model.blocks[0].mlp(model.blocks[0].ln2(entered))
    found = effective_embedding(model, ids)
    assert torch.allclose(found, expected[:, 0], atol=1e-5)
    assert not torch.allclose(found, cache["blocks.0.hook_resid_post"][:, 0], atol=1e-2)


def test_many_tokens_pass_in_parts(monkeypatch):
    model = load("adder_6d_1l")
    ids = torch.tensor([3, 1, 4, 1, 5])
    whole = effective_embedding(model, ids)
    monkeypatch.setattr("models.effective.TOKENS", 2)
    assert torch.allclose(effective_embedding(model, ids), whole, atol=1e-5)
