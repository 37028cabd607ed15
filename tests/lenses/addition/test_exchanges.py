"""Pairs that are read once, in parts and at one digit alone, against pairs that are read anew."""

from itertools import islice

import numpy as np
import pytest

from lenses.addition.contrasts import COUNTS, Cell, draws
from lenses.addition.exchanges import ROUNDS, exchanges, read_pairs
from lenses.patching.interchange import Site, untouched
from models import load

CELL = Cell("cascade", 0, 1, "same")
ADDER = "adder_6d_2l"


@pytest.fixture(scope="module")
def adder():
    return load(ADDER)


@pytest.fixture(scope="module")
def forgetful():
    """An adder that cannot say 0 to 4: it solves some pairs only."""
    model = load(ADDER)
    head = model.unembed.original_component
    head.weight.data[:5] = 0
    return model


@pytest.fixture(scope="module")
def read(adder):
    return exchanges(adder, adder.card.arithmetic, CELL, 30, 0, 16)


@pytest.fixture(scope="module")
def sites(read):
    tokens = list(read.found.positions)
    found = [Site(token, heads=((0, head),)) for token in tokens for head in range(4)]
    return [*found, Site(tokens[-1], heads=((0, 1), (1, 2))), Site(tokens[-1], resid=(1,))]


def naively_solved(model, count):
    """First members of the pairs whose clean sum, source and null source are answered right."""
    right, place = [], CELL.read_place
    for found in islice(draws(model.card.arithmetic, CELL, count, 0), ROUNDS):
        solved = np.ones(len(found), dtype=bool)
        for tokens, digit in ((found.clean, 0), (found.source, 1), (found.null, 0)):
            said = untouched(model, tokens, found.read, 7).token[0, :, place]
            solved &= said == found.read.tokens[:, digit]
        right += found.pairs.clean.a[solved].tolist()
    return right[:count]


def test_solved_pairs_are_those_whose_members_are_all_right(forgetful):
    found = exchanges(forgetful, forgetful.card.arithmetic, CELL, 40, 0, 16)
    assert len(found) == 40, "drawn several times"
    assert found.found.pairs.clean.a.tolist() == naively_solved(forgetful, 40)


def assert_same(one, other):
    for name in COUNTS:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)


def test_parts_are_as_pairs_that_are_read_anew(adder, read, sites):
    rows = np.array([7, 2, 25])
    whole = read.each_pair(sites)
    for some in (slice(10, 20), rows):
        anew = read_pairs(adder, read.found[some], 16).each_pair(sites)
        assert_same(read[some].each_pair(sites), anew)
        assert_same({name: value[:, some] for name, value in whole.items()}, anew)
    both = read[:5].joined(read[5:])
    assert_same(both.each_pair(sites), whole)
    assert whole["flips"].any()
    assert not whole["flips"].all()


def test_one_digit_alone_is_as_among_all(adder, read, sites):
    alone = exchanges(adder, adder.card.arithmetic, CELL, 30, 0, 16, alone=True)
    assert (alone.found.clean == read.found.clean).all()
    told, every = alone.each_pair(sites), read.each_pair(sites)
    assert set(COUNTS) - set(told) == {"own_changes"}
    assert_same(told | {"own_changes": every["own_changes"]}, every)
    assert (alone.flips(sites) == every["flips"].mean(1)).all()
    assert (alone.changes(sites) == every["changes"].mean(1)).all()


def test_of_no_pairs_nothing_is_read(adder, read):
    assert read_pairs(adder, read.found[:0], 16) is None
