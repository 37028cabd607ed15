"""Prompts as tokens with the model's answer, and where the words stand that decide it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lenses.texts import Stream, continued, sampled_additions, texts_to_read
from models import Model, ModelError
from prompts.relevance import ROLES, KeyedPrompt, keyed_prompts
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


def answered_texts(
    model: Model,
    prompts: Sequence[str],
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
    if form and not prompts:
        texts = sampled_additions(form, additions, seed)
        asked = [KeyedPrompt("addition", "", key="units")] * additions
    else:
        asked = [KeyedPrompt("given", text) for text in prompts] or keyed_prompts()
        texts = texts_to_read(model, (), None, [Text(p.kind, p.text) for p in asked], new)
    read = continued(model, texts, new, stream)
    answered = [
        KeyedText(text.number, asked[text.origin], text.given).answered(model, text.new)
        for text in read
        if text.new
    ]
    if not answered:
        raise ModelError(f"{model.card.name} ends every prompt at once: there is no answer")
    return answered


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
