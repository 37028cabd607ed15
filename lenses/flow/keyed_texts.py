"""Prompts as tokens with the model's answer, and where the words stand that decide it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lenses.texts import Stream, continued, given_texts, sampled_additions, texts_to_read
from models import Model, ModelError
from prompts.relevance import ROLES, KeyedPrompt, keyed_prompts, keyed_prompts_in
from prompts.texts import Text


@dataclass(frozen=True)
class KeyedText:
    """A prompt as tokens, the model's answer, and where its words stand."""

    number: int
    prompt: KeyedPrompt
    given: list[int]
    new: list[int] = field(default_factory=list)
    words: dict[str, list[list[int]]] = field(default_factory=dict)
    """Role -> for each of its words, the positions of its tokens."""
    key_row: int | None = None
    """The generated token that depends on the key; None for the whole answer."""
    depends: bool = False
    """Whether the answer is known to depend on the key."""

    @property
    def scored(self) -> Bool[np.ndarray, "token"]:
        """Which prompt tokens are ranked: all but the first and the last."""
        pos = np.arange(len(self.given))
        return (pos > 0) & (pos < len(self.given) - 1)

    def tokens(self, model: Model) -> Int[Tensor, "pos"]:
        """Prompt and answer."""
        return torch.tensor(self.given + self.new, device=model.cfg.device)

    def answered(self, model: Model, new: list[int]) -> "KeyedText":
        """The same with an answer, and the places of its words."""
        known = replace(self, new=new, depends=self.prompt.depends(model.tokenizer.decode(new)))
        if self.prompt.kind != "addition":
            words = {
                role: positions(model, self.given, self.prompt.text, getattr(self.prompt, role))
                for role in ROLES
            }
            return replace(known, words=words)
        form = model.card.arithmetic
        units = _units(np.isin(self.given, form.digit_ids), last=form.operands == "msb")
        words = {"key": [[pos] for pos in units], "misleading": []}
        return replace(known, words=words, key_row=-1 if form.answer == "msb" else 0)


def given_keyed(
    prompts: Sequence[str], file: Path | None, keyed_file: Path | None
) -> list[KeyedPrompt]:
    """What a user brought: prompts, a file with more, and a file of prompts with their key words.

    Raises:
        ModelError: a file cannot be read; it names the line and the column.
    """
    plain = [KeyedPrompt("given", one.text, where=one.where) for one in given_texts(prompts, file)]
    try:
        return plain + (keyed_prompts_in(keyed_file) if keyed_file else [])
    except ValueError as error:
        raise ModelError(str(error)) from error


def answered_texts(
    model: Model,
    given: Sequence[KeyedPrompt | str],
    new_tokens: int,
    additions: int,
    seed: int,
    stream: Stream,
) -> list[KeyedText]:
    """The prompts, or shipped ones (an adder: sampled additions), with the model's answers.

    An adder answers with all of its digits. Prompts that a model says nothing to are left out.

    Raises:
        ModelError: it says nothing to any prompt, or one is too long for it.
    """
    form = model.card.arithmetic
    new = form.digits + 1 if form else new_tokens
    if form and not given:
        texts = sampled_additions(form, additions, seed)
        asked = [KeyedPrompt("addition", "", key="units")] * additions
    else:
        asked = list(map(_keyed, given)) or keyed_prompts()
        texts = texts_to_read(model, (), None, [Text(p.kind, p.text, p.where) for p in asked], new)
    read = continued(model, texts, new, stream)
    answered = [
        KeyedText(text.number, asked[text.origin], text.given).answered(model, text.new)
        for text in read
        if text.new
    ]
    if not answered:
        raise ModelError(f"{model.card.name} ends every prompt at once: there is no answer")
    return answered


def _keyed(given: KeyedPrompt | str) -> KeyedPrompt:
    return given if isinstance(given, KeyedPrompt) else KeyedPrompt("given", given)


def _units(is_digit: Bool[np.ndarray, "token"], *, last: bool) -> list[int]:
    """Positions of the last digit, or the first, of each number."""
    edge = np.diff(np.asarray(is_digit, dtype=int), prepend=0, append=0)
    return np.flatnonzero(edge[1:] == -1 if last else edge[:-1] == 1).tolist()


def positions(model: Model, given: list[int], text: str, word: str) -> list[list[int]]:
    """Positions of the tokens that spell the only occurrence of a word; none for no word."""
    if not word:
        return []
    ends = [
        len(model.tokenizer.decode(given[: pos + 1], skip_special_tokens=True))
        for pos in range(len(given))
    ]
    start = text.index(word)
    starts = [0, *ends[:-1]]
    inside = [
        pos
        for pos, (low, high) in enumerate(zip(starts, ends, strict=True))
        if low < start + len(word) and high > start
    ]
    return [inside]
