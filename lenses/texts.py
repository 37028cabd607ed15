"""What a model reads: texts or sampled additions as tokens, and what the model adds to them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from lenses.kept import PerPrompt
from models import Model, ModelError
from models.text import continue_text, tokenize
from prompts.additions import Addition, AdditionFormat
from prompts.texts import Text, texts_in

WRITTEN_AT_ONCE = 8
"""Texts that are continued together."""

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

    @property
    def ids(self) -> list[int]:
        """All of it, as the model reads it."""
        return self.given + self.new

    @property
    def generated(self) -> Bool[np.ndarray, "pos"]:
        """Which tokens the model added."""
        return np.arange(len(self.ids)) >= len(self.given)


def texts_to_read(
    model: Model, prompts: Sequence[str], file: Path | None, shipped: Sequence[Text], extra: int
) -> list[ReadText]:
    """The given prompts and the lines of a file as tokens; without any, the shipped ones.

    Raises:
        ModelError: a prompt is empty, or with `extra` tokens after it too long for the model.
    """
    chosen = [Text("given", text) for text in prompts] + (texts_in(file) if file else [])
    texts = [
        ReadText(number, text.kind, tokenize(model, text.text))
        for number, text in enumerate(chosen or shipped)
    ]
    for text in texts:
        needed = len(text.given) + extra
        if not text.given or needed > model.cfg.n_ctx:
            raise ModelError(
                f"prompt {text.number}: {needed} tokens with its continuation, but "
                f"{model.card.name} reads 1 to {model.cfg.n_ctx}; shorten it or --new-tokens"
            )
    return texts


def sampled_additions(form: AdditionFormat, count: int, seed: int) -> list[ReadText]:
    """Additions as an adder reads them up to the answer, which is what is expected."""
    written = form.write(Addition(form.digits, count, seed, padded=form.pad).sums)
    ends = (written.at.max(axis=1) + 1).tolist()
    rows = zip(written.tokens.tolist(), written.prompt.tolist(), ends, strict=True)
    return [
        ReadText(number, "addition", row[:start], expected=row[start:end])
        for number, (row, start, end) in enumerate(rows)
    ]


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
