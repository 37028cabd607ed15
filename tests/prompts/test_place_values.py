import re

import numpy as np
import pytest

from prompts.additions import AdditionFormat
from prompts.place_values import (
    FILLERS,
    LENGTHS,
    OTHER_WORDS,
    PLACE_WORDS,
    PREFIX_WORDS,
    adder_sums,
    given_prompt,
    number_words,
    place_prompts,
    prefix_prompts,
    sums_of_any_length,
)

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
VALUES = {word: value for value, word in enumerate(SMALL.split())}
VALUES |= {word: 10 * value for value, word in enumerate(TENS.split(), start=2)}


def read(words: str) -> int:
    """The number that words say, by adding and multiplying as one hears them."""
    total = group = 0
    for word in re.split("[ -]", words):
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million", "billion"):
            total += group * {"thousand": 10**3, "million": 10**6, "billion": 10**9}[word]
            group = 0
        else:
            group += VALUES[word]
    return total + group


@pytest.fixture(scope="module")
def prompts():
    return place_prompts(4, seed=0)


def test_words_say_every_number() -> None:
    rng = np.random.default_rng(0)
    long = [int(n) for length in range(5, 13) for n in rng.integers(0, 10**length, 300)]
    for number in [*range(20_000), *long, 10**6, 10**9, 10**12 - 1]:
        assert read(number_words(number)) == number


def test_words_as_people_write_them() -> None:
    assert number_words(4071) == "four thousand seventy-one"
    assert number_words(128717593) == (
        "one hundred twenty-eight million seven hundred seventeen thousand five hundred "
        "ninety-three"
    )
    assert number_words(1_000_000) == "one million"


def test_the_first_prompt_is_the_one_that_was_asked_about(prompts) -> None:
    first = prompts[0]
    assert first == given_prompt()
    assert first.prompt == "128717593 + 8191493 ="
    assert first.answer == " 136909086"
    first_number = [(d.at, d.value, d.place, d.length, d.part) for d in first.digits][:9]
    assert first_number == [(i, int(c), 8 - i, 9, "a") for i, c in enumerate("128717593")]


def test_every_digit_stands_where_it_is_said_to_stand(prompts) -> None:
    for prompt in [*prompts, *prefix_prompts(2, seed=0)]:
        text = prompt.text
        for digit in prompt.digits:
            assert text[digit.at] == str(digit.value)
            number = next(m for m in re.finditer(r"\d+", text) if m.start() <= digit.at < m.end())
            assert digit.place == number.end() - 1 - digit.at
            assert digit.length == number.end() - number.start()
            assert digit.part == "c" or digit.at < len(prompt.prompt)


def test_every_digit_of_the_last_line_is_listed_once(prompts) -> None:
    for prompt in prompts:
        start = prompt.prompt.rfind("\n") + 1
        expected = [i for i in range(start, len(prompt.text)) if prompt.text[i].isdigit()]
        assert [digit.at for digit in prompt.digits] == expected


def test_answers_are_true(prompts) -> None:
    for prompt in prompts:
        given = [int(n) for n in re.findall(r"\d+", prompt.prompt.splitlines()[-1])]
        assert given == list(prompt.numbers)
        if prompt.kind == "words":
            assert read(prompt.answer.strip()) == given[0]
        else:
            assert int(prompt.answer) == sum(given)


def test_solved_lines_are_true(prompts) -> None:
    for prompt in prompts[1:]:
        example = prompt.prompt.splitlines()[-2]
        left, right = re.split(" = |, again ", example)
        numbers = [int(n) for n in re.findall(r"\d+", left)]
        assert (read(right) if prompt.kind == "words" else int(right)) == sum(numbers)


def test_there_are_as_many_of_each_kind_and_length(prompts) -> None:
    for kind in ("addition", "copy", "words"):
        for announced in (True, False):
            some = [p for p in prompts[1:] if p.kind == kind and p.announced == announced]
            longest = [max(len(str(n)) for n in p.numbers) for p in some]
            if kind != "addition" or announced:
                assert [longest.count(length) for length in LENGTHS] == [2] * 9
            assert len(some) == 18


