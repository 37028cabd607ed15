"""Numbers in texts, with the decimal place of each of their digits: place, pos and length apart.

A model that reads from left to right cannot know a digit's place before the number ends, unless
the text says how long its numbers are. Half of the prompts do (`announced`: "nine-digit number",
and solved lines of that length), half show numbers of other lengths. Sentences of varying length
stand in front, so that neither pos nor the number's length tells the place. (SCIENCE 5.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prompts.additions import Addition, AdditionFormat, Cells, Sums, cells
from prompts.forms import BARE, Form

LENGTHS = range(1, 10)
"""Digits of the numbers; nine is as far as `nine-digit` announces."""

PLACE_WORDS: dict[int, tuple[str, ...]] = {
    0: ("unit", "one"),
    1: ("ten",),
    2: ("hundred",),
    3: ("thousand",),
    4: ("万",),
    6: ("million",),
    8: ("億", "亿"),
    9: ("billion",),
}
"""Words of the decimal places; a place without a word is not scored."""

OTHER_WORDS = (
    "people", "water", "house", "music", "school", "family", "street", "letter", "garden",
    "market", "window", "doctor", "summer", "paper", "river", "table", "color", "story",
    "country", "morning", "history", "language", "picture", "village", "kitchen", "teacher",
    "winter", "horse", "bread", "stone", "train", "dress", "中", "人", "大", "年", "日", "本",
    "国", "山", "水", "会",
)  # fmt: skip
"""Words that are no places, among which those of like frequency are looked for."""

SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
GROUPS = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"))

PREFIX_WORDS = {n: SMALL[n] for n in range(10, 20)} | {20 + 10 * n: w for n, w in enumerate(TENS)}
"""Numbers of two digits that one word says; no number of three digits is one word."""

BARE_AFTER_ONE = BARE.showing(Sums(np.array([1]), np.array([2]), 1), "few-shot")
"""The usual form of additions: `12 + 34 = 46` after another one."""

FILLERS = (
    "The shop opens early. ",
    "Rain fell on the old roof all night. ",
    "She kept the notes in a drawer. ",
    "Nobody asked why the lights were on in the hall. ",
    "Here is the list. ",
    "It was quiet. ",
)
"""Sentences without digits, number words or words that are scored."""


@dataclass(frozen=True)
class Digit:
    """A digit of a number that stands in a text."""

    at: int
    """Which character of prompt + answer it is."""
    value: int
    place: int
    length: int
    """Digits of its number."""
    part: str
    """Whose digit it is: a or b of what is given, c of the answer."""


@dataclass(frozen=True)
class PlacePrompt:
    """A text, the answer that belongs after it, and every digit of its last line."""

    kind: str
    """addition, copy, words, or what the same digits are instead: phone, year, code."""
    prompt: str
    answer: str
    """With the space before it, where the prompt has none at its end."""
    announced: bool
    """Whether the text says how many digits its numbers have."""
    numbers: tuple[int, ...]
    """What is given in the last line: the addends, or the number."""
    digits: tuple[Digit, ...]
    twin: int = -1
    """Index of the prompt that has the same digits as a number; -1 for numbers."""

    @property
    def text(self) -> str:
        """Prompt and answer."""
        return self.prompt + self.answer


def number_words(number: int) -> str:
    """A number below a million million in words: 4071 is "four thousand seventy-one"."""
    for size, name in GROUPS:
        if number >= size:
            rest = number_words(number % size) if number % size else ""
            return f"{number_words(number // size)} {name} {rest}".rstrip()
    if number >= 100:
        rest = number_words(number % 100) if number % 100 else ""
        return f"{SMALL[number // 100]} hundred {rest}".rstrip()
    if number < 20:
        return SMALL[number]
    tens = TENS[number // 10 - 2]
    return f"{tens}-{SMALL[number % 10]}" if number % 10 else tens


def given_prompt() -> PlacePrompt:
    """The addition that the question was first asked about."""
    return _prompt("addition", "", "{} + {} =", (128717593, 8191493), False)


def place_prompts(per_length: int, seed: int, form: Form = BARE_AFTER_ONE) -> list[PlacePrompt]:
    """`given_prompt`, then additions, copies with their twins, and numbers to be said in words.

    There are `per_length` of each kind for each length, half of them announced. A copy's twin has
    the same digits, text in front and examples, but as a phone number, a year or a code. Additions
    are asked in `form`, after one solved sum where it shows any.
    """
    rng, prompts = np.random.default_rng(seed), [given_prompt()]
    for length in LENGTHS:
        for turn in range(per_length):
            announced = turn % 2 == 0
            prompts.append(_addition(length, announced, form, rng))
            prompts += _copy_and_twin(length, announced, len(prompts), rng)
            prompts.append(_in_words(length, announced, rng))
    return prompts


def prefix_prompts(repeats: int, seed: int) -> list[PlacePrompt]:
    """Texts that break off after two digits, which one word says: `... The number is 13`.

    After each comes one with another first digit, so that the same word is wrong there.
    """
    rng, prompts = np.random.default_rng(seed), []
    for _ in range(repeats):
        for number in PREFIX_WORDS:
            front = f"{_filler(rng)}The number is "
            first = rng.choice([d for d in range(1, 10) if d not in (1, number // 10)])
            for shown in (number, int(first) * 10 + number % 10):
                prompts.append(_prompt("prefix", front, "{}", (shown,), False))
    return prompts


def adder_sums(style: AdditionFormat, count: int, seed: int) -> Sums:
    """Additions for an adder: half hard ones (of every cell as many), half of any length.

    Where numbers are padded all are as long as the format says.
    """
    half = count // 2
    per_cell = -(-half // len(cells(style.digits, padded=style.pad)))
    hard = Cells(style.digits, per_cell, seed, padded=style.pad).sums
    hard = hard[np.random.default_rng(seed).permutation(len(hard))[:half]]
    if style.pad:
        easy = Addition(style.digits, count - half, seed).sums
    else:
        easy = sums_of_any_length(style.digits, count - half, seed)
    a, b = (np.concatenate([getattr(s, name) for s in (hard, easy)]) for name in "ab")
    return Sums(a, b, style.digits)


def sums_of_any_length(places: int, count: int, seed: int) -> Sums:
    """Additions of numbers of 1 to `places` digits, every length as often."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, places + 1, size=(2, count))
    a, b = rng.integers(np.where(lengths == 1, 0, 10 ** (lengths - 1)), 10**lengths)
    return Sums(a, b, places)


