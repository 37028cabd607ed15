"""Two heads that do the same: the model adds with either, and not without both."""

import numpy as np
import pytest
import torch

from models.planted.twins import planted_twins
from prompts.additions import Addition


@pytest.fixture(scope="module")
def planted():
    return planted_twins()


def right(planted, gone):
    """Share of answer digits that are right when heads are zeroed."""
    model, _ = planted
    style, sums = model.card.arithmetic, Addition(6, 100, seed=1).sums
    tokens = torch.from_numpy(np.ascontiguousarray(style.write(sums).tokens))

    def zero(z, hook):
        z = z.clone()
        z[:, :, [head for _, head in gone]] = 0
        return z

    logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_z", zero)])
    reads = [style.read_at(place) for place in range(7)]
    said = logits[:, reads].argmax(-1).numpy()
    return (said == style.digit_ids[sums.answer_digits]).mean()


def test_it_adds_with_either_twin_and_not_without_both(planted):
    _, (one, other) = planted
    assert one != other
    assert right(planted, []) == right(planted, [one]) == right(planted, [other]) == 1
    assert right(planted, [one, other]) < 0.8


def test_its_identities_hold(planted):
    assert all(identity.ok for identity in planted[0].identities)
