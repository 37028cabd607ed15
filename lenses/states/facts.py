"""Facts as tokens: where the subject stands, what completes them, and the same of another subject.

In an addition the subject is the digit of the first addend at some place, and the fact is the
answer's digit there. The digits of the answer before it stay as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from models import Model, ModelError
from models.text import refuse_too_long, token_strings, tokenize
from prompts.additions import Addition, AdditionFormat, Sums
from prompts.recall import Recalled, recalled_facts

PLACES = (
    "first of subject", "within subject", "last of subject", "first after", "further tokens",
    "last token",
)  # fmt: skip
"""Tokens from the subject to the end of a prompt, so that prompts can be averaged (Meng et al.
2022, figure 2). The only token of a subject is its last."""
SUBJECT, LAST = PLACES.index("last of subject"), PLACES.index("last token")


class UnfitError(ValueError):
    """A fact that a tokenizer does not write as it is needed, with the reason."""


@dataclass(frozen=True, eq=False)
class Case:
    """A prompt that breaks off where the answer begins; it is read at its last token."""

    number: int
    """Of the fact in the list that was given."""
    relation: str
    ids: Int[np.ndarray, "pos"]
    subject: tuple[int, int]
    """Pos of its first token, and the one after its last."""
    answer: int
    """The first token of the answer, as of the rival."""
    rival: int
    other: Int[np.ndarray, "pos"] | None = None
    """The prompt about another subject of as many tokens, with another answer."""
    instead: int = -1
    """The number of the fact that `other` is from; -1 where it is from none."""

    def __post_init__(self) -> None:
        """Check that nothing but the subject is exchanged."""
        assert self.answer != self.rival
        if self.other is not None:
            start, end = self.subject
            assert len(self.other) == len(self.ids)
            assert set(np.flatnonzero(self.other != self.ids)) <= set(range(start, end))

    def places(self) -> list[tuple[int, int]]:
        """(number in PLACES, pos) of each token from the subject on."""
        start, end = self.subject
        last = len(self.ids) - 1
        place = dict.fromkeys(range(start, end), 1) | dict.fromkeys(range(end, last + 1), 4)
        if end <= last:
            place |= {end: 3, last: LAST}
        place |= {start: 0, end - 1: SUBJECT}
        return [(number, pos) for pos, number in sorted(place.items())]


@dataclass(frozen=True)
class Asked:
    """All that a model is asked."""

    cases: list[Case]
    skipped: dict[int, str] = field(default_factory=dict)
    """Why facts could not be read, by their number."""
    facts: Sequence[Recalled] = ()
    """As they were told; none for an adder."""

    def words(self, model: Model, case: Case) -> dict[str, str]:
        """Text, answer and rival of a fact as they were told; as tokens for an adder."""
        if self.facts:
            fact = self.facts[case.number]
            return {"text": fact.text, "answer": fact.answer, "rival": fact.rival}
        answer, rival = token_strings(model, [case.answer, case.rival])
        text = "".join(token_strings(model, case.ids))
        return {"text": text, "answer": answer, "rival": rival}

    def taking_turns(self, known: Bool[np.ndarray, "case"], count: int, fewest: int) -> list[Case]:
        """Known facts whose subject can be exchanged, relations in turn; any where few are known.

        A model with random weights knows none, and is to be measured all the same.
        """
        fit = [(case, is_known) for case, is_known in zip(self.cases, known, strict=True)
               if case.instead >= 0]  # fmt: skip
        sure = [case for case, is_known in fit if is_known]
        by_relation: dict[str, list[Case]] = {}
        for case in sure if len(sure) >= fewest else [case for case, _ in fit]:
            by_relation.setdefault(case.relation, []).append(case)
        turns = chain.from_iterable(zip_longest(*by_relation.values()))
        return [case for case in turns if case is not None][:count]


def equally_long(cases: Sequence[Case], size: int) -> list[list[Case]]:
    """Batches of prompts of one length."""
    by_length: dict[int, list[Case]] = {}
    for case in cases:
        by_length.setdefault(len(case.ids), []).append(case)
    return [
        some[start : start + size]
        for _, some in sorted(by_length.items())
        for start in range(0, len(some), size)
    ]


def asked_facts(model: Model, file: Path | None, count: int, seed: int) -> Asked:
    """What a model is asked: the facts of a file, or the shipped ones; an adder `count` additions.

    Raises:
        ModelError: the model or the file cannot be read, or none of its facts; one line says why.
    """
    if (form := model.card.arithmetic) is not None:
        sums = Addition(form.digits, count, seed, padded=form.pad).sums
        try:
            return added_cases(form, sums, seed)
        except ValueError as error:
            raise ModelError(f"{model.card.name}: {error}") from error
    if model.tokenizer is None:
        raise ModelError(f"{model.card.name} reads no text; take a language model")
    try:
        facts = recalled_facts(file)
    except ValueError as error:
        raise ModelError(str(error)) from error
    asked = told_cases(model, facts, seed)
    if not asked.cases:
        why = next(iter(asked.skipped.values()))
        raise ModelError(f"no fact can be read ({why}); give others (--facts-file)")
    return asked


def told_cases(model: Model, facts: Sequence[Recalled], seed: int) -> Asked:
    """The facts as tokens; those that cannot be read are skipped, each with the reason."""
    cases: list[Case] = []
    skipped: dict[int, str] = {}
    seen: set[tuple[int, ...]] = set()
    for number, fact in enumerate(facts):
        try:
            case = _told(model, number, fact)
        except UnfitError as error:
            skipped[number] = str(error)
            continue
        if (same := (*case.ids.tolist(), case.answer)) in seen:
            skipped[number] = "a copy of another fact"
            continue
        seen.add(same)
        cases.append(case)
    rng = np.random.default_rng(seed)
    cases = [_with_other(case, cases, rng) for case in cases]
    stood_in = [_with_stand_in(model, case, facts[case.number]) for case in cases]
    return Asked(stood_in, skipped, facts)


def _told(model: Model, number: int, fact: Recalled) -> Case:
    """A fact as tokens; UnfitError where its answer cannot be told by its first token."""
    text, (begin, end) = fact.text, fact.span
    ids = tokenize(model, text)
    refuse_too_long(model, len(ids) + 1, f"the fact about {fact.subject!r}")
    spans = np.array(model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"])
    inside = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] > begin))
    words = [tokenize(model, f"{text} {word}") for word in (fact.answer, fact.rival)]
    if any(word[: len(ids)] != ids or len(word) == len(ids) for word in words):
        raise UnfitError("the text's last token changes with the word after it")
    answer, rival = (word[len(ids)] for word in words)
    if answer == rival:
        raise UnfitError("answer and rival begin with the same token")
    subject = int(inside[0]), int(inside[-1]) + 1
    return Case(number, fact.relation, np.array(ids), subject, answer, rival)


def _with_other(case: Case, cases: Sequence[Case], rng: np.random.Generator) -> Case:
    """With another subject of the same relation, drawn among those whose tokens fit."""
    fitting = [one for one in cases if one.answer != case.answer and _fits(one, case)]
    if not fitting:
        return case
    chosen = fitting[rng.integers(len(fitting))]
    return replace(case, other=chosen.ids, instead=chosen.number)


def _with_stand_in(model: Model, case: Case, fact: Recalled) -> Case:
    """With the first of the fact's `others` whose tokens fit, where it has no other subject yet."""
    if case.other is not None:
        return case
    for subject in fact.others:
        try:
            one = _told(model, case.number, replace(fact, subject=subject))
        except UnfitError:
            continue
        if _fits(one, case):
            return replace(case, other=one.ids)
    return case


