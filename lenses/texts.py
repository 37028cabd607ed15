"""What a model reads: texts or sampled additions as tokens, and what the model adds to them."""

import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lenses.kept import PerPrompt
from models import Model, ModelError
from models.text import TextNote, continue_text, tokenize_prompts
from prompts.additions import Addition, AdditionFormat
from prompts.texts import Text, texts_in

WRITTEN_AT_ONCE = 8
"""Texts that are continued together."""
LONG = 8
"""Tokens that a long beginning has at least; it is also half of a text or more."""
NAMED = 3
"""Groups of texts with one beginning that a note names; of the others it gives the number."""

LOGITS_AT_ONCE = 2**27
"""Logits (pos times vocabulary) that are held at once: half a gigabyte."""

Stream = Callable[..., Iterator[Sequence["ReadText"]]]
"""`Experiment.stream`: the items in batches, with progress and exact resume."""


@dataclass(frozen=True)
class ReadText:
    """A text as tokens: what was given, what the model added, and what should have come."""

    number: int
    kind: str
    given: list[int]
    new: list[int] = field(default_factory=list)
    """What the model wrote."""
    expected: list[int] = field(default_factory=list)
    """The right answer, where there is one."""
    origin: int = 0
    """Which of the texts asked for it is, copies counted."""

    @property
    def ids(self) -> list[int]:
        """All of it, as the model reads it."""
        return self.given + self.new

    @property
    def generated(self) -> Bool[np.ndarray, "pos"]:
        """Which tokens the model added."""
        return np.arange(len(self.ids)) >= len(self.given)

    def tokens(self, model: Model) -> Int[Tensor, "pos"]:
        """All of it, where the model computes."""
        return torch.tensor(self.ids, device=model.cfg.device)


def distinct(rows: Sequence[Sequence[int]], what: str = "prompts") -> list[int]:
    """Which rows of token ids to read: the first of each kind, since copies are no evidence.

    Says in a TextNote how many were left out, and which of the others begin alike for long.
    """
    first = {tuple(row): number for number, row in reversed(list(enumerate(rows)))}
    told = []
    if copies := len(rows) - len(first):
        told.append(f"{copies} of {len(rows)} {what} are copies of others: each text counts once")
    told += _alike({number: row for row, number in first.items()}, what)
    for note in told:
        warnings.warn(note, TextNote, stacklevel=2)
    return sorted(first.values())


def _alike(texts: Mapping[int, tuple[int, ...]], what: str) -> list[str]:
    """Notes on texts that begin alike for long: all of them, and groups of them beyond that."""
    notes, shared = [], _shared(list(texts.values())) if len(texts) > 1 else 0
    if shared and shared >= _long(min(map(len, texts.values()))):
        notes.append(f"All {len(texts)} {what} begin with the same {shared} tokens")
    beyond = {number: row[shared:] for number, row in texts.items()}
    if groups := long_beginnings(beyond):
        notes.append(
            f"{sum(map(len, groups))} of {len(texts)} {what} share a long beginning with another "
            f"({_numbers(groups)}): each counts once, but they tell less than as many independent "
            "ones"
        )
    return notes


def _numbers(groups: Sequence[Sequence[int]]) -> str:
    """The first groups by the numbers in them, and how many more there are."""
    more = f"; and {len(groups) - NAMED} groups more" if len(groups) > NAMED else ""
    return f"numbers {'; '.join(map(_listed, groups[:NAMED]))}{more}"


