"""Planted digits stand on a line, and the nearest one is the one below."""

import torch
from torch.nn.functional import cosine_similarity

from models import load
from models.planted.analogies import planted_analogies


def test_one_more_is_one_direction_and_the_neighbour_is_one_less():
    form = load("adder_6d_1l").card.arithmetic
    digits = planted_analogies(form).W_E[torch.from_numpy(form.digit_ids)]
    steps = digits[1:] - digits[:-1]
    assert torch.allclose(steps, steps[:1].expand_as(steps))
    near = cosine_similarity(digits[:, None], digits[None], dim=-1).fill_diagonal_(-1)
    assert near.argmax(-1).tolist() == [1, 0, 1, 2, 3, 4, 5, 6, 7, 8]
