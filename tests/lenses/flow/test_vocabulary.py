"""Shares by KL of what states decode to: against the formula, and on a model that copies."""

import numpy as np
import pytest
import torch

from lenses.flow.keyed_texts import positions
from lenses.flow.vocabulary import PARTS, vocabulary_shares
from models.planted.copy import planted_copy
from models.readout import unembedding
from models.text import tokenize
from tests.lenses.blocks import CONFIGS, tiny


@pytest.mark.parametrize("kind", CONFIGS)
def test_shares_are_those_of_the_formula(kind):
    model, tokens = tiny(CONFIGS[kind]), torch.arange(3, 10)
    found = vocabulary_shares(model, tokens)
    assert found.shape == (2, 7, len(PARTS))
    assert torch.allclose(found.sum(-1), torch.ones(2, 7), atol=1e-6)
    _, cache = model.run_with_cache(tokens[None])
    pre, attention, post = (
        cache[f"blocks.1.hook_{name}"][0, 4] for name in ("resid_pre", "attn_out", "resid_post")
    )
    head = unembedding(model)
    p = head(post).softmax(-1).double().numpy()
    kl = [
        float((p * np.log(p / head(post - part).softmax(-1).double().numpy())).sum())
        for part in (pre, attention, post - pre - attention)
    ]
    np.testing.assert_allclose(found[1, 4].numpy(), np.array(kl) / sum(kl), rtol=2e-3, atol=1e-5)


def test_where_a_model_copies_attention_decides():
    text, key = "Our dog Max likes walks. I walk with our dog", "Max"
    model, _ = planted_copy([text], [key], loud=10.0)
    ids = tokenize(model, text)
    assert positions(model, ids, text, key)
    share = vocabulary_shares(model, torch.tensor(ids))[0, -1]
    assert share[PARTS.index("attention")] > 0.5
