"""The whole battery on planted and untrained adders, and what it says where pairs are too few."""

import pandas as pd
import pytest

from experiments.carry_localisation import CarryLocalisation, _suffices
from lenses.addition.found import ruled_out
from lenses.addition.roles import without_untested
from lenses.addition.sufficiency import WHOLE
from models import load, untrained
from models.planted.carry import planted_carry

SMALL = {"per_cell": 40, "screen": 6, "per_ablation": 2, "probed": 50, "uniform": 60}


def measured(model, **fields):
    experiment = CarryLocalisation(**SMALL | fields)
    results = experiment.measure(model)
    experiment.figures(results)
    return results.tables, experiment.claims(results), experiment.headline(results)


@pytest.fixture(scope="module")
def planted():
    return planted_carry(places=2, seed=3, heads=3)


@pytest.fixture(scope="module")
def found(planted):
    return measured(planted.model)


def test_the_planted_head_is_in_the_claims(found, planted):
    tables, claims, headline = found
    adds, moves, *places, nines, suffices, written, lengths = claims
    assert adds.verdict == "holds"
    assert (moves.verdict, moves.estimate, moves.null) == ("holds", 1, 0)
    names = {f"L{layer}H{head}" for ((layer, head),) in planted.heads.values()}
    assert any(f"the strongest is {name} at" in moves.sentence for name in names)
    (name,) = names
    assert headline.startswith(f"{name} writes the carry into places 1 and 2, at the token that")
    assert "in 1 of 1 cells" in headline
    for place, claim in enumerate(places, start=1):
        ((layer, head),) = planted.heads[place]
        assert f"L{layer}H{head} moves the carry into place {place}, at" in claim.sentence
        assert claim.label == f"Place {place} · L{layer}H{head}"
        assert claim.family == "Which heads move the carry into each place"
        assert (claim.verdict, claim.estimate, claim.null, claim.n) == ("holds", 1, 0, 40)
    assert (nines.estimate, nines.n, nines.verdict) == (1, 1, "undecided")
    assert (suffices.verdict, suffices.estimate) == ("holds", 1)
    kept = tables["sufficiency"].query("kept == 'found'")["heads"].unique()
    assert kept.tolist() == [2 + 2]
    assert suffices.null < 0.5
    assert written.sentence.startswith(f"{name} writes the carry, not the digit, at place 1: given")
    assert (written.verdict, written.estimate, written.null) == ("holds", 1, 0)
    assert (lengths.verdict, lengths.estimate, lengths.n) == ("undecided", 0, 1)


def test_heads_that_share_a_carry_are_named_together():
    planted = planted_carry(places=2, shared=True, seed=1, heads=3)
    tables, claims, headline = measured(planted.model)
    both = " and ".join(f"L{layer}H{head}" for layer, head in planted.heads[1])
    assert f"{both} together move the carry into place 1, at" in claims[2].sentence
    assert claims[2].label == f"Place 1 · {both.replace(' and ', ' + ')}"
    assert headline.startswith(f"{both} together write the carry into places 1 and 2, at")
    assert claims[2].verdict == "holds"
    roles = tables["roles"].query("kind == 'head' and role == 'carry'")
    assert roles["shared"].all()
    assert {(r.layer, r.head) for r in roles.itertuples()} == set(planted.heads[1])
    assert set(roles["writes"]) == {"carry"}
    assert claims[-2].sentence.startswith(f"{both} together write the carry, not the digit, at")


def test_the_head_that_copies_the_digit_is_told_from_the_one_that_writes_the_carry():
    planted = planted_carry(places=2, copied=True, seed=1, heads=3)
    tables, claims, headline = measured(planted.model)
    (_, carry), digit = planted.heads[1][0], planted.digit[1]
    written = {c.label: c for c in claims if c.family.startswith("What these heads write")}
    assert set(written) == {f"Place 1 · L0H{carry}", f"Place 1 · L2H{digit}"}
    copied = written[f"Place 1 · L2H{digit}"]
    assert copied.sentence.startswith(f"L2H{digit} writes the digit, not the carry, at place 1")
    assert all((c.verdict, c.estimate, c.null) == ("holds", 1, 0) for c in written.values())
    assert f"L0H{carry} writes the carry into places 1 and 2" in headline
    heads = tables["roles"].query("kind == 'head' and place == 1 and role != 'none'")
    heads = heads.set_index(["layer", "head"])
    assert heads.loc[(0, carry), "writes"] == "carry"
    assert heads.loc[(2, digit), "writes"] == "digit"


def test_heads_that_move_carries_by_their_length_are_said_to_be_specialised():
    planted = planted_carry(places=2, by_length=True, seed=3, heads=3)
    tables, claims, _ = measured(planted.model)
    near, far = (f"L{layer}H{head}" for layer, head in planted.heads[2])
    assert claims[-1].sentence.endswith(f"2 of 2 ({near} at place 2, {far} at place 2).")
    assert (claims[-1].estimate, claims[-1].null) == (1, 0)
    assert tables["lengths"].query("specialised")["flip"].isin([0, 1]).all()


