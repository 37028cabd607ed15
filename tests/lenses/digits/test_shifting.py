"""Shifted digits, one prompt and one edit at a time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.digits import exchanges as ex
from lenses.digits import geometry as geo
from lenses.digits.shifting import Shifter, asked_of, keep_only, some_layers, states_of
from lenses.digits.shifts import ABOVE, EDITS, OWN, gain_of_fit, gains, success_where_clearest
from lenses.statistics.intervals import bootstrap
from models import load
from models.planted.carry import planted_carry


def stream(items: Sequence, keep: object, label: str, size: int | None = None):
    """The items, or batches of them, without progress and stops."""
    yield from (
        items
        if size is None
        else (items[first : first + size] for first in range(0, len(items), size))
    )


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def asked(adder):
    return asked_of(adder, 9, 2, seed=0)


@pytest.fixture(scope="module")
def states(adder, asked):
    return states_of(adder, asked.every, stream, "states")


@pytest.fixture(scope="module")
def shift(adder):
    return Shifter(adder, stream, [0], permuted_fits=3, batch_size=5, seed=0)


def test_an_adder_is_read_in_its_own_column_and_in_the_one_above(asked):
    assert list(dict.fromkeys(asked.reads)) == [OWN, ABOVE]
    assert len(asked.reads) == len(asked.rows)


def test_states_are_those_of_each_prompt_by_itself(adder, asked, states):
    slots, contexts, values, _ = asked.every.tokens.shape
    assert states.shape == (slots, 2, contexts, values, adder.cfg.d_model)
    for slot, context, value in ((0, 0, 0), (3, 8, 7)):
        tokens = torch.from_numpy(asked.every.tokens[slot, context, value][None])
        cache = adder.run_with_cache(tokens)[1]
        at = int(asked.every.at[slot])
        for layer, hook in enumerate(("hook_resid_pre", "hook_resid_post")):
            expected = cache[f"blocks.0.{hook}"][0, at].numpy()
            np.testing.assert_allclose(states[slot, layer, context, value], expected, atol=1e-5)


def test_a_step_by_all_of_the_difference_leads_to_the_mean_state_of_the_target(
    asked, states, shift
):
    means, rows = states[:, 0].mean(1), asked.rows
    steps = shift.steps(means, geo.bases()["line and circle"], rows)
    expected = means[rows.slot, rows.target] - means[rows.slot, rows.value]
    np.testing.assert_allclose(steps["all"], expected, atol=1e-5)
    lengths = [np.linalg.norm(steps[name], axis=1) for name in ("fit", "random")]
    np.testing.assert_allclose(*lengths, rtol=1e-4)


def test_what_is_said_is_what_a_pass_with_the_changed_state_says(adder, asked, states, shift):
    patterns = geo.bases()["line and circle"]
    said, clean = shift.said(asked.rows, states, patterns, "edits")
    steps = shift.steps(states[:, 0].mean(1), patterns, asked.rows)
    for row in (0, len(asked.rows) - 1):
        one = asked.rows[row : row + 1]
        at, read = int(one.at[0]), int(one.read[0])
        tokens = torch.from_numpy(one.tokens)
        assert clean[row] == adder(tokens)[0, read].argmax()
        assert (
            said["other token"][0, row] == adder(torch.from_numpy(one.exchanged))[0, read].argmax()
        )
        for edit in ("all", "fit", "permuted 1"):
            changed = ex.entering(adder, one.tokens, 0).clone()
            changed[0, at] += torch.from_numpy(steps[edit][row])
            assert said[edit][0, row] == adder(changed, start_at_layer=0)[0, read].argmax()


def test_layers_are_all_of_few_and_some_of_the_first_half_of_many():
    assert some_layers(4, 3) == [0, 1, 2, 3]
    assert some_layers(24, 3) == [0, 6, 12]
    assert some_layers(24, 1) == [0]


def test_digits_that_keep_a_pattern_have_nothing_else():
    model = planted_carry(places=2).model
    ids = model.card.arithmetic.digit_ids
    before = model.W_E[ids].double().numpy()
    patterns = geo.bases()["line"]
    after = keep_only(model, patterns).W_E[ids].double().numpy()
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-5)
    rest = np.eye(10) - geo.projector(patterns)
    np.testing.assert_allclose(rest @ (after - after.mean(0)), 0, atol=1e-4)


@pytest.fixture
def moved():
    """Moves and fits of two layers, of which the second tells the fit from permuted ones."""
    rng, rows = np.random.default_rng(0), []
    for layer, success in ((0, 0.3), (1, 0.9)):
        for edit, share in (("fit", success), ("permuted", 0.3), ("all", 0.95)):
            rows += [(OWN, layer, EDITS[edit], n, float(rng.random() < share)) for n in range(30)]
    moves = pd.DataFrame(rows, columns=["reads", "layer", "edit", "prompt", "success"])
    fits = [(OWN, 0, "fit", 0.3), (OWN, 1, "fit", 0.9)]
    fits += [(OWN, layer, f"permuted {n}", 0.2 + n / 100) for layer in (0, 1) for n in range(20)]
    return moves, pd.DataFrame(fits, columns=["reads", "layer", "fit", "success"])


def test_the_gain_is_that_of_the_clearest_layer(moved):
    moves, fits = moved
    found = gains(moves, fits, seed=1)[OWN]
    assert found.layer == 1
    here = moves[moves["layer"] == 1].set_index(["edit", "prompt"])["success"]
    fit, permuted = here[EDITS["fit"]].to_numpy(), here[EDITS["permuted"]].to_numpy()
    assert found.more == bootstrap(fit - permuted, 1)
    assert (found.permuted, found.whole) == (permuted.mean(), here[EDITS["all"]].mean())
    assert found == gain_of_fit(moves, fits, seed=1)


def test_success_is_told_at_the_clearest_layer(moved):
    _, fits = moved
    edits = pd.DataFrame(
        {"reads": OWN, "layer": [0, 1, 0, 1], "edit": ["a", "a", "b", "b"],
         "success": [0.1, 0.2, 0.3, 0.4]}
    )  # fmt: skip
    assert success_where_clearest(edits, fits)[OWN].to_dict() == {"a": 0.2, "b": 0.4}
