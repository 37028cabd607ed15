"""What planted heads write, by cross donors; and that random weights write neither."""

import numpy as np
import pandas as pd
import pytest

from lenses.addition.contrasts import Cell
from lenses.addition.donors import (
    donor_table,
    localised,
    roles_with_writes,
    sets_with_writes,
    writes,
)
from lenses.addition.exchanges import exchanges
from models import load, untrained
from models.planted.carry import planted_carry

CELLS = [Cell("local", 0, 0, "same"), Cell("cascade", 0, 1, "same")]


def told(model, cell, *, count=60, solved=True):
    """What every head, MLP and pair of heads of the first block writes where the digit is read."""
    how = (count, 0, 256)
    found = exchanges(model, model.card.arithmetic, cell, *how, solved=solved, alone=True)
    heads = [f"L{layer}H{h}" for layer in range(model.cfg.n_layers) for h in range(3)]
    mlps = [f"L{layer} mlp" for layer in range(model.cfg.n_layers)]
    token = list(found.found.positions)[-1]
    sites = [(token, name) for name in (*heads, *mlps, "L0H0 L0H1")]
    return donor_table(model, found, sites, 0, solved=solved)


def named(table, what):
    return set(table.loc[table["writes"] == what, "members"])


@pytest.mark.parametrize("cell", CELLS)
def test_the_planted_heads_write_the_carry_and_the_finished_digit(cell):
    planted = planted_carry(places=3, copied=True, heads=3, seed=2)
    table = told(planted.model, cell)
    ((_, carry),), (_, digit) = planted.heads[1], planted.digit
    pair = {"L0H0 L0H1"} if carry < 2 else set()
    assert named(table, "carry") == {f"L0H{carry}", "L0 mlp"} | pair
    assert named(table, "digit") == {f"L2H{digit}", "L1 mlp"}
    cross = table[table["donor"] == "cross"].set_index("members")
    assert cross.loc[f"L0H{carry}", ["carry_rate", "digit_rate", "same_rate"]].tolist() == [1, 0, 0]
    assert cross.loc[f"L2H{digit}", ["carry_rate", "digit_rate", "same_rate"]].tolist() == [0, 1, 0]
    control = table[table["donor"] == "same_carry"]
    assert (control["same_rate"] == 1).all(), "the same carry and digit change nothing"
    same = table[table["donor"] == "same_answer"].set_index("members")
    assert same.loc[f"L0H{carry}", "carry_rate"] == 1, "the carry pushes the digit by one"
    assert same.loc[f"L2H{digit}", "same_rate"] == 1, "the digit is the one that was there"


def test_of_two_that_share_a_carry_only_both_write_it():
    planted = planted_carry(places=2, shared=True, heads=3, seed=1)
    table = told(planted.model, CELLS[0])
    both = " ".join(f"L0H{head}" for _, head in planted.heads[1])
    alone = {f"L0H{head}" for _, head in planted.heads[1]}
    assert named(table, "carry") == {"L0 mlp"} | ({both} & set(table["members"]))
    assert alone <= named(table, "neither")


def rows(**rates):
    """Rows of the three donors, each with the rates of carry, digit and clean digit."""
    made = []
    for donor, (carry, digit, same, n) in rates.items():
        row = {"donor": donor, "n": n, "carry_rate": carry, "digit_rate": digit, "same_rate": same}
        for name, rate in (("carry", carry), ("digit", digit), ("same", same)):
            row |= {f"{name}_low": rate - 0.1, f"{name}_high": rate + 0.1}
        made.append(row)
    return pd.DataFrame(made)


