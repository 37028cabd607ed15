"""Additions against plain integer arithmetic, for every pair of two-digit numbers."""

import numpy as np
import pytest
from pydantic import ValidationError

from prompts.additions import (
    Addition,
    AdditionFormat,
    Cells,
    Sums,
    cells,
    edge_cases,
    every_pattern,
    repeated_pairs,
)

VOCABULARY = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}


@pytest.fixture(scope="module")
def every_two_digit_sum() -> Sums:
    a, b = np.divmod(np.arange(10_000), 100)
    return Sums(a, b, 2)


def by_hand(a: int, b: int, places: int) -> tuple[list[int], list[int], list[int]]:
    """Carry, run and answer digits as taught in school, one column after the other."""
    carry, run, answer = [0], [0], []
    for place in range(places):
        total = a // 10**place % 10 + b // 10**place % 10
        answer.append((total + carry[-1]) % 10)
        carry.append(int(total >= 10 or (total == 9 and carry[-1] == 1)))
        run.append(run[-1] + 1 if total == 9 else 0)
    return carry, run, [*answer, carry[-1]]


def test_ground_truth_of_every_two_digit_sum(every_two_digit_sum: Sums) -> None:
    sums = every_two_digit_sum
    for row in range(len(sums)):
        carry, run, answer = by_hand(int(sums.a[row]), int(sums.b[row]), 2)
        assert sums.carry[row].tolist() == carry
        assert sums.run[row].tolist() == run
        assert sums.answer_digits[row].tolist() == answer


def test_answer_digits_are_uncarried_plus_carry(every_two_digit_sum: Sums) -> None:
    sums = every_two_digit_sum
    assert (sums.answer_digits == (sums.uncarried + sums.carry) % 10).all()
    assert (sums.column_sums == sums.a_digits + sums.b_digits).all()
    assert (sums.classes == np.digitize(sums.column_sums, [9, 10])).all()


def test_ground_truth_of_random_longer_sums() -> None:
    sums = Addition(places=9, count=300, seed=0).sums
    for row in range(len(sums)):
        carry, run, answer = by_hand(int(sums.a[row]), int(sums.b[row]), 9)
        assert sums.carry[row].tolist() == carry
        assert sums.run[row].tolist() == run
        assert sums.answer_digits[row].tolist() == answer


def test_cells_are_those_that_occur(every_two_digit_sum: Sums) -> None:
    sums = every_two_digit_sum
    occurring = {
        (place, int(run), int(carry))
        for place in range(3)
        for run, carry in zip(sums.run[:, place], sums.carry[:, place], strict=True)
    }
    assert occurring == set(cells(2))
    assert len(cells(6)) == 49


def test_each_cell_is_drawn_as_often_as_asked() -> None:
    sums = Cells(places=4, per_cell=50, seed=3).sums
    drawn, counts = np.unique(sums.cell, axis=0, return_counts=True)
    assert [tuple(row) for row in drawn] == sorted(cells(4))
    assert (counts == 50).all()


def test_a_cell_is_drawn_uniformly() -> None:
    sums = Cells(places=2, per_cell=40_000, seed=0).sums
    chosen = sums[(sums.cell == [2, 1, 1]).all(1)]
    _, counts = np.unique(chosen.a * 100 + chosen.b, return_counts=True)
    assert len(counts) == 10 * 45
    assert abs(counts - 40_000 / 450).max() < 6 * np.sqrt(40_000 / 450)


def test_numbers_without_padding_begin_with_no_zero() -> None:
    sums = Cells(places=3, per_cell=200, seed=0, padded=False).sums
    assert min(sums.a.min(), sums.b.min()) >= 100
    assert {tuple(row) for row in sums.cell} == set(cells(3, padded=False))
    assert (3, 0, 0) not in cells(3, padded=False)


def test_which_sums_are_drawn_depends_on_the_seed_and_not_on_the_batch_size() -> None:
    sample = Addition(places=5, count=1000, seed=4)
    rejoined = np.concatenate([batch.a for batch in sample.batches(77)])
    assert (rejoined == Addition(places=5, count=1000, seed=4).sums.a).all()
    assert (rejoined != Addition(places=5, count=1000, seed=5).sums.a).any()
    assert sum(map(len, Cells(places=2, per_cell=10, seed=0).batches(7))) == 10 * len(cells(2))


def test_every_pattern_of_columns_occurs() -> None:
    sums = every_pattern(places=4, per_pattern=2, seed=0)
    patterns, counts = np.unique(sums.classes, axis=0, return_counts=True)
    assert len(patterns) == 3**4
    assert (counts == 2).all()


def test_repeated_pairs_contain_the_sum_that_random_cascades_missed() -> None:
    sums = repeated_pairs(6)
    assert len(sums) == 100 * 100 * 6
    assert ((sums.a == 444444) & (sums.b == 555556)).any()
    nines_and_one = (sums.a == 999999) & (sums.b == 1)
    assert nines_and_one.any()


