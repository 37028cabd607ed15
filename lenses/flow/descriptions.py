"""Nouns and what describes them, as tokens: a text, its controls, and the same with other words.

A control holds the same noun and, as far before it, the same adjective, which there describes
something else. For an adder the "noun" is the pos from which an answer digit is read, and its
"adjectives" are the two digits of its column; controls are the pos before and after it, of which
one is nearer to these digits and one farther by one token.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from models import Model
from models.text import token_strings
from prompts.additions import Addition, AdditionFormat, Sums
from prompts.adjectives import Described, Wording, described_nouns


class UnfitError(ValueError):
    """A sentence, or an addition, that is not written as it is needed, with the reason."""


@dataclass(frozen=True)
class Case:
    """A noun with its adjective (reading 0) and its controls, cut off after the last noun."""

    frame: str
    clean: Int[np.ndarray, "reading pos"]
    changed: Int[np.ndarray, "reading pos"]
    """With another adjective; all else, and where it stands, is the same."""
    adjective: Int[np.ndarray, "part"]
    """Pos of the adjective's tokens, the same in all readings."""
    noun: Bool[np.ndarray, "reading pos"]
    """Where the noun's tokens are; it is read at the last."""

    def __post_init__(self) -> None:
        """Check that nothing but the adjective is exchanged, and that nouns come after it."""
        same = np.delete(self.clean == self.changed, self.adjective, axis=1)
        assert same.all()
        assert (self.noun.argmax(1) > self.adjective.max()).all()

    @property
    def at(self) -> Int[np.ndarray, "reading"]:
        """Pos of the noun's last token."""
        return self.noun.shape[1] - 1 - self.noun[:, ::-1].argmax(1)

    @property
    def distance(self) -> int:
        """Tokens from the adjective's last to the noun's first (the word before it: 1)."""
        return int(self.noun[0].argmax() - self.adjective.max())


class Sentence(NamedTuple):
    """A case, and its texts in words: frame, text, control, noun, adjective and `instead`."""

    case: Case
    told: dict[str, str]


def shipped_sentences(model: Model) -> tuple[list[Sentence], list[dict[str, str]]]:
    """The sentences that come along; those that do not fit as rows, with why they are `skipped`.

    Raises UnfitError where those that fit are of fewer than two frames.
    """
    read, skipped = [], []
    for said in described_nouns():
        told = {"frame": said.frame, "text": said.own.text, "control": said.control.text}
        told |= {"adjective": said.adjective, "noun": said.noun}
        try:
            case, instead = worded_case(model, said)
            read.append(Sentence(case, told | {"instead": instead}))
        except UnfitError as error:
            skipped.append(told | {"skipped": str(error)})
    if len({one.case.frame for one in read}) < 2:
        raise UnfitError(
            f"its tokenizer writes {len(read)} of the sentences as needed, of too few frames; "
            "take another language model"
        )
    return read, skipped


def worded_case(model: Model, said: Described) -> tuple[Case, str]:
    """A sentence and its control as tokens, and the adjective that is exchanged for.

    Raises UnfitError where tokens do not match, in the words of the first difference.
    """
    clean = [_Tokens.of(model, wording) for wording in (said.own, said.control)]
    own, control = clean
    if own.adjective != control.adjective or own.part("adjective") != control.part("adjective"):
        raise UnfitError("the adjective is written otherwise or elsewhere in the control")
    if own.noun != control.noun or own.part("noun") != control.part("noun"):
        raise UnfitError("the noun is written otherwise or elsewhere in the control")
    for instead in said.instead:
        changed = [_Tokens.of(model, wording) for wording in said.changed(instead)]
        if all(_exchanged(*pair) for pair in zip(clean, changed, strict=True)):
            return _case(said.frame, clean, changed), instead
    raise UnfitError("no other adjective has as many tokens: " + ", ".join(said.instead))


@dataclass(frozen=True)
class _Tokens:
    """A sentence as tokens, and at which of them its adjective and noun begin and end."""

    ids: list[int]
    adjective: tuple[int, int]
    noun: tuple[int, int]

    @classmethod
    def of(cls, model: Model, wording: Wording) -> "_Tokens":
        said = model.tokenizer(wording.text, return_offsets_mapping=True)
        spans = np.array(said["offset_mapping"])
        return cls(said["input_ids"], *(_span(spans, word) for word in wording[1:]))

    def part(self, name: str) -> list[int]:
        return self.ids[slice(*getattr(self, name))]


