"""Curves of a text on a planted model and an adder, and their tables against plain loops."""

import numpy as np
import pytest
import torch

from lenses.flow.faithfulness import read_clean
from lenses.flow.kept_curves import (
    ABLATIONS,
    GRADIENT_ORDER,
    KEPT,
    ORDERS,
    RANDOM_SHARES,
    REMOVED,
    THRESHOLDS,
    Means,
    areas_between,
    areas_of,
    best_elsewhere,
    best_rule,
    curve_tables,
    curves_of,
    masses,
    orders_of,
    random_shares,
    ranked,
    thresholds_of,
)
from lenses.flow.splits import RULES, splits
from lenses.flow.trace import trace
from lenses.kept import PerPrompt
from models import load
from models.planted.copy import planted_copy
from models.text import tokenize

TEXT = "We bought a blue boat. The boat is"


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def clean(adder):
    rng = torch.Generator().manual_seed(0)
    return read_clean(adder, torch.randint(0, 10, (9,), generator=rng))


def means_of(*texts) -> Means:
    means = Means.empty()
    for text in texts:
        means.update(text)
    return means


@pytest.fixture(scope="module")
def found(adder, clean):
    return curves_of(adder, clean, means_of(clean), "mass", np.random.default_rng(0))


def test_means_are_of_first_tokens_and_of_all_others(adder, clean):
    other = read_clean(adder, torch.tensor([1, 2, 3, 4]))
    absent = means_of(clean, other).absents(clean)[1]
    first = torch.stack([text.gathered[0] for text in (clean, other)]).mean(0)
    rest = torch.cat([text.added[1:] for text in (clean, other)]).mean(0)
    torch.testing.assert_close(absent.value[0], first)
    torch.testing.assert_close(absent.mlp[1], rest)


def test_random_shares_make_a_diagram_that_knows_its_end_alone(adder, clean):
    split = splits(adder, clean.tokens, ["norms"])["norms"]
    drawn = random_shares(split, np.random.default_rng(0))
    whole = drawn.attention.sum(-1) + drawn.residual
    torch.testing.assert_close(whole, torch.ones_like(whole))
    assert (drawn.attention.triu(1) == 0).all()
    flow = trace(drawn, 2, -1)
    assert flow.error < 1e-6
    assert flow.attention[1, :-1].abs().sum() == 0
    assert flow.attention[1, -1].min() > 0


def test_every_order_scores_every_piece(adder, clean):
    scores, error = orders_of(adder, clean, np.random.default_rng(0))
    assert scores.shape == (len(ORDERS), len(clean.mass.flat()))
    assert error < 1e-6
    flow = trace(splits(adder, clean.tokens)["projection"], 2, -1)
    at = ORDERS.index("projection")
    torch.testing.assert_close(clean.mass.unflat(scores[at]).attention, flow.attention.float())
    torch.testing.assert_close(clean.mass.unflat(scores[at]).mlp, flow.mlp.float())
    assert (scores[ORDERS.index(GRADIENT_ORDER)] < 0).any()


def test_curves_begin_and_end_at_nothing_and_everything(found):
    inserted, deleted = found["inserted_left"], found["deleted_left"]
    assert inserted.shape == (len(ORDERS), len(ABLATIONS), len(KEPT) + 2)
    assert deleted.shape == (len(ORDERS), len(ABLATIONS), len(REMOVED) + 2)
    assert inserted[..., -1] == pytest.approx(1, abs=1e-5)
    assert deleted[..., 0] == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(inserted[..., 0], deleted[..., -1])
    assert found["errors"].max() < 1e-4
    assert found["inserted_left"].max() <= 1
    assert not np.allclose(inserted[:, 0], inserted[:, 1]), "zero and mean tell nothing apart"


def test_links_count_alike_where_their_number_is_equal(clean):
    counted, pos = masses(clean, "links"), len(clean.tokens)
    assert counted.sum() == 2 * (pos * (pos + 1) / 2 + pos)
    assert set(counted.tolist()) == {0.0, 1.0}


def test_areas_by_hand():
    inserted = np.array([0, *KEPT, 1.0])
    deleted = 1 - np.array([0, *REMOVED, 1.0])
    assert areas_of(inserted, deleted) == pytest.approx([0.5, 0.5, 0.0])
    assert areas_of(np.ones(6), np.zeros(5)) == pytest.approx([1, 0, 1])


def test_the_best_rule_is_chosen_on_the_others():
    areas = np.random.default_rng(0).normal(size=(9, 4))
    expected = [np.delete(areas, row, axis=0).mean(0).argmax() for row in range(9)]
    assert best_elsewhere(areas).tolist() == expected


def test_tables_hold_means_over_prompts(found):
    kept, other = PerPrompt(), {name: value / 2 for name, value in found.items()}
    for one in (found, other, found, other, found):
        kept.update(**{name: value[None] for name, value in one.items()})
    tables = curve_tables(kept, 0)
    rows = tables["curves"].set_index(["way", "order", "ablation", "share"])
    row = rows.loc["deleted", "norms", "both", REMOVED[0]]
    left = found["deleted_left"][ORDERS.index("norms"), :, 1].mean()
    assert row["estimate"] == pytest.approx(left * (3 + 2 / 2) / 5)
    assert 0 <= row["low"] <= row["estimate"] <= row["high"] <= 1
    scores = tables["scores"].set_index(["order", "ablation"])
    areas = areas_of(found["inserted_left"], found["deleted_left"])[..., -1]
    assert scores.loc[("norms", "zero"), "estimate"] == pytest.approx(
        areas[ORDERS.index("norms"), 0] * 4 / 5
    )
    assert (scores["high"] <= 1).all()
    means = areas_between(tables["areas"]).mean()[list(RULES)]
    assert ranked(tables["scores"]) == sorted(RULES, key=lambda rule: -means[rule])
    assert best_rule(tables["best"]) == means.idxmax(), "all prompts are alike but for a factor"


def test_in_the_copying_model_true_rules_keep_the_answer_with_a_twentieth_of_the_mass():
    model = planted_copy([TEXT], ["blue"], layer=1, seed=1)[0]
    clean = read_clean(model, torch.tensor(tokenize(model, TEXT)))
    found = curves_of(model, clean, means_of(clean), "mass", np.random.default_rng(0))
    areas = areas_of(found["inserted_left"], found["deleted_left"])[..., -1]
    # Of a single text the mean value is of its own key: it says the answer.
    by_order = dict(zip(ORDERS, areas[:, ABLATIONS.index("zero")].tolist(), strict=True))
    assert by_order["projection"] > 0.85
    assert by_order["projection"] > by_order[RANDOM_SHARES] + 0.1
    at = ORDERS.index("projection")
    assert found["inserted_left"][at, :, 1] == pytest.approx(1, abs=1e-3)
    drawn = thresholds_of(model, clean, means_of(clean), "mass", "projection")
    assert drawn.shape == (len(THRESHOLDS), 4)
    names = [(how.kind, how.value) for how in THRESHOLDS]
    links, mass, *left = drawn[names.index(("top-k", 2))]
    assert left == pytest.approx([1, 1], abs=1e-3)
    assert 1 <= links < 20
    assert mass < 0.3


def test_rules_and_controls_have_names_of_their_own():
    assert len(set(ORDERS)) == len(RULES) + 3