def test_too_few_solved_pairs_are_said_and_the_rest_goes_on(planted):
    tables, claims, headline = measured(untrained(planted.model, 0))
    assert [claim.verdict for claim in claims] == ["fails"] + ["not tested"] * 7
    assert all(claim.estimate is claim.low is claim.high is None for claim in claims[1:])
    assert all("of the 40 wanted" in claim.needs for claim in claims[2:4])
    assert headline.startswith("Nothing can be said: too few pairs of sums are solved at every")
    assert "0 of 60 random sums" in headline
    assert (tables["pairs"].query("pair == 'local'")["n"] < 20).all()
    assert all(len(tables[name]) for name in ("ablation", "probes", "attention"))


def test_an_untrained_model_has_nothing_to_name(planted):
    tables, claims, headline = measured(untrained(planted.model, 1), solved=False)
    assert (tables["pairs"]["n"] == 40).all()
    assert not tables["joint"]["minimal"].any()
    assert (tables["roles"].query("kind == 'head'")["role"] == "none").all()
    assert all(claim.verdict != "holds" for claim in claims)
    assert [claim.verdict for claim in claims[-3:]] == ["not tested"] * 3
    assert claims[-3].needs == "a model that adds, in which heads with a role are found"
    assert headline.startswith("No set of at most 3 heads was found that moves the carry")


def tried(**changed):
    told = {"size": 1, "high": 0.9, "searched": "all 92 sets of up to 3 heads"}
    return pd.DataFrame([told | {"size": 8, "high": 1.0}, told | changed])


def test_a_place_is_only_given_up_where_every_small_set_was_tried_and_falls_short():
    assert ruled_out(tried())
    assert not ruled_out(tried(high=0.97)), "more pairs may show that it explains the place"
    assert not ruled_out(tried(searched="backward elimination from all 270 heads"))


def test_no_role_is_named_where_what_it_must_spare_was_not_measured():
    roles = pd.DataFrame({"place": [1, 1, 2], "role": ["carry", "none", "base_add"]})
    pairs = pd.DataFrame({"pair": ["local", "base", "base"], "read_place": [1, 1, 2]})
    assert without_untested(roles, pairs.assign(n=[200, 200, 200])).equals(roles)
    assert without_untested(roles, pairs.assign(n=[200, 3, 200]))["role"].tolist() == [
        "none", "none", "base_add"]  # fmt: skip


def test_every_cell_has_its_null_and_both_directions(found):
    table = found[0]["interchange"]
    tested = table[table["pair"] != "swap"]
    assert tested[["flip", "null_change", "p", "q"]].notna().all(axis=None)
    toggled = tested[tested["pair"].isin(["local", "cascade", "tristate"])]
    directions = toggled.groupby(["pair", "prefix", "read_place"])["direction"].unique()
    assert directions.map(set).map({"in", "out"}.__eq__).all()
    # The last residual stream is what is said, where the prefix is the same: a positive control.
    control = tested[(tested["kind"] == "resid") & (tested["layer"] == 1)]
    assert (control["flip"] == 1).all()
    last = table[(table["kind"] == "head") & (table["layer"] == 1)]
    assert (last["own_change"] == 0).all()


def test_roles_and_flips_are_stored_as_the_docstring_says(found):
    columns = {
        "interchange": "pair direction prefix place read_place kind layer head pos flip flip_low "
        "flip_high null_change own_change logit_shift n q",
        "joint": "read_place members flip complement_flip n",
        "ablation": "mode layer head place carry accuracy low high",
        "attention": "layer head query_place column mass carry_difference",
        "roles": "layer head place role",
    }
    for name, wanted in columns.items():
        assert set(wanted.split()) <= set(found[0][name].columns), name
        assert isinstance(found[0][name].index, pd.RangeIndex), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_untrained_adders_name_nothing_without_the_filter(seed):
    model = untrained(load("adder_6d_1l"), seed)
    _, claims, _ = measured(model, solved=False, per_cell=60)
    assert all(claim.verdict != "holds" for claim in claims)


@pytest.mark.parametrize(
    ("found", "random", "verdict"),
    [
        (0.97, [0.2] * 8, "holds"),
        (0.97, [0.97] * 8, "fails"),
        (0.97, [0.2] * 7 + [0.97], "undecided"),
        (0.3, [0.4] * 8, "fails"),
    ],
)
def test_heads_suffice_where_random_sets_do_not(found, random, verdict):
    kept = ["all", "found", *["random"] * len(random)]
    table = pd.DataFrame({"kept": kept, "accuracy": [0.98, found, *random]})
    table = table.assign(low=table["accuracy"] - 0.03, high=table["accuracy"] + 0.02, n=300)
    table = table.assign(sample="uniform", mode="mean", place=WHOLE, heads=4)
    assert _suffices(table).verdict == verdict