def _span(spans: Int[np.ndarray, "pos 2"], word: tuple[int, int]) -> tuple[int, int]:
    """First token of a word, and the one after its last."""
    inside = np.flatnonzero((spans[:, 0] < word[1]) & (spans[:, 1] > word[0]))
    return int(inside[0]), int(inside[-1]) + 1


def _exchanged(clean: _Tokens, changed: _Tokens) -> bool:
    """Whether all tokens but the adjective's are as before, up to the end of the noun."""
    start, end = clean.adjective
    until = clean.noun[1]
    return (
        (clean.adjective, clean.noun) == (changed.adjective, changed.noun)
        and clean.part("adjective") != changed.part("adjective")
        and clean.ids[:start] == changed.ids[:start]
        and clean.ids[end:until] == changed.ids[end:until]
    )


def _case(frame: str, clean: list[_Tokens], changed: list[_Tokens]) -> Case:
    start, end = clean[0].noun
    noun = np.zeros((len(clean), end), dtype=bool)
    noun[:, start:] = True
    rows = (np.array([tokens.ids[:end] for tokens in kind]) for kind in (clean, changed))
    return Case(frame, *rows, np.arange(*clean[0].adjective), noun)


def added_sentences(model: Model, count: int, seed: int) -> list[Sentence]:
    """Sampled additions of an adder; raises UnfitError as `added_cases` does."""
    style = model.card.arithmetic
    sums = Addition(style.digits, count, seed, padded=style.pad).sums
    return [Sentence(case, _told(model, case)) for case in added_cases(style, sums, seed)]


def _told(model: Model, case: Case) -> dict[str, str]:
    """A case of digits in words; its two controls stand in one text."""
    rows = {"adjective": case.clean, "instead": case.changed}
    words = {k: " ".join(token_strings(model, v[0, case.adjective])) for k, v in rows.items()}
    texts = [
        "".join(token_strings(model, row[: at + 1]))
        for row, at in zip(case.clean, case.at, strict=True)
    ]
    noun = token_strings(model, case.clean[0, case.at[:1]])[0]
    told = {"frame": case.frame, "text": texts[0], "control": " ".join(texts[1:]), "noun": noun}
    return told | words


def added_cases(style: AdditionFormat, sums: Sums, seed: int) -> list[Case]:
    """The answer digit at one place of each addition; both digits of its column are exchanged.

    The answer is left as it was. Places take turns; raises UnfitError where none has two
    neighbours in the addends.
    """
    if style.digits < 3:
        raise UnfitError(f"{style.digits} digits leave no place between two others; it takes 3")
    rng = np.random.default_rng(seed)
    written = style.write(sums)
    cases = []
    for number, row in enumerate(written.tokens):
        place = 1 + number % (style.digits - 2)
        is_digit = np.isin(row[: written.prompt[number]], style.digit_ids)
        digits = np.flatnonzero(is_digit).reshape(2, style.digits)
        column = digits[:, ::-1] if style.operands == "msb" else digits
        nouns = written.at[number, [place, place - 1, place + 1]] - 1
        changed = _with_other_digits(style, row, column[:, place], rng)
        clean, changed = (np.tile(x[: nouns.max() + 1], (3, 1)) for x in (row, changed))
        noun = np.arange(clean.shape[1]) == nouns[:, None]
        cases.append(Case(f"addition {number}", clean, changed, np.sort(column[:, place]), noun))
    return cases


def _with_other_digits(
    style: AdditionFormat,
    row: Int[np.ndarray, "pos"],
    where: Int[np.ndarray, "part"],
    rng: np.random.Generator,
) -> Int[np.ndarray, "pos"]:
    ids, changed = style.digit_ids, row.copy()
    old = np.array([list(ids).index(token) for token in row[where]])
    changed[where] = ids[(old + rng.integers(1, 10, len(where))) % 10]
    return changed
