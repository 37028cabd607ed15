"""Words that imply an answer as tokens: where a state is taken, put in and read, and what is right.

For an adder the "word" is a digit of the first addend; the prompt that repeats it adds zero, the
question adds 1 to it, and the state that ends a question predicts a digit of the answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from models import Model, ModelError
from models.text import token_strings, tokenize
from prompts.additions import Addition, AdditionFormat, Sums, number_of
from prompts.injections import BLANK, Implied, Injections, shipped_injections

Told = Literal["word", "implied", "answer"]
"""What is read: the word whose state it is, what that word implies, the answer that a question
was about to get."""
TOLD: tuple[Told, ...] = ("word", "implied", "answer")


class UnfitError(ValueError):
    """A word that a tokenizer does not write as it is needed, with the reason."""


@dataclass(frozen=True)
class Placed:
    """A state of one text that is read in another one."""

    told: Told
    group: str
    """Cases of one group differ in the word alone."""
    source: list[int]
    """The text whose last state is taken."""
    reader: list[int]
    put: int
    """Pos of the reader at which it is put in."""
    read: int
    """Pos of the reader whose prediction is read."""
    right: int
    """The token that is right."""
    text: list[int]
    """The same asked in words: a text whose last prediction should be right."""


@dataclass(frozen=True)
class Blank:
    """A text with one token for its blank, as a tokenizer writes it."""

    before: list[int]
    after: list[int]

    @classmethod
    def of(cls, model: Model, text: str, word: str) -> "Blank":
        """The text around its blank; UnfitError unless a word in it is one token of its own."""
        before = tokenize(model, text[: text.index(BLANK)].rstrip())
        until = [*before, token_of(model, text, word)]
        whole = tokenize(model, text.replace(BLANK, word))
        if whole[: len(until)] != until:
            raise UnfitError(f"{word!r} is not one token in {text!r}")
        return cls(before, whole[len(until) :])

    def filled(self, token: int) -> list[int]:
        """The text with this token."""
        return [*self.before, token, *self.after]


def token_of(model: Model, text: str, word: str) -> int:
    """The one token of a word at the blank of a text; UnfitError where it is not one."""
    before = tokenize(model, text[: text.index(BLANK)].rstrip())
    alone = tokenize(model, text[: text.index(BLANK)] + word)
    if alone[:-1] != before:
        raise UnfitError(f"{word!r} is not one token in {text!r}")
    return alone[-1]


def first_token(model: Model, text: str, answer: str) -> int:
    """The first token of an answer after a text."""
    return tokenize(model, f"{text} {answer}")[len(tokenize(model, text))]


def worded(model: Model, told: Injections, number: int) -> list[Placed]:
    """One word's state to be read in three ways.

    Raises UnfitError where the word is not one token.
    """
    one = told.known[number]
    copy, ask = (Blank.of(model, text, one.word) for text in (told.copy, one.ask))
    word, blank = (token_of(model, one.ask, each) for each in (one.word, BLANK))
    source = tokenize(model, told.frames[number % len(told.frames)].replace(BLANK, one.word))
    if source[-1] != word or copy.filled(word) != tokenize(
        model, told.copy.replace(BLANK, one.word)
    ):
        raise UnfitError(f"{one.word!r} is another token in other texts")
    answer = first_token(model, one.ask.replace(BLANK, one.word), one.answer)
    whole = ask.filled(word)
    made = [
        _in_blank("word", one, source, copy, blank, word, copy.filled(word)),
        _in_blank("implied", one, source, ask, blank, answer, whole),
    ]
    # What comes first in a text serves heads that look for nothing (a sink).
    made.append(Placed("answer", one.relation, whole, [whole[0], whole[-1]], 1, 1, answer, whole))
    return made


def worded_cases(model: Model, told: Injections) -> tuple[list[Placed], list[dict[str, str]]]:
    """All words' states to be read in three ways; the words that were left out, and `why`."""
    found, skipped = [], []
    for number, one in enumerate(told.known):
        try:
            found += worded(model, told, number)
        except UnfitError as error:
            skipped.append({"word": one.word, "why": str(error)})
    return found, skipped


def _in_blank(
    told: Told, one: Implied, source: list[int], around: Blank, blank: int, right: int, text: list
) -> Placed:
    reader = around.filled(blank)
    put = len(around.before)
    return Placed(told, one.relation, source, reader, put, len(reader) - 1, right, text)


def added(style: AdditionFormat, count: int, seed: int) -> list[Placed]:
    """Digits of sampled additions; places take turns (ValueError unless numbers are padded)."""
    sums = Addition(style.digits, count, seed, padded=style.pad).sums
    return list(
        chain.from_iterable(
            _of_digit(style, sums[number : number + 1], number % style.digits)
            for number in range(count)
        )
    )


