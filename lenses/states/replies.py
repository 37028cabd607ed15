"""Prompts, and the texts that may follow them but for the model's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lenses.states import policy
from lenses.texts import distinct, given_texts, sampled_additions
from models import Model, ModelError, load
from models.text import continue_text, tokenize
from prompts.passages import passages


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens, and what may follow it but for the model's own text."""

    number: int
    prompt: list[int]
    given: list[int]
    other: list[int]
    most: int
    """Tokens that may follow it."""


def passages_cut(
    model: Model, texts: Sequence[str], file: Path | None, count: int, first: int, length: int
) -> list[Prompt]:
    """The first tokens of texts (without any, of `count` shipped passages), and how they go on.

    `other` is how the text before goes on; `length` counts the tokens of both parts. Of texts that
    begin alike the first is read.

    Raises:
        ModelError: fewer than three texts, or one that is too short or too long.
    """
    own = [text.text for text in given_texts(texts, file)]
    rows = [
        tokenize(model, text)[:length]
        for text in own or [passage.text for passage in passages()[:count]]
    ]
    least = first + policy.FEWEST
    for number, row in enumerate(rows):
        if len(row) < least:
            raise ModelError(
                f"prompt {number}: {len(row)} tokens; it takes {least}, the first {first} of "
                "which are the prompt (--given-tokens)"
            )
    # What the model says depends on the first tokens alone: texts that share them are one prompt.
    rows = [rows[number] for number in distinct([row[:first] for row in rows])]
    if len(rows) < 3 or max(map(len, rows)) > model.cfg.n_ctx:
        raise ModelError(f"it takes 3 texts of at most {model.cfg.n_ctx} tokens or more")
    return [
        Prompt(i, row[:first], row[first:], rows[i - 1][first:], len(row) - first)
        for i, row in enumerate(rows)
    ]


def additions_answered(model: Model, count: int, seed: int) -> list[Prompt]:
    """Additions; what follows is another one's answer, and `other` is digits at random."""
    form = model.card.arithmetic
    sums = sampled_additions(form, count, seed)
    rng = np.random.default_rng([seed, len(sums)])
    random = rng.choice(form.digit_ids, size=(len(sums), form.digits + 1)).tolist()
    return [
        Prompt(i, one.given, sums[i - 1].expected, random[i], len(one.expected))
        for i, one in enumerate(sums)
    ]


def answered_by(name: str, model: Model, prompts: Sequence[Prompt], device: str) -> list[Prompt]:
    """The same with what another model says after the same prompt as `other`.

    Its likeliest text is read with this model's tokens; it is empty where prompt and reply
    together have other tokens than the prompt alone. Without a name nothing is changed.

    Raises:
        ModelError: there is no such model, or it cannot read the prompts.
    """
    if not name:
        return list(prompts)
    donor = load(name, device=device)
    written = [model.tokenizer.decode(p.prompt, skip_special_tokens=True) for p in prompts]
    asked = [tokenize(donor, text) for text in written]
    most = max(prompt.most for prompt in prompts)
    replies = continue_text(donor, asked, most)
    return [
        replace(prompt, other=_read_by(model, prompt, text + donor.tokenizer.decode(reply)))
        for prompt, text, reply in zip(prompts, written, replies, strict=True)
    ]


def _read_by(model: Model, prompt: Prompt, text: str) -> list[int]:
    """The tokens of a text that follow those of its prompt; none where it begins otherwise."""
    ids, start = model.tokenizer(text)["input_ids"], len(prompt.prompt)
    return ids[start : start + prompt.most] if ids[:start] == prompt.prompt else []


def ends(model: Model) -> tuple[int, ...]:
    """The tokens that end a text; an adder's answer has its length, and nothing ends it."""
    return () if model.card.arithmetic else model.end_tokens


def sampled(model: Model, text: Prompt, seed: int) -> list[int]:
    """The model's text at temperature 1; an adder's end token is any token, and ends nothing."""
    if not ends(model):
        return policy.generate(model, text.prompt, text.most, (), seed).tokens
    return continue_text(model, [text.prompt], text.most, temperature=1, seed=seed)[0]


def read_after(model: Model, prompt: list[int], rows: list[list[int]]) -> policy.Read:
    """Every filler after the prompt, in one pass, read from its first token on."""
    ids = torch.tensor([prompt + row for row in rows], device=model.cfg.device)
    return policy.read(model, ids, len(prompt), len(prompt))


def padded(values: np.ndarray, width: int, filling: float) -> np.ndarray:
    """The same with `filling` up to `width` tokens (axis 1)."""
    missing = [(0, 0)] * values.ndim
    missing[1] = (0, width - values.shape[1])
    return np.pad(values, missing, constant_values=filling)
