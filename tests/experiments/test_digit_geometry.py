"""Geometry of digits where it is known: a planted adder, and tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments.digit_geometry import (
    MOVES,
    READ,
    DigitGeometry,
    _adds,
    _goes_by_it,
    _held_by_both,
    _numbers,
    _pattern,
)
from lenses.digits.shifts import (
    EDITS,
    NUMBER_EDITS,
    OWN,
    edit_rows,
    gain_of_fit,
    helix_rows,
    pair_rows,
)
from lenses.digits.shown import some_points
from models import ModelError, load
from models.native import vocabulary_tokenizer
from models.planted.places import planted_places

SMALL = {"contexts": 6, "edits": 8, "permuted_fits": 8}


@pytest.fixture(scope="module")
def planted():
    experiment = DigitGeometry(**SMALL)
    model = experiment.planted()
    return experiment, model, experiment.measure(model)


def test_the_planted_digits_are_a_line_and_a_circle_and_nothing_else(planted):
    shares = planted[2].tables["shares"].query("layer == 0").set_index("component")["share"]
    assert np.allclose(shares["line and circle"], 1)
    assert np.allclose(shares["line"], 1 / 3), "of three patterns of equal size"
    assert np.allclose(shares["line beyond circle"], 1)
    assert np.allclose(shares["circle beyond arch"], 1)
    assert np.allclose(planted[2].tables["dimensions"].query("layer == 0").participation_ratio, 3)


def test_the_planted_adder_still_adds_and_goes_by_the_line(planted):
    tables = planted[2].tables
    assert tables["moves"]["solved"].all()
    edits = tables["edits"].query("layer == 0").set_index(["reads", "edit"])["success"]
    for reads in edits.index.levels[0]:
        for edit in ("other token", "all", "fit", "line"):
            assert edits[reads, EDITS[edit]] == 1, (reads, edit)
        assert edits[reads, EDITS["permuted"]] < 0.7
    verdicts = {c.sentence: c.verdict for c in planted[0].claims(planted[2]) if c.kind == "learned"}
    assert set(verdicts.values()) == {"holds"}, verdicts
    assert len(verdicts) == 5


def test_copies_are_no_sums():
    moves = pd.DataFrame({
        "prompt": [0, 0, 1, 1, 2, 2], "operand": ["copy"] * 2 + ["addition"] * 4,
        "solved": [True, True, False, False, True, True],
    })  # fmt: skip
    claim = _adds(moves)
    assert (claim.estimate, claim.n, claim.verdict) == (0.5, 2, "undecided")
    assert claim.unit.endswith("of copies 1.00")


def test_every_row_of_the_planted_tables_is_there(planted):
    tables, slots, layers = planted[2].tables, 6, 3
    assert len(tables["shares"]) == slots * layers * 12
    assert len(tables["points"]) == slots * layers * 10
    assert len(tables["moves"]) == 2 * slots * SMALL["edits"] * 2 * len(EDITS)
    assert len(tables["fits"]) == 2 * 2 * (1 + SMALL["permuted_fits"])
    assert tables["helix"].empty
    assert len(some_points(tables["points"])["site"].unique()) == 3 * layers


def test_the_headline_of_the_planted_adder_says_both_shapes_and_both_columns(planted):
    said = planted[0].headline(planted[2])
    assert said.startswith("The ten digits follow a line and a circle. In the embedding line and ")
    assert "explain 100 % of what tells them apart; the other 0 % is neither" in said
    for does in READ.values():
        assert f"{does} in 100 % of prompts (permuted labels: " in said


def test_results_do_not_depend_on_the_batch_size(planted):
    _, model, results = planted
    again = DigitGeometry(**SMALL, batch_size=7).measure(model)
    for name, table in results.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table, check_exact=True, obj=name)


def a_share_row(p, share=0.4):
    numbers = {"low": 0.3, "high": 0.5, "null": 0.14, "p": p, "share": share}
    where = {"operand": "a", "place": 0, "layer": 3, "component": "line beyond circle"}
    return pd.DataFrame([where | numbers, where | numbers | {"p": 1.0}])


@pytest.mark.parametrize(
    ("p", "verdict"), [(0.01, "holds"), (0.2, "undecided"), (0.8, "undecided"), (0.98, "fails")]
)
def test_a_pattern_is_judged_by_its_permutations(p, verdict):
    edits = pd.DataFrame({"layer": [3], "edit": [EDITS["all"]], "success": [0.0]})
    claim = _pattern("A line.", "line beyond circle", a_share_row(p), edits)
    assert claim.verdict == verdict
    assert claim.p == p
    assert "all of the difference, 0 % of digits are read as the new digit" in claim.null_note
    assert bool(claim.decide) == (verdict == "undecided")


def moves_of(success, permuted, whole=1.0, rows=40):
    """Moves of which shares come through, each row alike."""
    shares = {"fit": success, "permuted": permuted, "all": whole}
    parts = [
        pd.DataFrame({
            "reads": OWN, "layer": 0, "edit": EDITS[name], "prompt": range(rows),
            "digit": np.arange(rows) % 10, "target": (np.arange(rows) + 1) % 10,
            "success": (np.arange(rows) < share * rows).astype(float), "kept": 0.0,
        })
        for name, share in shares.items()
    ]  # fmt: skip
    fits = [("fit", success), *((f"permuted {n}", permuted + 0.01 * n - 0.02) for n in range(5))]
    table = pd.DataFrame(fits, columns=["fit", "success"]).assign(reads=OWN, layer=0)
    return pd.concat(parts, ignore_index=True), table


@pytest.mark.parametrize(
    ("success", "permuted", "whole", "verdict"),
    [(0.9, 0.2, 1.0, "holds"), (0.2, 0.2, 1.0, "fails"), (0.9, 0.2, 0.3, "undecided")],
)
def test_moves_are_judged_against_permuted_fits_and_a_control(success, permuted, whole, verdict):
    claim = _goes_by_it(MOVES[OWN], gain_of_fit(*moves_of(success, permuted, whole), seed=0))
    assert claim.verdict == verdict
    assert claim.estimate == pytest.approx(success - permuted)


def test_moves_are_summed_by_edit_and_by_pair():
    moves, fits = moves_of(0.5, 0.25)
    edits = edit_rows(moves, fits).set_index("edit")
    assert edits.loc[EDITS["fit"], "success"] == 0.5
    assert edits.loc[EDITS["fit"], "n"] == 40
    assert edits.loc[EDITS["permuted"], "low"] == pytest.approx(0.231)
    pairs = pair_rows(moves)
    assert (pairs["n"] == 4).all()
    assert len(pairs) == 30


def layers_of(share, random):
    """Shares of line and circle at two layers, of which the second holds most."""
    where = [("this model", share), ("random weights", random)]
    return pd.DataFrame([
        {"weights": weights, "component": "line and circle", "layer": layer, "share": value - gap,
         "low": value - gap - 0.05, "high": value - gap + 0.05}
        for weights, value in where for layer, gap in ((0, 0.1), (1, 0.0))
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.8, "holds"), (0.52, "undecided"), (0.3, "fails")]
)
def test_line_and_circle_hold_most_or_not(share, verdict):
    claim = _held_by_both(layers_of(share, 0.35))
    assert (claim.estimate, claim.null, claim.verdict) == (share, 0.35, verdict)
    assert "after 1 layer;" in claim.null_note


def test_a_model_without_number_tokens_is_told_what_the_helix_needs():
    claim = _numbers(pd.DataFrame())
    assert (claim.verdict, claim.estimate) == ("not tested", None)
    assert "one token for each number from 0 to 99" in claim.needs


def test_numbers_are_judged_at_the_layer_where_the_helix_does_most():
    held = {"fit": 0.5, "all": 1.0, "best": 0.6, "permuted 0": 0.1, "permuted 1": 0.2}
    rows = [helix_rows(layer, held, outcomes(helix)) for layer, helix in ((0, 30), (4, 38))]
    table = pd.concat(rows, ignore_index=True)
    shares = table.query("layer == 4").set_index("edit")["share"]
    assert shares["permuted labels"] == pytest.approx(0.15)
    assert np.isnan(shares["random direction"])
    assert table["edit"].tolist() == list(NUMBER_EDITS.values()) * 2
    claim = _numbers(table)
    assert (claim.estimate, claim.n, claim.verdict) == (38 / 40, 40, "holds")
    assert claim.null == pytest.approx(0.1)
    assert "shifted after 4 layers" in claim.null_note


def outcomes(helix, rows=40):
    """Which of the numbers are read as the other after each edit."""
    right = {"fit": helix, "all": 40, "best": 39, "permuted 0": 2, "permuted 1": 6, "random": 0}
    right |= {"other token": 40}
    return {name: np.arange(rows) < count for name, count in right.items()}


def test_digits_that_are_no_tokens_are_refused_in_one_line():
    model = planted_places()
    words = [*map(str, range(10)), *(f"{n} = {n}" for n in range(10)), "\n", " = ", " + ", "a"]
    model.tokenizer = vocabulary_tokenizer({word: number for number, word in enumerate(words)})
    with pytest.raises(ModelError, match="as one token"):
        DigitGeometry(**SMALL).measure(model)


@pytest.mark.real
@pytest.mark.slow
def test_a_language_model_copies_the_digit_that_is_moved_there():
    results = DigitGeometry(contexts=4, edits=6, permuted_fits=3, edited_layers=1).measure(
        load("smollm2")
    )
    edits = results.tables["moves"].query("operand == 'copy' and layer == 0")
    whole = edits[edits["edit"] == EDITS["all"]]
    assert whole["success"].mean() > 0.8
    assert whole["as_token"].mean() == 1