def long_beginnings(texts: Mapping[int, tuple[int, ...]]) -> list[list[int]]:
    """Groups of texts, by number, that share LONG tokens and half of the shorter text, or more."""
    groups: dict[tuple[int, ...], list[int]] = {}
    # From the shortest on: one that begins alike joins the group of a shorter one.
    for number, row in sorted(texts.items(), key=lambda text: (len(text[1]), text[0])):
        if len(row) >= LONG:
            beginnings = (row[:length] for length in sorted({len(known) for known in groups}))
            key = next((x for x in beginnings if x in groups), row[: _long(len(row))])
            groups.setdefault(key, []).append(number)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with."""
    together = enumerate(zip(*rows, strict=False))
    return next((n for n, tokens in together if len(set(tokens)) > 1), min(map(len, rows)))


def _long(length: int) -> int:
    """Tokens from which on the beginning of a text is a long one."""
    return max(LONG, -(-length // 2))


def _listed(numbers: Sequence[int]) -> str:
    """Numbers in words, of many the first."""
    *first, last = map(str, numbers if len(numbers) <= 4 else numbers[:3])
    more = f"{last} and {len(numbers) - 3} more" if len(numbers) > 4 else f"and {last}"
    return f"{', '.join(first)}{',' if len(numbers) > 4 else ''} {more}"


def texts_to_read(
    model: Model, prompts: Sequence[str], file: Path | None, shipped: Sequence[Text], extra: int
) -> list[ReadText]:
    """The given prompts and the lines of a file as tokens; without any, the shipped ones.

    Texts that tokenize alike are read once.

    Raises:
        ModelError: a file has no text, or a prompt is empty, or with `extra` tokens after it too
            long for the model.
    """
    chosen = given_texts(prompts, file) or shipped
    names = [text.where or f"prompt {number}" for number, text in enumerate(chosen)]
    rows = tokenize_prompts(model, [text.text for text in chosen], extra, names)
    origins = distinct(rows)
    if groups := _written_alike({origin: chosen[origin].text for origin in origins}):
        warnings.warn(
            f"{sum(map(len, groups))} of {len(origins)} prompts differ from another only in spaces "
            f"or in how letters are encoded ({_numbers(groups)}): each counts once, but they tell "
            "less than as many independent ones",
            TextNote,
            stacklevel=2,
        )
    return [
        ReadText(number, chosen[origin].kind, rows[origin], origin=origin)
        for number, origin in enumerate(origins)
    ]


def _written_alike(texts: Mapping[int, str]) -> list[list[int]]:
    """Groups of texts that look the same but for spaces: Unicode's NFKC, in words."""
    groups: dict[str, list[int]] = {}
    for number, text in texts.items():
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", text).split()), []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def given_texts(prompts: Sequence[str], file: Path | None) -> list[Text]:
    """The prompts that a user gave and those of a file; none where neither is given.

    Raises:
        ModelError: the file cannot be read; it names the line, and the column of a table.
    """
    try:
        typed = [Text("given", text.lstrip("\ufeff")) for text in prompts]
        return typed + (texts_in(file) if file else [])
    except ValueError as error:
        raise ModelError(str(error)) from error


def sampled_additions(form: AdditionFormat, count: int, seed: int) -> list[ReadText]:
    """Additions as an adder reads them up to the answer, which is what is expected.

    One that was drawn twice is read once.
    """
    written = form.write(Addition(form.digits, count, seed, padded=form.pad).sums)
    ends = (written.at.max(axis=1) + 1).tolist()
    starts, tokens = written.prompt.tolist(), written.tokens.tolist()
    asked = [row[:start] for row, start in zip(tokens, starts, strict=True)]
    return [
        ReadText(number, "addition", asked[i], expected=tokens[i][starts[i] : ends[i]], origin=i)
        for number, i in enumerate(distinct(asked, "additions"))
    ]


def texts_or_additions(
    model: Model,
    prompts: Sequence[str],
    file: Path | None,
    shipped: Sequence[Text],
    additions: int,
    seed: int,
) -> list[ReadText]:
    """`texts_to_read`; an adder that is given none reads sampled additions.

    Raises:
        ModelError: as `texts_to_read`.
    """
    form = model.card.arithmetic
    if form and not prompts and not file:
        return sampled_additions(form, additions, seed)
    return texts_to_read(model, prompts, file, shipped, 0)


def continued(
    model: Model, texts: Sequence[ReadText], count: int, stream: Stream
) -> list[ReadText]:
    """The texts with what the model adds to them: its likeliest tokens, at most `count`."""
    written = PerPrompt()
    for batch in stream(texts, written, "writing", WRITTEN_AT_ONCE):
        for new in continue_text(model, [text.given for text in batch], count):
            written.update(new=np.array([new + [-1] * (count - len(new))], dtype=np.int64))
    rows = [[token for token in row if token >= 0] for row in written["new"].tolist()]
    return [replace(text, new=row) for text, row in zip(texts, rows, strict=True)]


def likeliest(
    model: Model, tokens: Int[np.ndarray, "n pos"], reads: Int[np.ndarray, "n read"]
) -> Int[np.ndarray, "n read"]:
    """The token that the model says after each pos to be read."""
    size = max(1, LOGITS_AT_ONCE // (tokens.shape[1] * model.cfg.d_vocab))
    parts = [slice(start, start + size) for start in range(0, len(tokens), size)]
    return np.concatenate([_likeliest(model, tokens[part], reads[part]) for part in parts])


@torch.no_grad()
def _likeliest(
    model: Model, tokens: Int[np.ndarray, "n pos"], reads: Int[np.ndarray, "n read"]
) -> Int[np.ndarray, "n read"]:
    """The same in one forward pass."""
    logits = model(torch.from_numpy(tokens).to(model.cfg.device))
    rows = torch.arange(len(tokens))[:, None]
    return logits[rows, torch.from_numpy(reads)].argmax(-1).cpu().numpy()