@pytest.mark.parametrize(
    ("cross", "same", "control", "expected"),
    [
        ((0.9, 0, 0.1, 50), (0.9, 0.1, 0.1, 50), (1, 1, 1, 50), "carry"),
        ((0, 0.9, 0.1, 50), (0, 1, 1, 50), (1, 1, 1, 50), "digit"),
        ((0.9, 0, 0.1, 50), (0.3, 0.7, 0.7, 50), (1, 1, 1, 50), "undecided"),
        ((0.9, 0, 0.1, 50), (0.9, 0.1, 0.1, 50), (0.8, 0.8, 0.8, 50), "undecided"),
        ((0.55, 0.3, 0.1, 50), (0.9, 0.1, 0.1, 50), (1, 1, 1, 50), "undecided"),
        ((0.1, 0.2, 0.7, 50), (0.1, 0.9, 0.9, 50), (1, 1, 1, 50), "neither"),
        ((0.9, 0, 0.1, 12), (0.9, 0.1, 0.1, 12), (1, 1, 1, 12), "not tested"),
    ],
)
def test_what_is_written_follows_from_the_three_donors(cross, same, control, expected):
    assert writes(rows(cross=cross, same_answer=same, same_carry=control)) == expected


def test_sets_and_their_heads_are_told_what_they_write_and_the_highest_digit_is_its_carry():
    cell = {"pair": "local", "prefix": "same", "run": 0, "token": "A2"}
    donors = pd.DataFrame([cell | {"place": 0, "read_place": 1, "members": "L0H1 L0H2",
                                   "donor": "cross", "writes": "digit"}])  # fmt: skip
    sets = ((1, "L0H1 L0H2"), (1, "L0H0"), (2, "L0H0"))
    joint = pd.DataFrame([{"read_place": place, "members": members} for place, members in sets])
    joint = joint.assign(**cell, minimal=True)
    found = sets_with_writes(joint, donors, digits=2)
    assert found["writes"].tolist() == ["digit", "not tested", "carry"]
    roles = pd.DataFrame([
        {"kind": "head", "layer": 0, "head": head, "token": "A2", "place": place, "role": role}
        for head, place, role in ((2, 1, "carry"), (0, 1, "none"), (0, 2, "both"), (1, 2, "none"))
    ])  # fmt: skip
    told = roles_with_writes(roles, donors, digits=2)
    assert told["writes"].tolist() == ["digit", "not tested", "carry", "not tested"]
    nothing = roles_with_writes(roles, pd.DataFrame(), digits=2)
    assert nothing["writes"].tolist() == ["not tested", "not tested", "carry", "not tested"]


def test_localised_are_small_sets_and_single_sites_that_move_half_into_a_column():
    model = planted_carry(places=2, heads=3).model
    site = {"pair": "local", "prefix": "same", "place": 0, "run": 0, "read_place": 1, "pos": 6,
            "token": "A2", "n": 40, "change": 1.0, "own_change": 0.0}  # fmt: skip
    sites = pd.DataFrame([
        site | {"kind": kind, "layer": 0, "head": head, "flip": flip, "null_change": null}
        for kind, head, flip, null in (("head", 0, 0.6, 0.0), ("head", 1, 0.4, 0.0),
                                       ("mlp", -1, 0.9, 0.2), ("mlp", -1, 0.9, 0.0),
                                       ("resid", -1, 1.0, 0.0))
    ])  # fmt: skip
    sites.loc[2, "layer"] = 1
    joint = pd.DataFrame([{"pair": "local", "prefix": "same", "run": 0, "read_place": place,
                           "token": "A2", "members": members, "minimal": minimal,
                           "all_heads": False}
                          for place, members, minimal in ((1, "L0H0", True), (1, "L0H2", False),
                                                          (2, "L0H1", True))])  # fmt: skip
    found = localised(model, model.card.arithmetic, sites, joint)
    assert found["members"].tolist() == ["L0H0", "L0 mlp"], "the highest digit has no column"
    assert np.array_equal(found["place"], [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_weights_write_neither(seed):
    model = untrained(load("adder_6d_1l"), seed)
    table = pd.concat([told(model, cell, count=100, solved=False) for cell in CELLS])
    assert not named(table, "carry") | named(table, "digit")
