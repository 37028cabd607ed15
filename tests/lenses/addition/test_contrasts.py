"""Minimal pairs as tokens, which of them a model solves, and counts that can be done by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lenses.addition.contrasts import (
    COUNTS,
    DIRECTIONS,
    FEWEST,
    LUCKY_DRAWS,
    Cell,
    cells,
    contrast,
    luck_of,
    rates,
    token_positions,
)
from lenses.addition.exchanges import exchanges, read_pairs
from lenses.patching.interchange import Site
from models import load, untrained
from models.planted.carry import planted_carry
from prompts.additions import Addition, AdditionFormat


@pytest.fixture(scope="module")
def planted():
    return planted_carry(places=3, seed=1)


def drawn(planted, cell, count=40, **options):
    model = planted.model
    return exchanges(model, model.card.arithmetic, cell, count, 0, 64, **options).found


def counted(model, found, sites):
    return read_pairs(model, found, 64).counts(sites)


@pytest.mark.parametrize("operands", ["msb", "lsb"])
@pytest.mark.parametrize("answer", ["msb", "lsb"])
def test_every_token_is_found_where_it_stands(planted, operands, answer):
    style = planted.model.card.arithmetic.model_copy(
        update={"operands": operands, "answer": answer}
    )
    sums = Addition(3, 20, 0).sums
    tokens, found = style.write(sums).tokens, token_positions(style, sums)
    assert len(found) == tokens.shape[1]
    digits = {"a": sums.a_digits, "b": sums.b_digits, "A": sums.answer_digits}
    for name, pos in found.items():
        said = tokens[np.arange(20), pos]
        if name[0] in digits and name[1:].isdigit():
            assert (said == style.digit_ids[digits[name[0]][:, int(name[1:])]]).all()
        else:
            assert (said == style.vocabulary[name]).all()


def test_a_prefix_that_tells_the_carry_is_measured_both_ways(planted):
    style = planted.model.card.arithmetic
    for order, told in (("msb", "tristate"), ("lsb", "cascade")):
        found = cells(style.model_copy(update={"answer": order}))
        assert {c.prefix for c in found if c.pair == told} == {"own", "shared"}
        assert {c.prefix for c in found if c.pair != told} == {"same"}
    for cell in cells(style):
        pairs = drawn(planted, cell)
        before = [pairs.at[:, [place]] for place in range(cell.read_place + 1, 4)]
        rows = np.arange(len(pairs))[:, None]
        same = [(pairs.clean[rows, a] == pairs.source[rows, a]).all() for a in before]
        assert all(same) == (cell.prefix != "own")


def test_an_exact_model_solves_all_pairs_and_an_untrained_one_few(planted):
    cell = Cell("local", 0, 0, "same")
    assert len(drawn(planted, cell)) == 40
    twin = untrained(planted.model, 0)
    style = planted.model.card.arithmetic
    found = exchanges(twin, style, cell, 40, 0, 64)
    assert len(found or ()) < FEWEST
    assert len(contrast(style, cell, 40, 0)) == 40
    assert len(exchanges(twin, style, cell, 40, 0, 64, solved=False)) == 40


def test_pairs_that_are_kept_are_solved():
    model = load("adder_6d_1l")
    style = model.card.arithmetic
    cell = Cell("cascade", 0, 3, "same")
    found = exchanges(model, style, cell, 30, 0, 64).found
    everything = contrast(style, cell, 30, 0)
    assert 0 < len(found) <= 30
    assert (found.pairs.clean.a != everything.pairs.clean.a[: len(found)]).any()
    counts = counted(model, found, [Site("A5", resid=(0,))])
    # The source says its own right digit, so its whole residual stream flips every pair.
    assert counts["flips"].sum() == counts["n"].sum() == len(found)


def test_directions_are_those_of_the_carry(planted):
    for pair, place in (("local", 1), ("tristate", 1), ("base", 0), ("swap", 0)):
        prefix = "own" if pair == "tristate" else "same"
        found = drawn(planted, Cell(pair, place, 0, prefix))
        names = np.array(DIRECTIONS)[found.direction]
        read = found.cell.read_place
        before, after = (s.carry[:, read] for s in (found.pairs.clean, found.pairs.source))
        expected = np.select([after > before, after < before], ["in", "out"], "either")
        assert (names == expected).all()
        assert (set(names) == {"either"}) == (pair in ("base", "swap"))


def test_counts_where_what_must_happen_is_known(planted):
    (carry,), base = planted.heads[2], planted.base
    sites = [Site("A3", heads=(carry,)), Site("A3", heads=(base,)), Site("A3", resid=(0,))]
    found = drawn(planted, Cell("local", 1, 0, "same"), 30)
    table = counted(planted.model, found, sites)
    assert table["n"].sum() == 3 * 30
    by_site = table.groupby("site")[["flips", "changes", "null_changes", "own_changes"]].sum()
    assert by_site["flips"].tolist() == [30, 0, 30]
    assert by_site["changes"].tolist() == [30, 0, 30]
    assert (by_site[["null_changes", "own_changes"]] == 0).all(axis=None)
    shift = table.groupby("site")["moved"].sum() / table.groupby("site")["apart"].sum()
    np.testing.assert_allclose(shift, [1, 0, 1], atol=1e-4)


def test_swapped_digits_change_nothing_and_have_no_test(planted):
    found = drawn(planted, Cell("swap", 1, 0, "same"))
    counts = counted(planted.model, found, [Site("A2", resid=(0,))])
    assert (counts["changes"] == 0).all()
    assert found.null is None
    table = rates(counts.assign(pair="swap"), np.zeros(9))
    assert table[["flip", "p", "q", "p_max", "logit_shift"]].isna().all(axis=None)


def test_rates_by_hand():
    values = [[10, 8, 9, 1, 0, 7, 0, 5.0, 10.0], [20, 1, 3, 2, 4, 1, 2, 0.0, 10.0]]
    counts = pd.DataFrame(values, columns=COUNTS).assign(pair="local")
    # Excesses are 7 / sqrt(7) and -1 / sqrt(3): luck reaches the first once in four draws.
    table = rates(counts, np.array([0.5, 7 / np.sqrt(7), 1.0, 2.0]))
    np.testing.assert_allclose(table["p_max"], [2 / 5, 1])
    assert table["flip"].tolist() == [0.8, 0.05]
    assert table["null_change"].tolist() == [0.1, 0.1]
    assert table["own_change"].tolist() == [0, 0.2]
    assert table["logit_shift"].tolist() == [0.5, 0]
    expected = [stats.binomtest(7, 7, alternative="greater").pvalue,
                stats.binomtest(1, 3, alternative="greater").pvalue]  # fmt: skip
    np.testing.assert_allclose(table["p"], expected)
    np.testing.assert_allclose(table["q"], [min(2 * expected[0], 1), expected[1]])


def test_luck_is_that_of_the_direction_that_has_most():
    flips = np.array([[1, 1, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1]])
    values = {"flip_only": flips == 1, "null_only": np.zeros((2, 6), dtype=bool)}
    luck = luck_of(values, np.array([0, 0, 0, 0, 1, 1]), np.random.default_rng(0))
    assert len(luck) == LUCKY_DRAWS
    # Sums of 4, 1 and 2 signs over 2, 1 and sqrt(2); the first of the 4 is the second site's, too.
    assert set(np.round(luck, 3)) <= {0, 1, round(2 / np.sqrt(2), 3), 2}
    assert (luck == 2).mean() == pytest.approx(1 / 16, abs=0.03)
    assert (luck < 1e-9).mean() == pytest.approx(7 / 16 * 3 / 4, abs=0.03)


def test_a_language_format_is_read_where_answers_have_two_lengths():
    vocabulary = {sign: token for token, sign in enumerate("0123456789+=")}
    style = AdditionFormat(digits=2, pad=False, vocabulary=vocabulary)
    sums = Addition(2, 30, 0, padded=False).sums
    found = token_positions(style, sums)
    assert "A2" not in found
    rows = np.arange(30)
    assert (style.write(sums).tokens[rows, found["A1"]] == sums.answer_digits[:, 1]).all()


def test_unpadded_pairs_are_read_at_one_token_where_everything_can_be_moved():
    style = load("adder_1to6d").card.arithmetic
    for cell in cells(style):
        some = contrast(style, cell, 20, 0)
        assert len(some) == 20, cell
        read = some.read.at[:, cell.read_place]
        np.testing.assert_array_equal(list(some.positions.values())[-1], read)
        assert len(set(read)) == 1


def test_the_residual_stream_where_an_unpadded_digit_is_said_flips_it():
    model = load("adder_1to6d")
    style = model.card.arithmetic
    some = exchanges(model, style, Cell("base", 5, 0, "same"), 24, 0, 64).found
    last = Site(list(some.positions)[-1], resid=(model.cfg.n_layers - 1,))
    counts = counted(model, some, [last])
    assert counts["flips"].sum() == counts["n"].sum() >= 20
