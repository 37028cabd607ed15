"""How language models are asked for sums, which form is chosen, and what is said where none is."""

import numpy as np
import pytest
import torch

from lenses.addition.contrasts import token_positions
from lenses.addition.forms import (
    CHOSEN_ON,
    addition_format,
    asked_in_forms,
    best_form,
    form_rows,
    forms_of,
    questions,
    right_by_form,
    right_in,
    style_of,
    sums_apart,
    unused,
)
from models import ModelError, load
from models.native import vocabulary_tokenizer
from models.text import TextNote, tokenize
from prompts.additions import Addition, Sums
from prompts.forms import CHAT, CLOSE, Form
from tests.lenses.addition.asked import adding_only


def with_card(**fields):
    """The adder with another format on its card."""
    model = load("adder_6d_1l")
    style = model.card.arithmetic.model_copy(update=fields)
    model.card = model.card.model_copy(update={"arithmetic": style})
    return model


@pytest.fixture(scope="module")
def close():
    """Adds `12+34=` after something, and nothing with spaces in it."""
    return adding_only(r"\n(\d+)\+(\d+)=(\d*)$")


def test_an_adder_writes_as_its_card_says():
    adder = load("adder_6d_1l")
    assert addition_format(adder, None, 1, 0) is adder.card.arithmetic
    assert addition_format(adder, 6, 1, 0) is adder.card.arithmetic
    with pytest.raises(ModelError, match="6 digits, not 3"):
        addition_format(adder, 3, 1, 0)


def test_an_adder_of_many_widths_can_be_asked_fewer_digits():
    model = with_card(pad=False)
    assert addition_format(model, 3, 1, 0).digits == 3
    with pytest.raises(ModelError, match="up to 6 digits, not 7"):
        addition_format(model, 7, 1, 0)


def test_a_tokenizer_that_joins_digits_is_refused_in_one_line(monkeypatch):
    model = load("adder_6d_1l")
    signs = [*"0123456789+=> \na", *(f"{number:02}" for number in range(100))]
    model.tokenizer = vocabulary_tokenizer({sign: i for i, sign in enumerate(signs)})
    monkeypatch.setattr("models.text.refuse_unread_tokens", lambda *_: None)
    model.card = model.card.model_copy(update={"arithmetic": None})
    with pytest.raises(ModelError, match="every digit as a token of its own") as refused:
        addition_format(model, 2, 1, 0)
    assert "\n" not in str(refused.value)


def test_the_form_in_which_the_model_adds_is_chosen(close):
    told = "in the form 'few-shot, no spaces': none of [0-9] was better on 24 other sums"
    with pytest.warns(TextNote, match=told):
        form = best_form(close, seed=3)
    assert form.name == "few-shot, no spaces"
    assert form.prompt(12, 34).endswith("\n12+34=")
    style = addition_format(close, 2, 1, 3)
    written = style.write(Sums(np.array([12]), np.array([34]), 2)).tokens[0].tolist()
    assert written == tokenize(close, form.solved(12, 34))


def test_accuracy_by_form_is_that_of_plain_reading(close):
    forms, sums = forms_of(close, 2, 0), Addition(2, 30, seed=9, padded=False).sums
    right = right_by_form(close, forms, sums, None, "")
    rows = form_rows(forms, forms[1], right, "measured").set_index("form")
    assert len(rows) >= 4
    assert rows["accuracy"].to_dict() == {name: float(name == forms[1].name) for name in rows.index}
    assert rows.loc[rows["chosen"], "prompt"].item() == forms[1].prompt(12, 34)
    assert rows["low"].max() == pytest.approx(30 / (30 + 1.96**2), abs=1e-3)  # Wilson, all right


def test_one_wrong_digit_makes_a_sum_wrong():
    """A model that says the right digit only where the answer begins."""
    model = adding_only(r"\n(\d+)\+(\d+)=()$")
    form = CLOSE.showing(sums_apart(1, 0)[0])
    sums = Addition(1, 40, 5, padded=False).sums
    right, short = right_in(model, style_of(model, form, 1), sums), sums.answer < 10
    assert right[short].all()
    assert right[~short].mean() < 0.3  # the second digit is as it comes


def test_forms_that_the_tokenizer_cannot_write_are_left_out(close):
    names = [form.name for form in forms_of(close, 2, 0)]
    known = ">" in close.tokenizer.get_vocab()
    assert ("interpreter" in names) == known
    assert "chat" not in names
    assert "few-shot" not in [form.name for form in forms_of(close, 2, 0, examples=0)]


