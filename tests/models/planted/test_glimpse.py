"""A network that looks where it must because its weights say so."""

import numpy as np

from models.planted.glimpse import planted_glimpse
from prompts.cued import LETTERS, cued


def test_it_looks_at_the_cued_slot_and_says_its_letter():
    cases = cued(300, 12, np.random.default_rng(0))
    net = planted_glimpse()
    weights = net.weights(cases).detach().numpy()
    assert (weights[np.arange(300), cases.right] > 1 - 1e-6).all()
    assert (net(cases).argmax(-1).numpy() == cases.answer).all()
    assert net.readout.shape[1] == len(LETTERS)
