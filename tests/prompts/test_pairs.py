"""Minimal pairs against whole-number arithmetic: which digits of two written answers differ."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts import pairs as kinds
from prompts.additions import AdditionFormat, Cell, Sums, cells
from prompts.pairs import Pairs, every_kind, every_pair, null_of

VOCABULARY = {**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11, "<bos>": 12}
LAYOUT = ("<bos>", "a", "+", "b", "=", "c")


def drawn(
    kind: str, place: int, run: int, places: int, count: int, *, seed=0, padded=True
) -> Pairs:
    at = (place, run) if kind == "cascade" else (place,)
    rng = np.random.default_rng(seed)
    return getattr(kinds, kind)(*at, places, count, rng, padded=padded)


def digit(number, place: int):
    return number // 10**place % 10


def neighbours(column: int) -> np.ndarray:
    """Every two-digit addition beside every one with other digits in one column: [4, 990000]."""
    a, b, new_a, new_b = np.indices((100, 100, 10, 10)).reshape(4, -1)
    other_a = a + (new_a - digit(a, column)) * 10**column
    other_b = b + (new_b - digit(b, column)) * 10**column
    found = np.stack([a, b, other_a, other_b])
    return found[:, (a != other_a) | (b != other_b)]


def answers_differ_exactly_at(found: np.ndarray, places: set[int]) -> np.ndarray:
    clean, source = found[0] + found[1], found[2] + found[3]
    differs = [(digit(clean, p) != digit(source, p)) == (p in places) for p in range(3)]
    return np.all(differs, axis=0)


def column_sums(found: np.ndarray, column: int) -> np.ndarray:
    a, b, other_a, other_b = (digit(number, column) for number in found)
    return np.stack([a + b, other_a + other_b])


def of_base(found: np.ndarray, column: int) -> np.ndarray:
    sums = column_sums(found, column)
    inside = ((sums >= 1) & (sums <= 8)).all(0) | ((sums >= 10) & (sums <= 17)).all(0)
    return inside & answers_differ_exactly_at(found, {column})


def of_swap(found: np.ndarray, column: int) -> np.ndarray:
    a, b, other_a, other_b = (digit(number, column) for number in found)
    return (a == other_b) & (b == other_a)


# Of two-digit additions that differ in one column, those that are pairs of each kind.
BY_HAND = {
    ("local", 0, 0): (0, lambda f: answers_differ_exactly_at(f, {1})),
    ("local", 1, 0): (
        1,
        lambda f: answers_differ_exactly_at(f, {2}) & (column_sums(f, 0) <= 8).all(0),
    ),
    ("cascade", 0, 1): (0, lambda f: answers_differ_exactly_at(f, {1, 2})),
    ("tristate", 1, 0): (0, lambda f: answers_differ_exactly_at(f, {1, 2})),
    ("base", 0, 0): (0, lambda f: of_base(f, 0)),
    ("base", 1, 0): (1, lambda f: of_base(f, 1)),
    ("swap", 0, 0): (0, lambda f: of_swap(f, 0)),
    ("swap", 1, 0): (1, lambda f: of_swap(f, 1)),
}


def numbers_of(pairs: Pairs) -> np.ndarray:
    return np.stack([pairs.clean.a, pairs.clean.b, pairs.source.a, pairs.source.b])


def coded(found: np.ndarray) -> np.ndarray:
    return 100 ** np.arange(4) @ found


def codes(pairs: Pairs) -> np.ndarray:
    return coded(numbers_of(pairs))


def test_every_kind_of_two_digits_is_listed() -> None:
    assert set(every_kind(2)) == set(BY_HAND)
    assert {k for k in BY_HAND if k[0] in ("base", "swap")} | {("local", 0, 0)} == set(
        every_kind(2, padded=False)
    )


@pytest.mark.parametrize("name", BY_HAND, ids=str)
def test_pairs_of_two_digits_are_those_found_by_trying_all(name: tuple[str, int, int]) -> None:
    column, fits = BY_HAND[name]
    found = neighbours(column)
    found = found[:, fits(found)]
    pairs = drawn(*name, places=2, count=60_000)
    assert np.isin(codes(pairs), coded(found)).all()
    for at in range(2):
        expected = coded(digit(found, at))
        assert (np.unique(coded(digit(numbers_of(pairs), at))) == np.unique(expected)).all()


@pytest.mark.parametrize("name", [name for name in BY_HAND if name[0] != "swap"], ids=str)
def test_null_pairs_keep_class_sum_and_the_digit_that_is_read(name: tuple[str, int, int]) -> None:
    column, _ = BY_HAND[name]
    pairs = drawn(*name, places=2, count=20_000)
    null = null_of(pairs, np.random.default_rng(1))
    assert null.null
    assert (null.clean.a == pairs.clean.a).all()
    found = numbers_of(null)
    assert np.isin(codes(null), coded(neighbours(column))).all()
    old, new = column_sums(found, column)
    assert (np.digitize(old, [9, 10]) == np.digitize(new, [9, 10])).all()
    assert ((old == new) == ((old != 0) & (old != 18))).all()
    read = pairs.read_place
    assert (digit(found[0] + found[1], read) == digit(found[2] + found[3], read)).all()
    # A column that sums to 4 may be written in five ways, so each of them has four others.
    fours = np.unique(coded(digit(found[:, (old == 4) & (new == 4)], column)))
    assert len(fours) == 5 * 4


def spelled(a: int, b: int, pairs: Pairs) -> list[str]:
    """Addends and answer as they are written, read from the right."""
    wide = pairs.places
    texts = [f"{a:0{wide}}", f"{b:0{wide}}", f"{a + b:0{wide + 1}}"]
    return [text[::-1] for text in (texts if pairs.padded else map(str, (a, b, a + b)))]


def differing(one: str, other: str) -> set[int]:
    return {at for at, (x, y) in enumerate(zip(one, other, strict=True)) if x != y}


def check_by_hand(pairs: Pairs, row: int) -> None:
    """One pair, as strings: what its kind says, and nothing else."""
    a, b, other_a, other_b = numbers_of(pairs)[:, row].tolist()
    clean, source = spelled(a, b, pairs), spelled(other_a, other_b, pairs)
    assert [len(text) for text in clean] == [len(text) for text in source]
    assert [len(text) for text in clean[:2]] == [pairs.places] * 2
    assert differing(clean[0], source[0]) | differing(clean[1], source[1]) == {pairs.column}
    changed = differing(clean[2], source[2])
    assert changed == set(np.flatnonzero(pairs.changes[row]))
    if pairs.null:
        assert changed <= {pairs.column} - {pairs.read_place}
        return
    d, r = pairs.place, pairs.run
    assert (
        changed
        == {
            "local": {d + 1},
            "cascade": set(range(d + 1, d + r + 2)),
            "tristate": {d, d + 1},
            "base": {d},
            "swap": set(),
        }[pairs.kind]
    )
    assert (pairs.read_place in changed) == (pairs.kind != "swap")
    check_columns(pairs, clean, source)


def check_columns(pairs: Pairs, clean: list[str], source: list[str]) -> None:
    """The columns around the one that changes, and that one."""
    sums = [[int(x) + int(y) for x, y in zip(*text[:2], strict=True)] for text in (clean, source)]
    old, new = (member[pairs.column] for member in sums)
    if pairs.kind == "swap":
        assert clean[0][pairs.place] == source[1][pairs.place]
    elif pairs.kind == "base":
        assert np.digitize(old, [9, 10]) == np.digitize(new, [9, 10])
    else:
        assert abs(old - new) == 10
        assert max(sums[0][: pairs.column], default=0) <= 8
        nines = [9] * {"local": 0, "cascade": pairs.run, "tristate": 1}[pairs.kind]
        above = sums[0][pairs.column + 1 :]
        assert above[: len(nines)] == nines
        assert above[len(nines) : len(nines) + 1] != [9]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("places", [1, 4, 6, 10])
def test_longer_pairs_are_what_they_say(places: int, padded: bool) -> None:
    battery = every_pair(places, count=8, seed=places, padded=padded)
    assert [(p.kind, p.place, p.run) for p in battery if not p.null] == every_kind(
        places, padded=padded
    )
    assert sum(p.null for p in battery) == sum(p.kind != "swap" for p in battery if not p.null)
    for pairs in battery:
        for row in range(len(pairs)):
            check_by_hand(pairs, row)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), places=st.integers(1, 17), padded=st.booleans(), seed=st.integers(0, 999))
def test_any_kind_at_any_width(data: st.DataObject, places: int, padded: bool, seed: int) -> None:
    kind, place, run = data.draw(st.sampled_from(every_kind(places, padded=padded)))
    pairs = drawn(kind, place, run, places, 3, seed=seed, padded=padded)
    members = [pairs, pairs.swapped()]
    if kind != "swap":
        members += [null_of(member, np.random.default_rng(seed)) for member in members]
    for member in members:
        check_by_hand(member, seed % 3)


def test_the_digit_that_is_read_lies_in_the_cell_that_the_kind_names() -> None:
    for pairs in every_pair(5, count=40, seed=0):
        read = pairs.read_place
        for member in (pairs.clean, pairs.source):
            here = {
                Cell(read, *rest)
                for rest in np.stack([member.run, member.carry])[:, :, read].T.tolist()
            }
            assert here <= set(cells(5))
            if pairs.kind in ("local", "cascade", "tristate"):
                run = pairs.run if pairs.kind == "cascade" else 0
                assert {cell.run for cell in here} == {run}
        toggled = pairs.clean.carry[:, read] != pairs.source.carry[:, read]
        assert (toggled == (pairs.kind in kinds.TOGGLED and not pairs.null)).all()


def reaches(clean: Sums, source: Sums, column: int) -> np.ndarray:
    """Digits above a column that a toggled carry out of it reaches: only nines in between."""
    toggled = clean.carry[:, column + 1] != source.carry[:, column + 1]
    place = np.arange(column + 1, clean.places + 1)
    return toggled[:, None] & (clean.run[:, place] >= place - column - 1)


@pytest.mark.parametrize("column", [0, 1])
def test_runs_and_carries_say_which_digits_change_in_every_two_digit_sum(column: int) -> None:
    found = neighbours(column)
    clean, source = Sums(*found[:2], 2), Sums(*found[2:], 2)
    for number, place in enumerate(range(column + 1, 3)):
        answers = found[0] + found[1], found[2] + found[3]
        differ = digit(answers[0], place) != digit(answers[1], place)
        assert (differ == reaches(clean, source, column)[:, number]).all()


def test_runs_and_carries_say_which_digits_change_in_every_pair() -> None:
    for pairs in every_pair(6, count=30, seed=0):
        above = pairs.changes[:, pairs.column + 1 :]
        assert (above == reaches(pairs.clean, pairs.source, pairs.column)).all()


def test_pairs_reach_every_cell_with_a_run_that_a_carry_can_cross() -> None:
    for padded in (True, False):
        read = {
            Cell(pairs.read_place, pairs.run, carry)
            for pairs in every_pair(5, count=10, seed=0, padded=padded)
            if pairs.kind in ("local", "cascade") and not pairs.null
            for carry in np.unique(pairs.clean.carry[:, pairs.read_place])
        }
        highest = 5 if padded else 4
        expected = {c for c in cells(5) if c.run < c.place <= highest}
        assert read == expected


def test_directions_are_half_and_half() -> None:
    for pairs in every_pair(4, count=10, seed=0):
        if pairs.kind in kinds.TOGGLED and not pairs.null:
            made = pairs.source.carry[:, pairs.column + 1]
            assert made.tolist() == [1, 0] * 5


def test_the_other_direction_exchanges_clean_and_source() -> None:
    pairs = drawn("cascade", 1, 2, 6, 50)
    turned = pairs.swapped()
    assert (turned.clean.a == pairs.source.a).all()
    assert (turned.source.b == pairs.clean.b).all()
    assert (turned.swapped().clean.a == pairs.clean.a).all()


def test_the_column_in_which_a_carry_ends_makes_one_or_not_alike() -> None:
    above = drawn("local", 1, 0, 4, 4000).clean.column_sums[:, 2]
    assert set(above) == set(range(19)) - {9}
    assert abs((above >= 10).mean() - 0.5) < 0.05


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    first, again, other = (every_pair(3, 20, seed) for seed in (0, 0, 1))
    for one, two, three in zip(first, again, other, strict=True):
        assert (codes(one) == codes(two)).all()
        assert (codes(one) != codes(three)).any()


def test_batches_hold_the_pairs_in_order() -> None:
    pairs = drawn("base", 2, 0, 4, 25)
    parts = pairs.batches(10)
    assert [len(part) for part in parts] == [10, 10, 5]
    assert (np.concatenate([codes(part) for part in parts]) == codes(pairs)).all()
    assert (codes(pairs[pairs.clean.a > 5000]) == codes(pairs)[pairs.clean.a > 5000]).all()


@pytest.mark.parametrize("answer", ["msb", "lsb"])
@pytest.mark.parametrize("operands", ["msb", "lsb"])
def test_written_pairs_differ_where_their_digits_do(answer: str, operands: str) -> None:
    style = AdditionFormat(
        digits=4, operands=operands, answer=answer, layout=LAYOUT, vocabulary=VOCABULARY
    )
    for pairs in every_pair(4, count=6, seed=0):
        clean, source = pairs.write(style)
        assert (clean.tokens == style.write(pairs.clean).tokens).all()
        assert (source.tokens == style.write(pairs.source).tokens).all()
        assert (clean.at == source.at).all()
        may_differ = {style.operand_at(name, pairs.column) for name in ("a", "b")}
        may_differ |= {style.read_at(p) + 1 for p in range(5) if pairs.changes[:, p].any()}
        assert set(np.nonzero(clean.tokens != source.tokens)[1]) <= may_differ


@pytest.mark.parametrize("answer", ["msb", "lsb"])
@pytest.mark.parametrize("padded", [True, False])
def test_a_shared_prefix_is_that_of_the_clean_sum(answer: str, padded: bool) -> None:
    style = AdditionFormat(
        digits=5, pad=padded, answer=answer, layout=(*LAYOUT, "="), vocabulary=VOCABULARY
    )
    for pairs in every_pair(5, count=6, seed=0, padded=padded):
        clean, own = pairs.write(style)
        same, shared = pairs.write(style, prefix="shared")
        assert (same.tokens == clean.tokens).all()
        for row in range(len(pairs)):
            start, read = clean.prompt[row], clean.at[row, pairs.read_place]
            assert (shared.tokens[row, start:read] == clean.tokens[row, start:read]).all()
            assert (shared.tokens[row, :start] == own.tokens[row, :start]).all()
            assert (shared.tokens[row, read:] == own.tokens[row, read:]).all()


def test_only_where_a_changed_digit_is_written_first_does_the_prefix_matter() -> None:
    def differ(pairs: Pairs, answer: str) -> bool:
        style = AdditionFormat(digits=4, answer=answer, layout=LAYOUT, vocabulary=VOCABULARY)
        own, shared = pairs.write(style)[1], pairs.write(style, prefix="shared")[1]
        return bool((own.tokens != shared.tokens).any())

    local, cascade, tristate = (
        drawn(*name, 4, 10) for name in (("local", 1, 0), ("cascade", 0, 2), ("tristate", 2, 0))
    )
    assert not differ(local, "msb")
    assert not differ(local, "lsb")
    assert not differ(cascade, "msb")
    assert differ(cascade, "lsb")
    assert differ(tristate, "msb")
    assert not differ(tristate, "lsb")


def test_a_format_of_another_width_is_refused() -> None:
    wide = AdditionFormat(digits=6, vocabulary=VOCABULARY)
    with pytest.raises(ValueError, match="6 digits, the pairs 4"):
        drawn("base", 0, 0, 4, 3).write(wide)
    unpadded = wide.model_copy(update={"pad": False})
    with pytest.raises(ValueError, match="not padded"):
        drawn("base", 0, 0, 4, 3).write(unpadded)
    assert drawn("base", 0, 0, 4, 3, padded=False).write(unpadded)[0].tokens.shape[1] > 10
    with pytest.raises(ValueError, match="up to 6 digits"):
        drawn("base", 0, 0, 7, 3, padded=False).write(unpadded)


@pytest.mark.parametrize(
    ("name", "padded", "message"),
    [
        (("local", 4, 0), True, "no column 4"),
        (("base", -1, 0), True, "no column -1"),
        (("tristate", 0, 0), True, "no carry comes into column 0"),
        (("cascade", 1, 0), True, "1 nine or more"),
        (("cascade", 2, 2), True, "reaches no digit"),
        (("local", 3, 0), False, "length of the answer"),
        (("cascade", 1, 2), False, "length of the answer"),
        (("tristate", 3, 0), False, "length of the answer"),
    ],
)
def test_kinds_that_do_not_exist_are_refused_in_one_line(
    name: tuple[str, int, int], padded: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        drawn(*name, places=4, count=5, padded=padded)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(name[0])


def test_pairs_that_change_nothing_have_no_nulls() -> None:
    rng = np.random.default_rng(0)
    for pairs in (drawn("swap", 0, 0, 3, 5), null_of(drawn("base", 0, 0, 3, 5), rng)):
        with pytest.raises(ValueError, match="no null pairs"):
            null_of(pairs, rng)


@pytest.mark.parametrize(
    ("kind", "place", "clean", "source", "padded", "message"),
    [
        ("local", 0, (13, 64), (19, 68), True, None),
        ("local", 0, (12, 34), (12, 34), True, "more or less"),  # nothing differs
        ("local", 0, (12, 34), (13, 34), True, "more or less"),  # no carry changes
        ("local", 0, (12, 38), (16, 45), True, "more or less"),  # another column differs too
        ("local", 0, (13, 84), (19, 88), True, "more or less"),  # the carry goes on over a nine
        ("local", 0, (3, 4), (9, 8), False, "as many digits"),
        ("local", 1, (18, 14), (98, 34), True, "more or less"),  # a carry from below
        ("base", 0, (13, 64), (14, 64), True, None),
        ("base", 0, (13, 64), (13, 66), True, "more or less"),  # three and six are nine
        ("swap", 0, (13, 64), (14, 63), True, None),
        ("swap", 0, (13, 64), (12, 65), True, "more or less"),  # the same sum of other digits
    ],
)
def test_pairs_that_are_not_of_their_kind_are_refused(
    kind: str,
    place: int,
    clean: tuple[int, int],
    source: tuple[int, int],
    padded: bool,
    message: str | None,
) -> None:
    members = [Sums(np.array([a]), np.array([b]), 2) for a, b in (clean, source)]
    if message is None:
        assert len(Pairs(kind, *members, place=place, padded=padded)) == 1
        return
    with pytest.raises(ValueError, match=message):
        Pairs(kind, *members, place=place, padded=padded)


def test_members_of_different_numbers_are_refused() -> None:
    pairs = drawn("local", 0, 0, 3, 4)
    with pytest.raises(ValueError, match="same number"):
        Pairs("local", pairs.clean, pairs.source[:2], place=0)
