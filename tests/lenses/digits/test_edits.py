import numpy as np
import pytest
import torch

from lenses.digits.edits import (
    _changes,
    _other_places,
    edit_effects,
    edit_plan,
    edit_sites,
    edit_tables,
    reading_ahead,
)
from lenses.digits.reading import DigitReading, Words, is_operand
from lenses.digits.texts import texts_of_prompts, texts_of_sums
from lenses.states.decoding import MeanStates, read_states, sites
from models import load
from prompts.additions import Addition
from prompts.place_values import place_prompts
from tests.lenses.digits.readings import HOW, MODEL, TEXTS, WORDS, reading


@pytest.fixture(scope="module")
def planted() -> DigitReading:
    return with_means(MODEL, TEXTS, WORDS)


def with_means(model, texts, words) -> DigitReading:
    means, where = MeanStates(20), sites(model)
    place = texts.digits["place"].where(is_operand(texts.digits), -1).to_numpy()
    for part in texts.batches(16):
        tokens, row, pos, which = texts.batch(part, "cpu")
        means.update(read_states(model, tokens, where, row, pos)[0], torch.tensor(place[which]))
    said, decoder = np.zeros(len(texts.digits)), reading().decoder
    return DigitReading(texts, where, HOW, words, None, said, [0], None, means, decoder)


def test_the_plan_moves_a_digit_of_an_announced_copy(planted) -> None:
    prompts = place_prompts(4, seed=0)
    plan = edit_plan(planted, 12, seed=0)
    assert len(plan) == 12
    assert not plan["prompt"].duplicated().any()
    for row in plan.itertuples():
        prompt = prompts[row.prompt]
        assert (prompt.kind, prompt.announced) == ("copy", True)
        number = list(str(prompt.numbers[0]))[::-1]
        ids = planted.texts.ids[row.prompt]
        token = {digit: MODEL.tokenizer.get_vocab()[digit] for digit in "0123456789"}
        assert ids[row.pos] == token[number[row.place]]
        assert ids[row.read + 1] == row.true_id == token[number[row.to_place]]
        assert row.moved_id == token[number[row.place]]
        assert row.moved_id != row.true_id


def test_in_a_sum_the_answers_digit_moves_by_as_much() -> None:
    adder = load("adder_6d_1l")
    style = adder.card.arithmetic
    sums = Addition(6, 40, seed=0).sums
    own = with_means(adder, texts_of_sums(style, sums), Words.none())
    for row in edit_plan(own, 30, seed=0).itertuples():
        a, b = int(sums.a[row.prompt]), int(sums.b[row.prompt])
        digit = a // 10**row.place % 10
        changed = a + (digit - a // 10**row.to_place % 10) * 10**row.to_place
        assert row.moved_id == (changed + b) // 10**row.to_place % 10
        assert row.true_id == (a + b) // 10**row.to_place % 10
        assert row.read == style.read_at(row.to_place)


def test_a_planted_digit_is_used_at_the_place_it_is_moved_to(planted) -> None:
    plan = edit_plan(planted, 16, seed=0)
    table, contrasts = edit_tables(edit_effects(MODEL, planted, plan, seed=0), planted, seed=0)
    found = contrasts.set_index(["statistic", "layer"])
    for control in ("random", "other places"):
        assert found.loc[(f"answer moves, beyond {control}", 1), "low"] > 2
        assert found.loc[(f"answer moves, beyond {control}", 1), "p"] < 0.01
        same = found.loc[(f"answer moves, beyond {control}", 0), "estimate"]
        assert same == pytest.approx(0, abs=0.1)
    # Its word 3 up, the old one's 3 down; what belongs to other places moves neither.
    assert found.loc[("word moves, beyond other places", 1), "estimate"] > 4
    assert set(table["direction"]) == {"place", "other places", "random"}


def test_controls_are_as_long_and_about_other_places(planted) -> None:
    plan = edit_plan(planted, 16, seed=0)
    ways = _changes(planted, plan, 1, seed=0)
    mean = planted.means.mean[:, 1]
    for row, edit in enumerate(plan.itertuples()):
        expected = mean[edit.to_place] - mean[edit.place]
        assert torch.equal(ways["place"][row], expected)
        one, other = _other_places(planted, edit, 0)
        assert len({one, other, edit.place, edit.to_place}) == 4
        between = mean[other] - mean[one]
        scaled = between * expected.norm() / between.norm()
        assert torch.allclose(ways["other places"][row], scaled, atol=1e-5)
        assert ways["random"][row].norm() == pytest.approx(expected.norm().item(), rel=1e-4)


def test_effects_do_not_depend_on_the_batch(planted) -> None:
    plan = edit_plan(planted, 6, seed=1)
    whole = edit_effects(MODEL, planted, plan, seed=0)
    parts = [edit_effects(MODEL, planted, plan.iloc[i : i + 2], seed=0) for i in (0, 2, 4)]
    for name, values in whole.items():
        assert np.allclose(
            values, np.concatenate([p[name] for p in parts]), atol=1e-4, equal_nan=True
        )


def test_no_state_knows_what_follows_unless_attention_looks_ahead() -> None:
    texts = texts_of_prompts(MODEL, place_prompts(2, seed=0))
    assert reading_ahead(MODEL, texts, sites(MODEL))["estimate"].item() < 1e-5
    peek = MODEL.hooks([("blocks.1.hook_resid_pre", lambda x, hook: x + 0.1 * x.mean(1, True))])
    with peek:
        assert reading_ahead(MODEL, texts, sites(MODEL))["estimate"].item() > 1e-3


def test_the_last_state_is_never_edited() -> None:
    assert edit_sites(range(31)) == [0, 10, 19, 29]
    assert edit_sites(range(2)) == [0]
    assert edit_sites(range(3)) == [0, 1]