def test_a_twin_has_the_same_digits_as_something_else(prompts) -> None:
    twins = [p for p in prompts if p.twin >= 0]
    assert {p.kind for p in twins} == {"phone", "year", "code"}
    assert len(twins) == 36
    for twin in twins:
        number = prompts[twin.twin]
        assert (number.kind, number.numbers) == ("copy", twin.numbers)
        assert number.announced == twin.announced
        assert [d.value for d in number.digits] == [d.value for d in twin.digits]


def test_an_announced_length_is_true_and_others_say_nothing(prompts) -> None:
    sizes = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for prompt in prompts:
        said = re.findall(r"(\w+)-digit", prompt.prompt)
        assert len(said) == prompt.announced
        if said:
            lengths = {len(n) for n in re.findall(r"\d+", prompt.prompt)} - {10}
            on_the_right = prompt.kind == "addition"  # sums of examples may be one digit longer
            assert sizes.index(said[0]) + 1 == min(lengths)
            assert on_the_right or len(lengths) == 1


def test_place_is_neither_pos_nor_length(prompts) -> None:
    many = [d for p in place_prompts(12, seed=1) if not p.announced for d in p.digits]
    at, place, length = (np.array([getattr(d, n) for d in many]) for n in ("at", "place", "length"))
    for fixed in range(3, 9):
        of_place = at[place == fixed]
        assert of_place.std() > 30  # characters; a sentence has about as many
        assert len(set(length[place == fixed])) >= 10 - fixed - 1
    assert abs(np.corrcoef(at, place)[0, 1]) < 0.35


def test_a_prefix_and_its_control_differ_in_the_first_digit() -> None:
    prompts = prefix_prompts(3, seed=0)
    assert len(prompts) == 2 * 3 * len(PREFIX_WORDS)
    for prompt, control in zip(prompts[::2], prompts[1::2], strict=True):
        assert prompt.numbers[0] in PREFIX_WORDS
        assert control.numbers[0] // 10 not in (1, prompt.numbers[0] // 10)
        assert control.numbers[0] % 10 == prompt.numbers[0] % 10
        assert prompt.prompt[:-2] == control.prompt[:-2]
    assert PREFIX_WORDS[13] == "thirteen"
    assert PREFIX_WORDS[30] == "thirty"
    assert all(read(word) == number for number, word in PREFIX_WORDS.items())


def test_words_that_are_no_places_are_none_and_fillers_hold_none_of_them() -> None:
    places = {word for words in PLACE_WORDS.values() for word in words}
    assert not places & set(OTHER_WORDS)
    assert not set(VALUES) & set(OTHER_WORDS)
    words = set(re.findall(r"\w+", " ".join(FILLERS).lower()))
    assert not words & (places | set(VALUES) | set(OTHER_WORDS))
    assert not re.search(r"\d", "".join(FILLERS))


def test_the_seed_decides() -> None:
    assert place_prompts(2, seed=3) == place_prompts(2, seed=3)
    assert place_prompts(2, seed=3)[1:] != place_prompts(2, seed=4)[1:]


def test_sums_have_numbers_of_every_length() -> None:
    sums = sums_of_any_length(4, 2_000, seed=0)
    for numbers in (sums.a, sums.b):
        lengths = np.array([len(str(n)) for n in numbers])
        assert (np.abs(np.bincount(lengths)[1:] - 500) < 80).all()
        assert set(numbers[lengths == 1]) == set(range(10))


@pytest.mark.parametrize("pad", [True, False])
def test_half_of_an_adders_sums_are_of_every_cell(pad) -> None:
    tokens = {**{str(d): d for d in range(10)}, "+": 10, "=": 11}
    layout = ("a", "+", "b", "=", "c")
    style = AdditionFormat(digits=4, pad=pad, layout=layout, vocabulary=tokens)
    sums = adder_sums(style, 401, seed=0)
    assert len(sums) == 401
    hard, easy = sums[:200], sums[200:]
    assert (hard.run.max(1) >= 2).mean() > 0.3 > (easy.run.max(1) >= 2).mean()
    lengths = {len(str(n)) for n in easy.a}
    assert lengths == {1, 2, 3, 4} if not pad else {3, 4} <= lengths
    assert not np.array_equal(adder_sums(style, 401, seed=1).a, sums.a)
