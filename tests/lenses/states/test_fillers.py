"""Tables of what fillers change, by hand and on a planted model."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lenses.states import fillers
from lenses.states.fillers import CONTROLS, FILLERS, MAIN, OWN, Filled
from lenses.states.policy import STATISTICS, standardised
from models.planted.dialect import MEANINGS, planted_dialect

SHAPE = (6, len(FILLERS), 5)


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*SHAPE, len(STATISTICS), 2))


@pytest.fixture(scope="module")
def filled() -> Filled:
    rng = np.random.default_rng(0)
    surprisal = rng.uniform(0, 5, SHAPE)
    surprisal[1, 2, 3] = np.nan
    history = rng.uniform(0, 1, (*SHAPE, 2))
    return Filled.of(surprisal, history, drawn(1), [drawn(2), drawn(3)])


@pytest.fixture(scope="module")
def controls(filled):
    return {name: filled.compared(name, 0) for name in CONTROLS}


def test_a_token_that_cannot_be_said_leaves_its_place_out(filled) -> None:
    assert not filled.known[1, 3]
    assert filled.known.sum() == 29
    assert np.isfinite(filled.covariates).all()


def test_excess_is_own_less_random(filled, controls) -> None:
    own = fillers.effect_table(controls, 6).set_index(["control", "filler", "statistic"])
    random = Filled(filled.known, filled.covariates, filled.layers, filled.random[1], []).compared(
        MAIN, 0
    )[0]
    rows = fillers.excess_table(controls, 6).query("random_model == 1 and control == @MAIN")
    assert len(rows) == 4 * len(STATISTICS)
    for row in rows.itertuples():
        at = FILLERS.index(row.filler) - 1, STATISTICS.index(row.statistic)
        expected = own.loc[(MAIN, row.filler, row.statistic), "estimate"] - random.estimate[at]
        assert row.estimate == pytest.approx(expected)


def of_shape(prompts: int, *shape: int) -> tuple[int, ...]:
    return prompts, len(FILLERS), 8, *shape


def test_explained_is_measured_where_its_statistics_were_not_chosen() -> None:
    """Statistic 0 differs in the even prompts alone: it is measured in the odd ones alone."""
    rng = np.random.default_rng(0)
    surprisal = rng.gamma(2, 1, of_shape(40)) + np.arange(len(FILLERS))[:, None]
    layers = rng.normal(size=of_shape(40, len(STATISTICS), 1))
    layers[::2, 1, :, 0] += 5
    filled = Filled.of(surprisal, np.zeros(of_shape(40, 2)), layers, [])
    rows = fillers.explained_table(filled, 0).set_index("filler")
    odd = filled.every_other(1)
    was, left = (
        fillers.filler_slopes(odd.values, odd.covariates[..., :held], odd.known)[0][0, 0]
        for held in (0, 2)
    )
    assert rows.loc["greedy", "estimate"] == pytest.approx(1 - left / was)
    assert rows.loc["greedy", "n"] == 20


def test_what_follows_surprisal_alone_is_explained_whatever_noise_stands_beside_it() -> None:
    rng = np.random.default_rng(0)
    surprisal = rng.gamma(2, 1, of_shape(30)) + np.arange(len(FILLERS))[:, None]
    layers = rng.normal(size=of_shape(30, len(STATISTICS), 1))
    layers[..., 0, 0] += 2 * surprisal
    filled = Filled.of(surprisal, np.zeros(of_shape(30, 2)), layers, [layers, layers])
    rows = fillers.explained_table(filled, 0)
    assert rows["estimate"].between(0.8, 1.2).all()
    assert set(rows["weights"]) == {"own", "random 0", "random 1"}
    assert len(rows) == 3 * 4
    assert (rows["n"] == 30).all()
    assert (rows["low"] <= rows["estimate"]).all()


def test_layers_are_effects_of_each_layer(filled) -> None:
    rows = fillers.layer_table(filled, 0)
    assert len(rows) == 4 * len(STATISTICS) * 2
    alone = standardised(drawn(1)[..., 3, 1], filled.known)
    held = filled.covariates[..., : CONTROLS[MAIN]]
    expected = fillers.filler_effects(alone[..., None], held, filled.known).estimate[0, 0]
    row = rows.query("filler == 'greedy' and statistic == @STATISTICS[3] and layer == 1")
    assert row["estimate"].item() == pytest.approx(expected)


def test_fillers_are_told_apart_by_surprisal(filled) -> None:
    rows = fillers.filler_table(filled, 0).set_index("filler")
    nats = np.where(filled.known[:, None], filled.covariates[..., 0], np.nan)
    assert rows.loc["other", "surprisal"] == pytest.approx(np.nanmean(nats[:, 3], axis=1).mean())
    assert rows.loc["given", "overlap"] == 1


def test_a_statistic_without_variation_has_no_rows(filled) -> None:
    values = drawn(4)
    values[..., 2, :] = 7
    flat = Filled.of(np.ones(SHAPE), np.zeros((*SHAPE, 2)), values, [drawn(5)])
    found = {name: flat.compared(name, 0) for name in CONTROLS}
    assert STATISTICS[2] not in set(fillers.effect_table(found, 6)["statistic"])
    nothing = Filled.of(np.ones(SHAPE), np.zeros((*SHAPE, 2)), values * 0, [])
    assert fillers.effect_table({MAIN: nothing.compared(MAIN, 0)}, 6).empty


def test_one_text_given_and_own_differs_in_nothing_and_its_twin_does() -> None:
    planted = planted_dialect()
    rows = planted.twins(12, 12, 0)
    prompt, twins = rows[:, :6], rows[:, 6:]
    own = twins - MEANINGS
    table = fillers.own_text_table(planted.model, prompt, {"own": own, "twins": twins}, (own, own))
    assert table.groupby("given")["filler"].unique().map(list).to_dict() == {
        "own": list(OWN),
        "twins": list(OWN),
    }
    assert np.allclose(table.query("given == 'own'")["estimate"], 0)
    found = table.query("given == 'twins' and statistic == 'attention_on_filler'")
    assert (found["low"] > 1).all()


def test_an_effect_must_lie_beyond_one_more_random_model():
    """Each random model is told from it by far, and still a third may lie as high."""
    rows = pd.DataFrame(
        {"estimate": [1.0, -1.0, 1.0], "p_any": [0.001] * 3, "n": 1000},
        index=["near", "far", "less"],
    )
    effects = {"near": [0.9, 0.3], "far": [-0.01, 0.01], "less": [0.0, 2.0]}
    random = pd.DataFrame(
        [(name, rows["estimate"][name] - effect, 0.002)
         for name, some in effects.items() for effect in some],
        columns=["statistic", "estimate", "p_any"],
    )  # fmt: skip
    worst = fillers.worst_p(rows, random)
    for name, others in (("near", [0.9, 0.3]), ("far", [0.01, -0.01])):
        p = stats.ttest_ind([1.0], others, alternative="greater").pvalue
        assert worst[name] == pytest.approx(p)
    assert worst["far"] < 0.01 < 0.2 < worst["near"]
    assert worst["less"] == 1.0


def test_the_clearest_statistic_has_the_smallest_of_the_worst_p() -> None:
    rows = pd.DataFrame(
        {"estimate": [0.5, -0.9, 0.7], "p_any": [0.2, 0.01, 0.01], "n": 1000},
        index=["sink", "cosine", "norm"],
    )
    none = pd.DataFrame({"statistic": [], "estimate": [], "p_any": []})
    best, null = fillers.clearest(rows, none.astype({"statistic": str}), claims=4)
    assert (best.name, null) == ("cosine", None)  # of two as clear, the larger
    assert best["p"] == pytest.approx(min(4 * 1.0, 1))  # nothing is known of random models
    random = pd.DataFrame(
        [(name, size, 0.02) for name in ("norm", "cosine") for size in (0.6, 0.4)],
        columns=["statistic", "estimate", "p_any"],
    )
    best, null = fillers.clearest(rows, random, claims=4)
    assert best.name == "norm"  # the cosine is on the other side of its excess
    assert null == pytest.approx(0.7 - 0.5)
    worst = fillers.worst_p(rows, random)["norm"]
    assert best["p"] == pytest.approx(min(4 * worst, 1))