def test_edge_cases_pair_the_extremes() -> None:
    sums = edge_cases(3)
    pairs = set(zip(sums.a.tolist(), sums.b.tolist(), strict=True))
    assert {(0, 0), (999, 999), (999, 1), (1, 999), (500, 500), (111, 888)} <= pairs


def test_an_addend_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="2 digits"):
        Sums(np.array([100]), np.array([1]), 2)


@pytest.mark.parametrize("operands", ["msb", "lsb"])
@pytest.mark.parametrize("answer", ["msb", "lsb"])
def test_padded_tokens_of_every_two_digit_sum(
    every_two_digit_sum: Sums, operands: str, answer: str
) -> None:
    style = AdditionFormat(
        digits=2,
        operands=operands,
        answer=answer,
        layout=("<bos>", "a", "+", "b", "=", "c"),
        vocabulary=VOCABULARY,
    )
    tokens = style.tokens(every_two_digit_sum.a, every_two_digit_sum.b)
    at = style.write(every_two_digit_sum).at
    signs = {index: sign for sign, index in VOCABULARY.items()}
    for row, a, b in zip(tokens, every_two_digit_sum.a, every_two_digit_sum.b, strict=True):
        left, right, total = f"{a:02}", f"{b:02}", f"{a + b:03}"
        if operands == "lsb":
            left, right = left[::-1], right[::-1]
        if answer == "lsb":
            total = total[::-1]
        assert "".join(signs[token] for token in row) == f"<bos>{left}+{right}={total}"
    for place in range(3):
        assert (at[:, place] == style.read_at(place) + 1).all()
        read = tokens[:, style.read_at(place) + 1]
        assert (read == every_two_digit_sum.answer_digits[:, place]).all()
    for place in range(2):
        for name in ("a", "b"):
            read = tokens[:, style.operand_at(name, place)]
            assert (read == getattr(every_two_digit_sum, f"{name}_digits")[:, place]).all()


@pytest.mark.parametrize("answer", ["msb", "lsb"])
def test_unpadded_tokens_of_every_two_digit_sum(every_two_digit_sum: Sums, answer: str) -> None:
    style = AdditionFormat(digits=2, pad=False, answer=answer, vocabulary=VOCABULARY)
    written = style.write(every_two_digit_sum)
    signs = {index: sign for sign, index in VOCABULARY.items()}
    for row, sums in enumerate(zip(every_two_digit_sum.a, every_two_digit_sum.b, strict=True)):
        total = str(sum(sums))
        text = f"{sums[0]}+{sums[1]}={total if answer == 'msb' else total[::-1]}"
        assert "".join(signs[token] for token in written.tokens[row])[: len(text)] == text
        assert written.prompt[row] == text.index("=") + 1
        for place in range(3):
            at = written.at[row, place]
            assert (at >= 0) == (place < len(total))
            if at >= 0:
                assert signs[written.tokens[row, at]] == total[-1 - place]


@pytest.mark.parametrize("pad", [True, False])
def test_signs_may_follow_the_answer(every_two_digit_sum: Sums, pad: bool) -> None:
    layout = ("a", "+", "b", "=", "c")
    plain = AdditionFormat(digits=2, pad=pad, layout=layout, vocabulary=VOCABULARY)
    ended = plain.model_copy(update={"layout": (*layout, "<bos>", "=")})
    assert (plain.write(every_two_digit_sum).at == ended.write(every_two_digit_sum).at).all()
    assert (
        plain.write(every_two_digit_sum).prompt == ended.write(every_two_digit_sum).prompt
    ).all()


def test_a_format_without_fixed_width_has_no_fixed_positions() -> None:
    style = AdditionFormat(digits=2, pad=False, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="widths"):
        style.read_at(0)
    with pytest.raises(ValueError, match="place 3"):
        AdditionFormat(digits=2, vocabulary=VOCABULARY).read_at(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": ("a", "+", "b")}, "layout"),
        ({"layout": ("c", "=", "a", "+", "b")}, "last"),
        ({"layout": ("a", "+", "a", "b", "=", "c")}, "once"),
        ({"layout": ("a", "plus", "b", "=", "c")}, "'plus'"),
        ({"digits": 0}, "digits"),
        ({"padding": True}, "padding"),
    ],
)
def test_a_damaged_format_is_refused(change: dict, message: str) -> None:
    fields = {"digits": 2, "vocabulary": VOCABULARY, **change}
    with pytest.raises(ValidationError, match=message):
        AdditionFormat(**fields)


def test_questions_are_written_as_people_do() -> None:
    sums = Sums(np.array([12, 7]), np.array([34, 95]), 2)
    assert sums.texts == ["12+34=", "7+95="]