def _fits(one: Case, case: Case) -> bool:
    """Whether two prompts differ in their subject alone, token by token."""
    if one.subject != case.subject or len(one.ids) != len(case.ids):
        return False
    where = np.flatnonzero(one.ids != case.ids)
    return len(where) > 0 and case.subject[0] <= where.min() and where.max() < case.subject[1]


def added_cases(style: AdditionFormat, sums: Sums, seed: int) -> Asked:
    """One answer digit of each addition, places taking turns; its subject is a digit above it.

    The rival is what the digit would be with the other subject. Raises ValueError unless the format
    pads its numbers.
    """
    if not style.pad:
        raise ValueError("its numbers have no fixed width; take an adder that pads them")
    rng, ids = np.random.default_rng(seed), style.digit_ids
    rows = style.write(sums).tokens
    cases = []
    for number, row in enumerate(rows):
        place = number % style.digits
        at, end = style.operand_at("a", place), style.read_at(place) + 1
        digit, answer = sums.a_digits[number, place], sums.answer_digits[number, place]
        moved = rng.integers(1, 10)
        other = row[:end].copy()
        other[at] = ids[(digit + moved) % 10]
        cases.append(
            Case(
                number, f"place {place}", row[:end], (at, at + 1), int(ids[answer]),
                int(ids[(answer + moved) % 10]), other, number,
            )
        )  # fmt: skip
    return Asked(cases)
