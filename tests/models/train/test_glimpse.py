"""The glimpse network against a loop, and a training that goes the same way twice."""

import numpy as np
import torch

from models.train.glimpse import KINDS, Glimpse, Recipe, Wide, course, network
from prompts.cued import cued

RECIPE = Recipe(slots=4, width=6, steps=5, learning_rate=0.02, batch=8, seed=3)
CASES = cued(7, 4, np.random.default_rng(0))


def test_a_glimpse_is_what_a_loop_over_slots_computes():
    net = network("attention", RECIPE)
    colour, letter, cue, readout = (
        weight.detach().double().numpy()
        for weight in (net.colour, net.letter, net.cue, net.readout)
    )
    for case in range(len(CASES)):
        slots = [
            colour[c] + letter[v]
            for c, v in zip(CASES.colour[case], CASES.letter[case], strict=True)
        ]
        wanted = cue[CASES.cue[case]]
        scores = [sum(wanted * slot) / 6**0.5 for slot in slots]
        weights = np.exp(scores) / np.exp(scores).sum()
        glimpse = sum(weight * slot for weight, slot in zip(weights, slots, strict=True))
        logits = np.concatenate([glimpse, wanted]) @ readout
        assert np.allclose(net.weights(CASES)[case].detach(), weights, atol=1e-6)
        assert np.allclose(net(CASES)[case].detach(), logits, atol=1e-5)


def test_without_attention_every_slot_counts_the_same():
    net = network("even weights", RECIPE)
    assert torch.equal(net.weights(CASES), torch.full((7, 4), 0.25))
    twin = network("attention", RECIPE)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_weights_may_be_given():
    net = network("attention", RECIPE)
    assert torch.equal(net(CASES, net.weights(CASES)), net(CASES))
    first = torch.eye(4)[torch.zeros(7, dtype=int)]
    seen = torch.cat([net.inputs(CASES)[:, 0], net.cue[CASES.cue]], dim=-1) @ net.readout
    assert torch.allclose(net(CASES, first), seen)


def test_the_rival_sees_every_slot_in_its_place():
    net = network("hidden layer", RECIPE)
    turned = cued(7, 4, np.random.default_rng(0))
    turned.colour[:], turned.letter[:] = CASES.colour[:, ::-1], CASES.letter[:, ::-1]
    assert isinstance(net, Wide)
    assert not torch.allclose(net(CASES), net(turned))
    looking = network("attention", RECIPE)  # sums over slots, so their order is nothing to it
    assert torch.allclose(looking(CASES), looking(turned), atol=1e-6)


def test_a_course_yields_what_is_examined_and_repeats_itself():
    for kind in KINDS:
        ends = []
        for _ in range(2):
            steps = []
            for step, net in course(kind, RECIPE, [0, 2, 5]):
                steps.append(step)
                if step == 0:
                    fresh = network(kind, RECIPE)
                    pairs = zip(net.parameters(), fresh.parameters(), strict=True)
                    assert all(torch.equal(a, b) for a, b in pairs)
                last = [weight.detach().clone() for weight in net.parameters()]
            assert steps == [0, 2, 5]
            ends.append(last)
        assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
        assert not torch.equal(ends[0][-1], fresh.readout)


def test_attention_learns_where_to_look():
    recipe = Recipe(slots=4, width=16, steps=200, learning_rate=0.02, batch=128, seed=0)
    ((_, net),) = course("attention", recipe, [200])
    cases = cued(500, 4, np.random.default_rng(9))
    assert isinstance(net, Glimpse)
    assert (net(cases).argmax(-1).numpy() == cases.answer).mean() > 0.97
