"""What a model writes and reads of its own text, prompt by prompt, and the planted control."""

import numpy as np
import pytest

from experiments.on_policy import OnPolicy
from lenses.kept import PerPrompt
from lenses.states import own_text, policy
from lenses.states.fillers import FILLERS
from lenses.states.own_text import OwnText, control_found, long_enough, planted_control
from lenses.states.policy import FEWEST, STATISTICS
from lenses.states.replies import additions_answered, read_after
from models import ModelError, load
from models.planted.dialect import planted_dialect


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def study(adder) -> OwnText:
    prompts = additions_answered(adder, 3, 0)
    return OwnText(prompts, 0, 2, OnPolicy(model="adder_6d_1l").stream)


@pytest.fixture(scope="module")
def own(study, adder) -> PerPrompt:
    return study.written(adder)


def test_what_is_kept_of_a_prompt_is_what_one_pass_over_it_gives(study, own, adder) -> None:
    for number, prompt in enumerate(study.prompts):
        ids = own["fillers"][number]
        assert ids.shape == (len(FILLERS), 7)
        read = read_after(adder, prompt.prompt, ids.tolist())
        np.testing.assert_array_equal(own["statistics"][number], read.statistics)
        np.testing.assert_array_equal(own["surprisal"][number], policy.surprisals(read, ids))
        p = read.log_p[:, 1:].exp().double()
        entropy = -(p * p.log().nan_to_num()).sum(-1).numpy()
        np.testing.assert_allclose(own["entropy"][number], entropy, atol=1e-5)


def test_shorter_texts_are_filled_up(study, adder) -> None:
    wide = study.of_prompt(adder, study.prompts[0], 9)
    assert wide["fillers"].shape == (1, len(FILLERS), 9)
    assert (wide["fillers"][0, :, 7:] == -1).all()
    assert np.isnan(wide["surprisal"][0, :, 7:]).all()
    assert wide["length"].tolist() == [7]


def test_a_twin_reads_the_same_texts(study, own, adder) -> None:
    [twin] = study.in_twins([adder], 1, own)  # a twin of the same weights reads the same
    for name in ("statistics", "entropy"):
        np.testing.assert_array_equal(twin[name], own[name])


def test_text_that_ends_at_once_is_left_out() -> None:
    """The adder's end token is its first: what it says there ends the text."""
    kept = long_enough("adder", np.array([7, 0, FEWEST - 1, 7, FEWEST]))
    assert kept.tolist() == [True, False, False, True, True]
    with pytest.raises(ModelError, match="adder ends all but 2 of 3 texts"):
        long_enough("adder", np.array([7, 7, 0]))


def test_what_was_not_compared_is_in_the_table_of_prompts(study, adder, own) -> None:
    short = {"fillers": own["fillers"], "length": np.array([7, 3, 7])}
    rows = own_text.prompt_rows(adder, study.prompts, short).set_index(["prompt", "filler"])
    assert rows["compared"].groupby("prompt").first().tolist() == [True, False, True]
    written = adder.tokenizer.decode(study.prompts[1].given[:3])
    assert rows.loc[(1, "given"), "filled_with"] == written
    assert rows.loc[(1, "given"), "tokens"] == 3
    errors = own_text.identity_rows(own)
    assert errors["prompt"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(errors[list(STATISTICS)], own["states"])


def test_the_control_tells_what_is_found_and_where_nothing_is() -> None:
    rows = planted_control(planted_dialect())
    control = control_found(rows)
    assert control.found
    assert control.quiet
    twins = rows[rows["given"] == "twins of its words"].set_index(["filler", "statistic"])
    sizes = twins.xs("attention_on_filler", level="statistic")["estimate"]
    assert control.planted == sizes.min()
    again = rows["given"] == "its own, again"
    assert control.same == rows[again & (rows["filler"] == "sampled")]["estimate"].abs().max()
    blind = rows.assign(low=rows["low"].where(rows["filler"] != "greedy", -1.0))
    assert not control_found(blind).found
    loud = rows.assign(p_any=rows["p_any"].where(~again, 0.01))
    assert not control_found(loud).quiet
