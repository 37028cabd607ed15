"""Readouts compared on texts that no lens was fitted on, in an adder."""

import numpy as np
import pytest
import torch

from lenses.states.bake_off import POSITIONS, states_of
from lenses.states.decoders import PENALTY
from lenses.states.decoding import Decoder, Readout, sites
from lenses.states.nearest import divergences, fitted_ridge, nearest
from lenses.states.ridge import SecondMoments, ridge
from lenses.texts import sampled_additions
from models import load

HOW = [Readout(), Readout(centred=True), Readout("E"), Readout("ridge")]


def unkept(items, keep, label, size=None):
    """A stream that keeps nothing."""
    items = list(items)
    if size is None:
        return iter(items)
    return iter([items[start : start + size] for start in range(0, len(items), size)])


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def texts(adder) -> list[list[int]]:
    asked = sampled_additions(adder.card.arithmetic, 40, 0)
    return [text.given + text.expected for text in asked]


@pytest.fixture(scope="module")
def decoder(adder, texts) -> Decoder:
    lens = fitted_ridge(adder, texts[:30], 8, unkept, "ridge")
    return Decoder(adder, lens.mean, lens)


def test_the_ridge_of_every_site_is_that_of_its_own_moments(adder, texts) -> None:
    lens = fitted_ridge(adder, texts[:30], 8, unkept, "ridge")
    moments, where = SecondMoments(), sites(adder)
    for ids in texts[:30]:
        states = states_of(adder, ids, where)[:, 1:]
        moments.update(states, states[-1])
    x = states_of(adder, texts[35], where)
    for site in range(len(where)):
        own = (
            moments.last_mean
            + (x[site] - moments.mean[site]) @ ridge(moments, site, PENALTY).double()
        )
        assert torch.allclose(lens(x)[site], own.float(), atol=1e-3)
        assert torch.allclose(lens.at(site)(x[site, None])[0], lens(x)[site], atol=1e-5)


def test_at_the_last_layer_the_ridge_is_the_models_own_output(adder, texts, decoder) -> None:
    states = states_of(adder, texts[35], sites(adder))
    found = decoder(states, Readout("ridge"), torch.arange(adder.W_U.shape[1]))
    own = adder(torch.tensor([texts[35]]))[0]
    assert torch.allclose(found[-1], own, atol=1e-3)
    assert not torch.allclose(found[0], own, atol=0.1)


def test_divergences_are_those_of_their_definition(adder, texts, decoder) -> None:
    found = divergences(adder, decoder, HOW, texts[30:33], unkept, "nearest")
    assert found.shape == (3, len(HOW))
    ids = texts[31]
    pos = np.linspace(1, len(ids) - 2, POSITIONS).round().astype(int)
    own = adder(torch.tensor([ids]))[0, pos].double().log_softmax(-1)
    states = states_of(adder, ids, sites(adder))[:, pos]
    for number, how in enumerate(HOW):
        read = decoder(states, how, torch.arange(adder.W_U.shape[1]))[1].double().log_softmax(-1)
        expected = (own.exp() * (own - read)).sum(-1).mean().item()
        assert found[1, number] == pytest.approx(expected, rel=1e-3), how


def test_the_ridge_lens_of_an_adder_is_nearest_and_a_wrong_one_is_not(adder, texts, decoder):
    found = divergences(adder, decoder, HOW, texts[30:], unkept, "nearest")
    assert nearest(HOW, found) == Readout("ridge")
    lens = fitted_ridge(adder, texts[:30], 8, unkept, "ridge")
    turned = Decoder(adder, lens.mean, type(lens)(lens.mean, -lens.maps, lens.last_mean))
    found = divergences(adder, turned, HOW, texts[30:], unkept, "nearest")
    assert nearest(HOW, found) != Readout("ridge")


def test_short_texts_are_left_out(adder, texts, decoder) -> None:
    both = [texts[30], texts[31][:5]]
    assert divergences(adder, decoder, HOW, both, unkept, "nearest").shape == (1, len(HOW))
