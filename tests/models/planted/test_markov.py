"""The planted model says what follows, and nothing but the last token tells."""

import torch

from models import load
from models.planted.markov import planted_markov


def test_it_says_the_chances_it_was_given():
    form = load("adder_6d_1l").card.arithmetic
    follows = torch.rand(13, 13, generator=torch.Generator().manual_seed(0)).softmax(-1)
    model = planted_markov(form, follows, seed=1)
    tokens = torch.tensor([[12, 3, 10, 5, 11]])
    said = model(tokens, return_type="logits")[0].softmax(-1)
    assert torch.allclose(said, follows[tokens[0]].float(), atol=1e-4)
