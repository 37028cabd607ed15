"""States of the planted model are sums of the embeddings of three tokens."""

import torch

from lenses.states.decoding import Site, read_states
from models import load
from models.planted.concepts import POSITION, planted_concepts


def test_a_state_is_its_token_and_the_two_before():
    model = planted_concepts(load("adder_6d_1l").card.arithmetic)
    ids = torch.tensor([[12, 3, 1, 10, 3, 5, 11, 9]])
    pos = torch.arange(2, 8)
    states, _ = read_states(model, ids, [Site(0, "resid_post")], torch.zeros_like(pos), pos)
    E = model.W_E
    expected = E[ids[0, pos]] + E[ids[0, pos - 1]] + E[ids[0, pos - 2]]
    left = states[0] - expected
    assert torch.allclose(left[:, : len(E)], torch.zeros(6, len(E)), atol=1e-4)
    assert (left.norm(dim=1) < 6 * POSITION).all()
