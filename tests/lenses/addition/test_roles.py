"""Roles by their definition, the screen of sites, and planted heads: they are named, no others."""

import numpy as np
import pandas as pd
import pytest

from lenses.addition.contrasts import Cell, cells, rates
from lenses.addition.exchanges import exchanges, read_pairs
from lenses.addition.roles import SITE, every_site, interchanges, kept_heads, roles, shared_roles
from models import load
from models.planted.carry import planted_carry


def row(pair, flip, change, null, head=0, place=2, n=100, prefix="same", direction="in"):
    names = ("pair", "flip", "change", "null_change", "head", "read_place", "n", "prefix")
    values = dict(zip(names, (pair, flip, change, null, head, place, n, prefix), strict=True))
    fixed = {"place": 0, "run": 0, "own_change": 0, "kind": "head", "layer": 1, "pos": 9}
    return values | fixed | {"token": "A3", "direction": direction}


CASES = {
    "carry": [("local", 0.6, 0.6, 0.1), ("base", 0.0, 0.1, 0.0)],
    "none": [("local", 0.6, 0.6, 0.2), ("base", 0.0, 0.0, 0.0)],
    "both": [("local", 0.6, 0.6, 0.0), ("base", 0.5, 0.5, 0.9)],
    "base_add": [("local", 0.1, 0.1, 0.0), ("base", 0.7, 0.9, 0.3)],
    "combiner": [("local", 0.1, 0.1, 0.0), ("base", 0, 0, 0), ("cascade", 0.5, 0.5, 0.1)],
}


def test_roles_by_definition():
    table = [row(*case, head=i) for i, cases in enumerate(CASES.values()) for case in cases]
    found = roles(pd.DataFrame(table)).set_index("head")["role"]
    assert found.sort_index().tolist() == list(CASES)


def test_a_base_sum_that_merely_changes_is_no_carrys():
    table = [row("local", 0.9, 0.9, 0.0), row("base", 0.0, 0.4, 0.0)]
    assert roles(pd.DataFrame(table))["role"].tolist() == ["none"]


def test_what_was_not_measured_is_no_zero():
    found = roles(pd.DataFrame([row("local", 0.0, 0.0, 0.0)])).iloc[0]
    assert found["carry_flip"] == 0
    assert np.isnan([found["base_flip"], found["nines_flip"], found["nines_null"]]).all()


def test_directions_count_by_their_pairs():
    table = [row("local", 1.0, 1.0, 0.0, n=60), row("local", 0.0, 0.0, 0.0, n=40, direction="out")]
    found = roles(pd.DataFrame(table))
    assert found["carry_flip"].item() == pytest.approx(0.6)
    assert found["role"].item() == "carry"


def test_members_of_a_smallest_set_share_a_role():
    table = roles(pd.DataFrame([row("local", 0.0, 0.0, 0.0, head=h) for h in range(4)]))
    joint = pd.DataFrame(
        {
            "pair": ["local", "base", "local"], "read_place": 2, "token": "A3",
            "members": ["L1H0 L1H1", "L1H2", "L1H3"], "size": [2, 1, 1],
            "other_change": [0.0, np.nan, 0.5], "minimal": True,
        }
    )  # fmt: skip
    found = shared_roles(table, joint).set_index("head")
    assert found["role"].tolist() == ["carry", "carry", "base_add", "none"]
    assert found["shared"].tolist() == [True, True, True, False]
    assert kept_heads(found.reset_index()) == [("A3", 1, 0), ("A3", 1, 1), ("A3", 1, 2)]


def test_sites_after_the_last_attention_stand_where_the_digit_is_said():
    model = load("adder_6d_2l")
    sites = every_site(model, ["a0", "=", "A3"])
    # Where the digit is said there is also a site of all heads for each layer.
    assert len(sites) == 6 + 6 + 2 * 7
    assert {site.token for site in sites if 1 in site.resid or 1 in site.mlps} == {"A3"}