def test_examples_that_do_not_fit_are_refused_and_not_left_out(close):
    """The form without them would be measured, and called the best of all."""
    said = r"examples: a question with solved ones in front .* is \d+ tokens long, but .* at most"
    with pytest.raises(ModelError, match=said):
        forms_of(close, 2, 0, examples=close.cfg.n_ctx // 8)


def test_a_template_for_conversations_is_a_form(close, monkeypatch):
    def template(turns, tokenize, add_generation_prompt):
        assert (turns, tokenize) == ([{"role": "user", "content": CHAT}], False)
        return f"user: {turns[0]['content']}\nmodel: "

    monkeypatch.setattr(close.tokenizer, "chat_template", "some", raising=False)
    monkeypatch.setattr(close.tokenizer, "apply_chat_template", template, raising=False)
    chat = forms_of(close, 2, 0)[-1]
    assert chat.name == "chat"
    assert chat.prompt(12, 34) == f"user: {CHAT.format(a=12, b=34)}\nmodel: "


def test_sums_to_choose_on_are_not_those_that_are_measured():
    shown, tried = sums_apart(2, seed=0, examples=3)
    assert (len(shown), len(tried)) == (3, CHOSEN_ON)
    asked = Addition(2, 5000, seed=0, padded=False).sums
    used = {(a, b) for part in (shown, tried) for a, b in zip(part.a, part.b, strict=True)}
    assert len(used) == 3 + CHOSEN_ON
    expected = [(a, b) not in used for a, b in zip(asked.a, asked.b, strict=True)]
    assert unused(asked, 0, examples=3).tolist() == expected
    assert not all(expected)


def test_questions_are_written_in_the_best_form_and_answered(close):
    with pytest.warns(TextNote):
        asked = questions(close, 1, 60, seed=0)
    assert 20 < len(asked) < 60
    shown, tried = sums_apart(1, 0)
    for prompt, answer in asked:
        first, line = prompt.split("\n")
        a, b = map(int, line.removesuffix("=").split("+"))
        assert int(answer) == a + b
        assert (a, b) not in zip(tried.a.tolist(), tried.b.tolist(), strict=True)
        assert first == f"{shown.a[0]}+{shown.b[0]}={shown.answer[0]}"


def test_small_numbers_are_not_drawn_twice():
    parts = sums_apart(1, seed=0, examples=2)
    pairs = [(a, b) for part in parts for a, b in zip(part.a, part.b, strict=True)]
    assert len({*pairs}) == len(pairs) == 2 + CHOSEN_ON


def test_a_form_is_text_and_nothing_else():
    form = Form("x", "o ", "a ", " and ", " is ")
    shown = Sums(np.array([1]), np.array([2]), 1)
    assert form.solved(12, 34) == "o a 12 and 34 is 46"
    assert form.showing(shown).prompt(3, 4) == "o a 1 and 2 is 3\na 3 and 4 is "
    assert form.showing(shown, "y").name == "y"
    assert form.before("said. ") == "o said. a "


@pytest.mark.real
def test_smollm2_reads_additions_as_they_are_written():
    model = load("smollm2")
    sums = Addition(3, 50, seed=9, padded=False).sums
    forms = forms_of(model, 3, seed=0, examples=2)
    assert len(forms) >= 8
    assert {"chat", "few-shot", "interpreter"} <= {form.name for form in forms}
    for form in forms:
        written = style_of(model, form, 3).write(sums)
        for row, a, b, end in zip(
            written.tokens, sums.a, sums.b, written.at.max(axis=1) + 1, strict=True
        ):
            assert model.tokenizer.decode(torch.tensor(row[:end])) == form.solved(a, b)


def test_signs_of_a_form_are_called_by_their_text_and_pos() -> None:
    model = adding_only(r"\n(\d+)\+(\d+)=()$")
    style = style_of(model, CLOSE.showing(sums_apart(1, 0)[0]), 1)
    sums = Addition(1, 5, 5, padded=False).sums
    named = token_positions(style, sums)
    written = style.write(sums).tokens[0]
    assert [name for name in named if not name.startswith("A")][-4:] == [
        "a0", "+ (8)", "b0", "= (10)",
    ]  # fmt: skip
    assert model.tokenizer.decode(torch.tensor(written[[8, 10]])) == "+="


def test_every_form_is_asked_of_sums_that_chose_none(close):
    def stream(items, keep, label, size):
        return ([item] for item in items)

    style, tables = asked_in_forms(close, 2, 12, 0, 1, stream)
    forms = tables["forms"]
    chosen = forms.loc[forms["chosen"], "form"].unique().item()
    form = next(form for form in forms_of(close, 2, 0, 1) if form.name == chosen)
    assert style == style_of(close, form, 2)
    sums = Addition(2, 12, 0, padded=False).sums
    sums = sums[unused(sums, 0, 1)]
    row = forms[forms["chosen"] & (forms["sample"] == "measured")].iloc[0]
    assert (row["n"], row["correct"]) == (len(sums), right_in(close, style, sums).sum())
    bare = forms.query("form == 'bare' and sample == 'measured'").iloc[0]
    lead = tables["form_lead"]["estimate"].item()
    assert lead == pytest.approx(row["accuracy"] - bare["accuracy"])
    assert asked_in_forms(close, 2, 3, 0, 1, stream)[1]["form_lead"].empty
