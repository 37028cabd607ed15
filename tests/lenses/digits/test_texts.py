import numpy as np
import pytest

from lenses.digits.texts import texts_of_prompts, texts_of_sums
from models import ModelError, load
from models.native import vocabulary_tokenizer
from models.planted.places import planted_places
from models.text import token_strings
from prompts.additions import Addition, AdditionFormat, Sums
from prompts.place_values import place_prompts

TOKENS = {**{str(d): d for d in range(10)}, "+": 10, "=": 11, "<bos>": 12}
LAYOUT = ("<bos>", "a", "+", "b", "=", "c")


@pytest.fixture(scope="module")
def planted():
    return planted_places()


@pytest.fixture(scope="module")
def prompts():
    return place_prompts(2, seed=0)


@pytest.fixture(scope="module")
def texts(planted, prompts):
    return texts_of_prompts(planted, prompts)


def test_every_digit_is_the_token_it_is_said_to_be(texts, planted) -> None:
    for row in texts.digits.itertuples():
        token = texts.ids[row.prompt][row.pos]
        assert row.token_id == token
        assert token_strings(planted, [token]) == [str(row.digit)]


def test_digits_are_those_of_the_prompts_in_order(texts, prompts) -> None:
    expected = [(i, d.value, d.place, d.part) for i, p in enumerate(prompts) for d in p.digits]
    found = texts.digits[["prompt", "digit", "place", "part"]].itertuples(index=False, name=None)
    assert list(found) == expected
    assert (texts.digits["index"] == texts.digits.length - 1 - texts.digits.place).all()
    told = dict(zip(range(len(prompts)), (p.announced for p in prompts), strict=True))
    for row in texts.digits.itertuples():
        is_answer = row.part == "c"
        assert row.phase == ("generated" if is_answer else "prompt")
        told_or_not = "announced" if told[row.prompt] else "prompt"
        assert row.sample == ("generated" if is_answer else told_or_not)


def test_cells_of_the_first_sum_by_hand(texts) -> None:
    answer = texts.digits.query("prompt == 0 and part == 'c'").sort_values("place")
    # 128717593 + 8191493: columns 6 18 9 8 10 8 16 2 1, units first.
    assert answer.carry.tolist() == [0, 0, 1, 1, 0, 1, 0, 1, 0]
    assert answer.run.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_batches_hold_each_digit_once(texts) -> None:
    seen = []
    for part in texts.batches(5):
        tokens, row, pos, which = texts.batch(part, "cpu")
        digits = texts.digits.loc[which]
        assert (tokens[row, pos].numpy() == digits.token_id).all()
        seen += which.tolist()
    assert seen == list(texts.digits.index)


def test_chosen_texts_are_numbered_anew(texts) -> None:
    some = texts.chosen([7, 2])
    assert some.ids == [texts.ids[7], texts.ids[2]]
    old = texts.digits[texts.digits.prompt == 7]
    new = some.digits[some.digits.prompt == 0]
    assert new.pos.tolist() == old.pos.tolist()
    assert set(some.digits.prompt) == {0, 1}


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("operands", ["msb", "lsb"])
@pytest.mark.parametrize("answer", ["msb", "lsb"])
def test_sums_in_every_format(pad, operands, answer) -> None:
    style = AdditionFormat(
        digits=4, pad=pad, operands=operands, answer=answer, layout=LAYOUT, vocabulary=TOKENS
    )
    rng = np.random.default_rng(0)
    sums = Sums(10 ** rng.integers(0, 4, 40) - 1, 10 ** rng.integers(0, 4, 40) - 1, 4)
    texts = texts_of_sums(style, sums)
    for number in range(40):
        line = "".join("0123456789+=~"[token] for token in texts.ids[number])
        wide = "05d" if pad else "d"
        a, b = (f"{n:{'04d' if pad else 'd'}}" for n in (sums.a[number], sums.b[number]))
        a, b = (n[::-1] if operands == "lsb" else n for n in (a, b))
        c = f"{sums.answer[number]:{wide}}"
        assert line == f"~{a}+{b}={c[::-1] if answer == 'lsb' else c}"
        for row in texts.digits[texts.digits.prompt == number].itertuples():
            value = {"a": sums.a, "b": sums.b, "c": sums.answer}[row.part][number]
            assert value // 10**row.place % 10 == row.digit == texts.ids[number][row.pos]
            order = answer if row.part == "c" else operands
            assert row.index == (row.length - 1 - row.place if order == "msb" else row.place)
    assert len(texts.digits) == sum(sum(t < 10 for t in ids) for ids in texts.ids)


def test_samples_of_sums() -> None:
    sums = Addition(3, 5, seed=0).sums
    for pad, known in ((True, "announced"), (False, "prompt")):
        style = AdditionFormat(digits=3, pad=pad, layout=LAYOUT, vocabulary=TOKENS)
        digits = texts_of_sums(style, sums).digits
        assert set(digits[digits.part != "c"]["sample"]) == {known}
        assert set(digits[digits.part == "c"]["sample"]) == {"generated"}


def test_a_tokenizer_that_joins_digits_is_refused(planted, prompts) -> None:
    model = planted_places()
    vocabulary = dict(model.tokenizer.get_vocab())
    unused = next(word for word in vocabulary if word not in str(prompts[:1]))
    model.tokenizer = vocabulary_tokenizer(vocabulary | {"28": vocabulary.pop(unused)})
    with pytest.raises(ModelError, match="planted_places: its tokenizer joins the digit 2"):
        texts_of_prompts(model, prompts[:1])


def test_texts_that_do_not_fit_are_refused(planted, prompts, monkeypatch) -> None:
    monkeypatch.setattr(planted.cfg, "n_ctx", 10)
    with pytest.raises(ModelError, match="planted_places reads 10 tokens"):
        texts_of_prompts(planted, prompts[:1])


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3_270m_q4"])
def test_real_tokenizers_write_every_digit_alone(name) -> None:
    model = load(name)
    texts = texts_of_prompts(model, place_prompts(1, seed=0))
    for prompt, rows in texts.digits.groupby("prompt"):
        tokens = token_strings(model, texts.ids[prompt])
        assert [tokens[pos] for pos in rows.pos] == [str(d) for d in rows.digit]