def test_the_screen_loses_nothing_that_moves():
    model = load("adder_6d_1l")
    found = exchanges(model, model.card.arithmetic, Cell("local", 2, 0, "same"), 60, 0, 256)
    table, _ = interchanges(model, found, 20, np.random.default_rng(0))
    whole = table.groupby(SITE, sort=False)[["n", "flips"]].sum()
    # With one layer every site is at the token that is read, and gets the 40 fresh pairs.
    assert (whole["n"] == 40).all()
    fresh = read_pairs(model, found.found[np.arange(20, 60)], 256)
    sites = every_site(model, list(found.found.positions))
    naive = fresh.counts(sites).groupby("site")["flips"].sum()
    assert whole["flips"].tolist() == naive.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_planted_heads_are_named_and_no_others(seed):
    planted = planted_carry(places=2, seed=seed, heads=3)
    model, style = planted.model, planted.model.card.arithmetic
    counts = [
        interchanges(model, exchanges(model, style, cell, 36, 0, 512), 12, np.random.default_rng(0))
        for cell in cells(style)
        if cell.pair != "swap"
    ]
    told, luck = zip(*counts, strict=True)
    table = rates(pd.concat(told, ignore_index=True), np.max(luck, axis=0))
    # What luck explains less than once in twenty times is what a planted head or more moved.
    sure = table[(table["p_max"] <= 0.05) & (table["kind"] == "head")]
    movers = {(layer, head) for ((layer, head),) in planted.heads.values()} | {planted.base}
    assert {(r.layer, r.head) for r in sure.itertuples()} == movers
    heads = roles(table).query("kind == 'head' and role != 'none'")
    named = {(r.place, r.role, (r.layer, r.head)) for r in heads.itertuples()}
    carries = {(place, "carry", head) for place, (head,) in planted.heads.items()}
    assert named == carries | {(place, "base_add", planted.base) for place in (0, 1)}
    last = roles(table)["pos"] == roles(table).groupby("place")["pos"].transform("max")
    assert last[heads.index].all()


def test_a_large_model_in_which_nothing_moves_is_not_opened(monkeypatch):
    planted = planted_carry(places=2, seed=0, heads=4)
    model, style = planted.model, planted.model.card.arithmetic
    found = exchanges(model, style, Cell("swap", 0, 0, "same"), 36, 0, 512)
    monkeypatch.setattr("lenses.addition.roles.LARGE", 7)
    table, luck = interchanges(model, found, 12, np.random.default_rng(0))
    assert "head" not in set(table["kind"])
    assert (table["n"] == 12).all()
    assert not luck.any()


def test_a_large_model_is_opened_layer_by_layer(monkeypatch):
    planted = planted_carry(places=2, seed=0, heads=4)
    model, style = planted.model, planted.model.card.arithmetic
    found = exchanges(model, style, Cell("local", 0, 0, "same"), 36, 0, 512)
    monkeypatch.setattr("lenses.addition.roles.LARGE", 7)
    table, _ = interchanges(model, found, 12, np.random.default_rng(0))
    tokens = list(found.found.positions)
    assert list(dict.fromkeys(table["token"])) == tokens[tokens.index("b0") :]
    assert set(table.loc[table["token"] != "A2", "kind"]) == {"layer"}, "they move nothing there"
    table = table[table["token"] == "A2"]
    heads = table[table["kind"] == "head"]
    ((layer, head),) = planted.heads[1]
    assert (heads["layer"] == layer).all()
    assert set(heads["head"]) == set(range(4))
    moved = heads.groupby("head")["flips"].sum()
    assert moved[moved > 0].to_dict() == {head: 24}
    tried = heads.groupby("head")["n"].sum()
    assert tried.to_dict() == {h: 24 if h == head else 12 for h in range(4)}, "idle ones: screened"
    tried = table.groupby(["kind", "layer"])["n"].sum()
    assert tried["layer", layer] == 24
    assert tried["layer", 1 - layer] == 12
