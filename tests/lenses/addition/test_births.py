"""Births, their order and the agreement of trainings against cases counted by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lenses.addition.births import (
    ROLES,
    agreements,
    all_births,
    births,
    final_roles,
    matched,
    mean_of_few,
    mechanisms,
    order,
    role_agreement,
    skills,
    trends,
)


@pytest.fixture
def fewer_shuffles(monkeypatch) -> None:
    """Chance is as often below .05 with 200 shuffles as with 1,000: p is exact with any number."""
    monkeypatch.setattr("lenses.addition.births.SHUFFLES", 200)


NONE, CARRY, BASE = (ROLES.index(role) for role in ("none", "carry", "base_add"))


def test_a_thing_is_born_when_it_comes_to_stay() -> None:
    there = np.array(
        [
            [0, 1, 0, 1, 0],
            [0, 1, 1, 0, 0],
            [1, 1, 0, 1, 0],
            [1, 1, 1, 0, 0],
        ],
        dtype=bool,
    )
    assert births(there).tolist() == [2, 0, 3, -1, -1]
    assert births(there[:, :, None])[:, 0].tolist() == [2, 0, 3, -1, -1]


def cells_of(known: dict[int, int], right: dict[tuple[int, int], int]) -> pd.DataFrame:
    """Cells of two-digit sums at step -> known of 100, and (step, run) -> right of 100."""
    cells = [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
    rows = [
        (0, step, place, run, carry, 100, right.get((step, run), 0), sums)
        for step, sums in known.items()
        for place, run, carry in cells
    ]
    columns = ["seed", "step", "place", "run", "carry", "n", "correct", "known"]
    return pd.DataFrame(rows, columns=columns)


NO_ROLES = pd.DataFrame(
    [
        (0, step, kind, 0, head, place, "none", 0.0, 0.0)
        for step in (0, 10, 40)
        for kind, head in (("head", 0), ("attention", -1))
        for place in range(3)
    ],
    columns=["seed", "step", "kind", "layer", "head", "place", "role", "carry_flip", "carry_null"],
).assign(base_flip=0.0)


def test_a_digit_known_but_for_its_carry_is_base_and_not_carry() -> None:
    halfway = cells_of({0: 20, 10: 100, 40: 100}, {(0, 0): 10, (10, 0): 50, (40, 0): 100})
    found = {
        name: part.set_index(["step", "place"])["there"] for name, part in skills(halfway).items()
    }
    assert set(found) == {"base", "carry", "run 1"}
    assert found["base"].unstack().to_numpy().tolist() == [[False] * 2, [True] * 2, [True] * 2]
    assert found["carry"].unstack().to_numpy().tolist() == [[False] * 2, [False] * 2, [True] * 2]
    # Only the leading place has both carries over one nine, and they are never right here.
    assert found["run 1"].unstack().to_numpy().tolist() == [[False]] * 3


def test_base_is_asked_in_the_cells_that_carry_is_asked_in() -> None:
    table = cells_of({10: 100}, {(10, 0): 100})
    table.loc[table["run"] == 1, ["known", "correct"]] = 0
    assert skills(table)["base"]["there"].tolist() == [True, True]
    one = (table["place"] == 1) & (table["run"] == 0) & (table["carry"] == 1)
    table.loc[one, ["known", "correct"]] = 99
    assert skills(table)["base"]["there"].tolist() == [True, False]


def test_births_name_the_stretch_in_which_a_part_came() -> None:
    table = cells_of({0: 20, 10: 100, 40: 100}, {(0, 0): 10, (10, 0): 50, (40, 0): 100})
    born = all_births(table, NO_ROLES).set_index(["part", "place"])
    assert born.loc[("base", 0), ["before", "step"]].tolist() == [0, 10]
    assert born.loc[("carry", 1), ["before", "step"]].tolist() == [10, 40]
    assert born.loc[("run 1", 2), ["before", "step"]].isna().all()
    assert born.loc[("carry head", 1), ["before", "step"]].isna().all()
    assert ("base", 2) not in born.index
    assert ("carry", 0) not in born.index


def test_the_order_is_counted_in_doublings() -> None:
    table = cells_of({0: 20, 10: 100, 40: 100}, {(0, 0): 10, (10, 0): 50, (40, 0): 100})
    found = order(all_births(table, NO_ROLES)).set_index(["earlier", "later"])
    # Base between 1 (in place of 0) and 10, carry between 10 and 40, at place 1 alone.
    expected = (np.log2(10) + np.log2(40)) / 2 - np.log2(10) / 2
    assert found.loc[("base", "carry"), "doublings"] == pytest.approx(expected)
    assert found.loc[("base", "carry"), "places"] == 1
    assert np.isnan(found.loc[("carry", "longest run"), "doublings"])
    assert found.loc[("carry attention", "carry"), "places"] == 0


def test_heads_that_share_a_carry_have_no_head_of_their_own() -> None:
    roles = NO_ROLES.copy()
    late = (roles["step"] == 40) & (roles["place"] == 2)
    roles.loc[late & (roles["kind"] == "attention"), "carry_flip"] = 0.9
    first = (roles["step"] == 40) & (roles["place"] == 0)
    roles.loc[first & (roles["kind"] == "attention"), "base_flip"] = 0.6
    roles.loc[(roles["step"] == 40) & (roles["place"] == 1), "role"] = "both"
    there = {name: part[part["there"]] for name, part in mechanisms(roles).items()}
    assert there["carry attention"][["step", "place"]].to_numpy().tolist() == [[40, 2]]
    assert there["base attention"][["step", "place"]].to_numpy().tolist() == [[40, 0]]
    assert there["carry head"][["step", "place"]].to_numpy().tolist() == [[40, 1]]
    assert there["base head"][["step", "place"]].to_numpy().tolist() == [[40, 1]]


def random_roles(rng: np.random.Generator) -> np.ndarray:
    return rng.choice([NONE, NONE, NONE, CARRY, BASE], size=(2, 4, 5))


def test_renumbered_heads_agree_entirely() -> None:
    rng = np.random.default_rng(0)
    one = random_roles(rng)
    other = np.stack([layer[rng.permutation(4)] for layer in one])
    assert role_agreement(one, other) == 1
    again = np.take_along_axis(other, matched(one, other)[:, :, None], axis=1)
    assert ((one == again) | (one == NONE)).all()


def test_heads_are_not_matched_across_layers() -> None:
    one = np.zeros((2, 3, 4), dtype=int)
    one[0, 1] = CARRY
    assert role_agreement(one, one[::-1]) == 0
    assert np.isnan(role_agreement(one * 0, one * 0))


def test_agreement_is_twice_the_shared_over_all() -> None:
    one, other = np.zeros((2, 1, 2, 3), dtype=int)
    one[0, 0] = [CARRY, CARRY, NONE]
    other[0, 1] = [CARRY, NONE, BASE]
    other[0, 0] = [NONE, NONE, BASE]
    assert role_agreement(one, other) == 2 * 1 / (2 + 3)


def roles_table(by_seed: dict[int, np.ndarray]) -> pd.DataFrame:
    rows = [
        (seed, 9, "head", layer, head, place, ROLES[role])
        for seed, table in by_seed.items()
        for (layer, head, place), role in np.ndenumerate(table)
    ]
    return pd.DataFrame(rows, columns=["seed", "step", "kind", "layer", "head", "place", "role"])


def test_final_roles_are_those_of_the_last_step() -> None:
    table = random_roles(np.random.default_rng(1))
    rows = roles_table({4: table})
    early = rows.assign(step=3, role="both")
    found = final_roles(pd.concat([rows, early]).sample(frac=1, random_state=0))
    assert list(found) == [4]
    assert np.array_equal(found[4], table)


def test_trainings_that_end_alike_agree_beyond_chance_and_others_do_not(fewer_shuffles) -> None:
    rng = np.random.default_rng(2)
    one = random_roles(rng)
    alike = {seed: np.stack([layer[rng.permutation(4)] for layer in one]) for seed in range(3)}
    found = agreements(roles_table(alike), seed=0)
    assert len(found) == 8
    assert (found["estimate"] == 1).all()
    assert (found[found["pair"] == "all"]["p"] < 0.01).all()
    held = 0
    for draw in range(20):
        unlike = {seed: random_roles(np.random.default_rng([draw, seed])) for seed in range(3)}
        table = agreements(roles_table(unlike), seed=0)
        held += int((table[table["pair"] == "all"]["p"] <= 0.05).any())
    assert held <= 3  # of 20, at two tests each


def possible_roles(rng: np.random.Generator) -> np.ndarray:
    """At random, but for roles that no adder can have: carries into place 0, a base at the top."""
    roles = np.zeros((2, 4, 5), dtype=int)
    roles[..., 0] = rng.choice([NONE, BASE], size=(2, 4))
    roles[..., 1:-1] = rng.choice([NONE, NONE, CARRY, BASE], size=(2, 4, 3))
    roles[..., -1] = rng.choice([NONE, CARRY], size=(2, 4))
    return roles


def test_roles_that_places_have_by_nature_are_no_agreement(fewer_shuffles) -> None:
    held = {"within place": 0, "within layer and place": 0}
    for draw in range(20):
        trio = {seed: possible_roles(np.random.default_rng([9, draw, seed])) for seed in range(3)}
        table = agreements(roles_table(trio), seed=0).query("pair == 'all'").set_index("dealt")
        for dealt in held:
            held[dealt] += int(table.loc[dealt, "p"] <= 0.05)
    assert max(held.values()) <= 3  # of 20


def test_trainings_without_roles_agree_in_nothing() -> None:
    nothing = {seed: np.zeros((2, 4, 5), dtype=int) for seed in range(2)}
    found = agreements(roles_table(nothing), seed=0)
    assert found["estimate"].isna().all()
    assert (found["p"] == 1).all()


def test_one_training_agrees_with_none() -> None:
    assert agreements(roles_table({0: random_roles(np.random.default_rng(0))}), seed=0).empty


def test_mean_of_few_is_students() -> None:
    values = np.array([0.4, 1.1, 0.7])
    mean, low, high, p = mean_of_few(values)
    expected = stats.ttest_1samp(values, 0, alternative="greater")
    assert mean == pytest.approx(values.mean())
    assert p == pytest.approx(expected.pvalue)
    both = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx((both.low, both.high))
    assert mean_of_few(np.array([2.0])) == (2.0, -np.inf, np.inf, 1.0)


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.1], [2.0, 2.0, 2.0]])
def test_few_or_equal_values_have_no_interval(values: list[float]) -> None:
    mean, *rest = mean_of_few(np.array(values))
    assert mean == pytest.approx(np.mean(values))
    assert rest == [-np.inf, np.inf, 1.0]


def born(dates: dict[int, dict[tuple[str, int], float]]) -> pd.DataFrame:
    """Births of seed -> (part, place) -> step, each examined at half that step before."""
    rows = [(s, *at, step / 2, step) for s, each in dates.items() for at, step in each.items()]
    return pd.DataFrame(rows, columns=["seed", "part", "place", "before", "step"])


def test_tau_is_that_of_scipy_with_ties_and_parts_that_never_came() -> None:
    steps = [20, 10, 40, 40, np.nan, 80, np.nan]
    table = trends(born({3: {("base", place): step for place, step in enumerate(steps)}}), 0)
    row = table[(table["what"] == "sums") & (table["training"] == "3")].iloc[0]
    last = np.nan_to_num(steps, nan=1e9)
    assert row["tau"] == pytest.approx(stats.kendalltau(range(7), last).statistic)
    exact = stats.kendalltau(range(7), last, method="asymptotic").pvalue
    assert row["p"] == pytest.approx(exact, abs=0.05)


def test_runs_are_ordered_within_each_place_and_averaged() -> None:
    at = {("carry", 1): 10, ("carry", 2): 10, ("run 1", 2): 20}
    at |= {("carry", 3): 80, ("run 1", 3): 40, ("run 2", 3): 20}
    found = trends(born({0: at}), 0).set_index(["what", "training"])
    assert found.loc[("runs", "0"), "tau"] == pytest.approx((1 - 1) / 2)
    assert found.loc[("carries", "0"), "tau"] == pytest.approx(
        stats.kendalltau([1, 2, 3], [10, 10, 80]).statistic
    )


def test_the_order_over_trainings_has_an_interval_where_they_differ() -> None:
    places = {seed: {("base", i): 10 * 2**i for i in range(5)} for seed in range(4)}
    same = trends(born(places), 0).set_index(["what", "training"]).loc[("sums", "all")]
    assert (same["tau"], same["n"]) == (1, 4)
    assert same["p"] < 0.01
    assert np.isnan(same["low"])
    places[0] = {("base", i): 10 * 2**-i for i in range(5)}
    other = trends(born(places), 0).set_index(["what", "training"]).loc[("sums", "all")]
    assert other["tau"] == 0.5
    assert other["low"] < 0 < other["high"]


def test_random_orders_have_small_p_as_often_as_they_should(fewer_shuffles) -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        dates = {s: {("base", i): d for i, d in enumerate(rng.permutation([8, 16, 32, 64]))}
                 for s in range(5)}  # fmt: skip
        table = trends(born(dates), 0)
        found.append(table[(table["what"] == "sums") & (table["training"] == "all")]["p"].item())
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.09


def test_parts_that_all_come_at_once_have_no_order() -> None:
    at_once = trends(born({0: {("base", i): 10 for i in range(3)}}), 0)
    row = at_once[(at_once["what"] == "sums") & (at_once["training"] == "all")].iloc[0]
    assert np.isnan(row["tau"])
    assert row["n"] == 0