def _of_digit(style: AdditionFormat, one: Sums, place: int) -> list[Placed]:
    put, read = style.operand_at("a", place), style.read_at(place)
    # A digit that carries would change the one before it, which readers are given as 0.
    digits = np.where(np.arange(style.digits) == place, np.minimum(one.a_digits, 8), one.a_digits)
    digit, power = int(digits[0, place]), 10**place
    source = _row(style, int(number_of(digits)[0]), int(one.b[0]))
    sum_digit = int((number_of(digits)[0] + one.b[0]) // power % 10)
    zeros, more = _row(style, 0, 0)[: read + 1], _row(style, 0, power)[: read + 1]
    by_place, ids = f"place {place}", style.digit_ids
    return [
        Placed("word", by_place, source[: put + 1], zeros, put, read, int(ids[digit]),
            _row(style, digit * power, 0)[: read + 1]),
        Placed("implied", by_place, source[: put + 1], more, put, read, int(ids[digit + 1]),
            _row(style, digit * power, power)[: read + 1]),
        Placed("answer", by_place, source[: read + 1], zeros, read, read, int(ids[sum_digit]),
            source[: read + 1]),
    ]  # fmt: skip


def _row(style: AdditionFormat, a: int, b: int) -> list[int]:
    return style.tokens(np.array([a]), np.array([b]))[0].tolist()


@dataclass(frozen=True)
class Question:
    """A question about a word, and what it would be with another word instead."""

    group: str
    ids: list[int]
    """The text, up to where the answer comes."""
    subject: int
    """Pos of the word."""
    answer: int
    """Tokens: of the question's own answer, of another word of its kind, and of what that one
    implies."""
    word: int
    implied: int
    random: int
    """A token that implies neither, for the control."""

    @property
    def last(self) -> int:
        """Pos that predicts the answer."""
        return len(self.ids) - 1

    def filled(self, pos: int, token: int) -> list[int]:
        """The text with another token at a pos."""
        return [*self.ids[:pos], token, *self.ids[pos + 1 :]]


def asked_questions(
    model: Model, count: int, additions: int, seed: int, least: int
) -> list[Question]:
    """Up to `count` of the shipped questions, evenly spread; an adder is asked `additions`.

    Raises:
        ModelError: the model reads no text, or fewer than `least` of the words as one token.
    """
    name, form = model.card.name, model.card.arithmetic
    if form is not None:
        try:
            return asked_digits(form, additions, seed)
        except ValueError as error:
            raise ModelError(f"{name}: {error}; take a padded adder") from error
    if model.tokenizer is None:
        raise ModelError(f"{name} reads no text; take a language model")
    shipped, cases = shipped_injections(), []
    for number in range(len(shipped.known)):
        try:
            cases += worded(model, shipped, number)
        except UnfitError:
            continue  # state_propagation names the words that are left out
    if len(cases) < 3 * least:  # a word is read in three ways
        words = f"its tokenizer writes only {len(cases) // 3} of the words as one token"
        raise ModelError(f"{name}: {words}; take another language model")
    made = questions(model, shipped, cases)
    taken = np.linspace(0, len(made) - 1, min(count, len(made))).astype(int)
    return [made[number] for number in taken]


def questions(model: Model, told: Injections, cases: Sequence[Placed]) -> list[Question]:
    """A question for every word whose answer no other word of its kind has; they trade places.

    An answer that several words share (a continent, say) is often guessed whatever the word.
    """
    ask = told.known[0].ask
    random = [token_of(model, ask, word) for word in told.random if _is_token(model, ask, word)]
    if not random:
        raise UnfitError("no random word is one token")
    mine = [one for one in cases if one.told == "implied"]
    count = Counter((one.group, one.right) for one in mine)
    mine, made = [one for one in mine if count[one.group, one.right] == 1], []
    for number, one in enumerate(mine):
        other = mine[another(mine, number)]
        word, other_word = one.text[one.put], random[number % len(random)]
        assert word != other.text[other.put]
        made.append(Question(one.group, one.text, one.put, one.right, other.text[other.put],
            other.right, other_word))  # fmt: skip
    return made


def _is_token(model: Model, text: str, word: str) -> bool:
    try:
        token_of(model, text, word)
    except UnfitError:
        return False
    return True


def asked_digits(style: AdditionFormat, count: int, seed: int) -> list[Question]:
    """Sampled additions: a digit of the first addend, and what the answer's is with another one."""
    sums = Addition(style.digits, count, seed, padded=style.pad).sums
    rng, ids, made = np.random.default_rng(seed), style.digit_ids, []
    for number, tokens in enumerate(style.tokens(sums.a, sums.b).tolist()):
        place = number % style.digits
        own = int(sums.a_digits[number, place])
        word, random = rng.permutation(np.delete(np.arange(10), own))[:2].tolist()
        come = int(sums.b_digits[number, place] + sums.carry[number, place])
        answers = [int(ids[(digit + come) % 10]) for digit in (own, word)]
        made.append(Question(f"place {place}", tokens[: style.read_at(place) + 1],
            style.operand_at("a", place), answers[0], int(ids[word]), answers[1],
            int(ids[random])))  # fmt: skip
    return made


def another(cases: Sequence[Placed], number: int) -> int:
    """The next case read in the same way whose answer is another, of its group if there is one."""
    one = cases[number]
    after = [*range(number + 1, len(cases)), *range(number)]
    fit = [i for i in after if cases[i].told == one.told and cases[i].right != one.right]
    if not fit:
        raise UnfitError(f"no other case has another answer than {number}")
    return min(fit, key=lambda i: (cases[i].group != one.group, after.index(i)))


def shown(model: Model, ids: Sequence[int]) -> str:
    """Tokens as a text."""
    return "".join(token_strings(model, ids))