def _addition(length: int, announced: bool, form: Form, rng: np.random.Generator) -> PlacePrompt:
    shown = np.array([[_example_number(length, announced, rng)] for _ in range(2)])
    other = length if announced else int(rng.integers(1, 10))
    a, b = (_number(int(size), rng) for size in rng.permutation([length, other]))
    size = f"{SMALL[length]}-digit " if announced else ""
    said = f"{_filler(rng)}Add {size}numbers.\n"
    asked = form.showing(Sums(*shown, max(LENGTHS))) if form.shown else form
    line = f"{{}}{form.between}{{}}{form.after}"
    return _prompt("addition", asked.before(said), line, (a, b), announced, space="")


def _copy_and_twin(
    length: int, announced: bool, index: int, rng: np.random.Generator
) -> list[PlacePrompt]:
    """A number to be copied, at `index` among the prompts, and the same digits as no number."""
    front, size = _filler(rng), f"{SMALL[length]}-digit " if announced else ""
    shown, number = _example_number(length, announced, rng), _number(length, rng)
    kind = {4: "year"}.get(length, "phone" if length >= 7 else "code")
    name = "phone number" if kind == "phone" else kind
    copy = f"{front}Repeat each {size}number.\n{shown} = {shown}\n"
    other = f"{front}Repeat each {size}{name}.\n{kind} {shown}, again {shown}\n"
    return [
        _prompt("copy", copy, "{} =", (number,), announced),
        _prompt(kind, other, kind + " {}, again", (number,), announced, twin=index),
    ]


def _in_words(length: int, announced: bool, rng: np.random.Generator) -> PlacePrompt:
    shown = _example_number(length, announced, rng)
    size = f"{SMALL[length]}-digit " if announced else ""
    front = f"{_filler(rng)}Write each {size}number in words.\n{shown} = {number_words(shown)}\n"
    return _prompt("words", front, "{} =", (_number(length, rng),), announced)


def _example_number(length: int, announced: bool, rng: np.random.Generator) -> int:
    """A number for the solved line: as long as the one asked where that is announced."""
    return _number(length if announced else int(rng.integers(1, 10)), rng)


def _number(length: int, rng: np.random.Generator) -> int:
    """A number of so many digits, which does not begin with 0."""
    return int(rng.integers(10 ** (length - 1), 10**length))


def _filler(rng: np.random.Generator) -> str:
    """None to three sentences."""
    chosen = rng.choice(len(FILLERS), rng.integers(0, 4), replace=False)
    return "".join(FILLERS[i] for i in chosen)


def _prompt(
    kind: str,
    front: str,
    line: str,
    numbers: tuple[int, ...],
    announced: bool,
    twin: int = -1,
    space: str = " ",
) -> PlacePrompt:
    """The prompt whose last line is `line`, with a number for each {}; `space` begins an answer."""
    prompt = front + line.format(*numbers)
    answer = _answer(kind, numbers, space)
    starts = _starts(front, line, numbers)
    found = [_digits(n, at, part) for n, at, part in zip(numbers, starts, "ab", strict=False)]
    if answer.strip().isdigit():
        found.append(_digits(int(answer), len(prompt) + len(space), "c"))
    return PlacePrompt(kind, prompt, answer, announced, numbers, tuple(sum(found, ())), twin)


def _answer(kind: str, numbers: tuple[int, ...], space: str) -> str:
    """What belongs after a prompt of that kind; nothing after a prefix."""
    if kind == "prefix":
        return ""
    return f"{space}{number_words(numbers[0]) if kind == 'words' else sum(numbers)}"


def _starts(front: str, line: str, numbers: Sequence[int]) -> list[int]:
    """Where in the text each number begins."""
    pieces, at, starts = line.split("{}"), len(front), []
    for piece, number in zip(pieces, numbers, strict=False):
        starts.append(at + len(piece))
        at = starts[-1] + len(str(number))
    return starts


def _digits(number: int, at: int, part: str) -> tuple[Digit, ...]:
    """The digits of a number that begins at character `at`."""
    text = str(number)
    return tuple(
        Digit(at + i, int(char), len(text) - 1 - i, len(text), part) for i, char in enumerate(text)
    )
