"""What n-gram rules would say next, up to four tokens long, counted in a text (2407.12034).

A rule looks at some of the three tokens before: the last one (bigram), the last two, all three,
or some with a gap. It says what most often followed the same tokens in the counted text.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from lenses.statistics.intervals import bootstrap
from models import Model
from models.text import begins_with_bos, tokenize
from models.train.king_james import king_james, training_and_held_out, was_trained_on_it
from prompts.additions import Addition, AdditionFormat

RULES: dict[str, tuple[int, ...]] = {
    "unigram": (), "bigram": (1,), "trigram": (1, 2), "4-gram": (1, 2, 3),
    "gap: 2 back": (2,), "gap: 3 back": (3,), "gap: 1 and 3 back": (1, 3),
    "gap: 2 and 3 back": (2, 3),
}  # fmt: skip
"""How many tokens back each rule looks."""
LONGEST, SOME = "longest that was counted", "any of the eight rules"
SUFFIXES = ("4-gram", "trigram", "bigram", "unigram")
PUBLISHED = (0.68, "2407.12034: Wikipedia, more rules, counted in all training texts")
"""How often one of the published rules says what a model does; 79 % for small stories."""
REACH = 3
"""Tokens that the longest rule looks back at; no token nearer to the beginning is predicted."""
SEGMENT = 64
"""Tokens of a passage that is read."""
HELD_OUT = 10
"""Every so many passages one is left for reading; the others are counted."""


@dataclass(frozen=True)
class Passages:
    """Rows of tokens, and how many of each row are of the text."""

    tokens: Int[np.ndarray, "row pos"]
    lengths: Int[np.ndarray, "row"]

    def told(self, start: int) -> Bool[np.ndarray, "row some"]:
        """Which tokens from pos `start` on are there."""
        return np.arange(start, self.tokens.shape[1]) < self.lengths[:, None]

    def keys(self, back: tuple[int, ...], words: int, start: int) -> Int[np.ndarray, "row some"]:
        """A number for what a rule sees before each token from pos `start` on."""
        end = self.tokens.shape[1]
        found = np.zeros_like(self.tokens[:, start:])
        for by in back:
            found = found * words + self.tokens[:, start - by : end - by]
        return found


def passages_of(
    model: Model, additions: int, file: Path | None, count: int, seed: int
) -> tuple[Passages, Passages]:
    """Passages that are counted, and `count` others to read: of an adder its own additions.

    Raises ValueError and OSError as `passages_of_text` does.
    """
    if (form := model.card.arithmetic) is not None:
        return passages_of_sums(form, additions, count, seed)
    return passages_of_text(model, file, count, seed)


def passages_of_text(
    model: Model, file: Path | None, count: int, seed: int
) -> tuple[Passages, Passages]:
    """Passages of a text (the King James Bible) that are counted, and `count` others to read.

    A model that was trained on chapters of the Bible reads others, and those are counted. Raises
    ValueError for a text that is too short or not in UTF-8, OSError without the file.
    """
    if file is None and was_trained_on_it(model.card):
        counted, others = (_rows(text_tokens(model, text)) for text in training_and_held_out())
    else:
        ids = text_tokens(model, counted_text(model, file))
        rows, least = _rows(ids), 2 * HELD_OUT * SEGMENT
        if len(ids) < least:
            raise ValueError(f"a text of {len(ids)} tokens; {least} or more are read")
        apart = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
        counted, others = rows[~apart], rows[apart]
    read = np.random.default_rng(seed).permutation(len(others))[:count]
    return _whole(counted), _whole(others[np.sort(read)])


def counted_text(model: Model, file: Path | None) -> str:
    """A text of a file, or the King James Bible: of a model trained on it the chapters for that.

    Raises ValueError for a file that is not in UTF-8, OSError without the file.
    """
    if file:
        return file.read_text("utf-8-sig")
    return training_and_held_out()[0] if was_trained_on_it(model.card) else king_james()


def text_tokens(model: Model, text: str) -> Int[np.ndarray, "token"]:
    """The tokens of a text, without a BOS."""
    ids = tokenize(model, text)
    return np.array(ids[begins_with_bos(model.tokenizer) :], dtype=np.int64)


def _rows(ids: Int[np.ndarray, "token"]) -> Int[np.ndarray, "row pos"]:
    return ids[: len(ids) // SEGMENT * SEGMENT].reshape(-1, SEGMENT)


def _whole(rows: Int[np.ndarray, "row pos"]) -> Passages:
    return Passages(rows, np.full(len(rows), rows.shape[1]))


def passages_of_sums(
    form: AdditionFormat, counted: int, count: int, seed: int
) -> tuple[Passages, Passages]:
    """Sampled additions that are counted, and `count` others to read, answers included."""
    written = form.write(Addition(form.digits, counted + count, seed, padded=form.pad).sums)
    every = Passages(written.tokens.astype(np.int64), written.at.max(axis=1) + 1)
    known = {tuple(row) for row in every.tokens[count:].tolist()}
    new = np.array([tuple(row) not in known for row in every.tokens[:count].tolist()])
    return (
        Passages(every.tokens[count:], every.lengths[count:]),
        Passages(every.tokens[:count][new], every.lengths[:count][new]),
    )


def rules_against(model: Model, counted: Passages, read: Passages, seed: int) -> pd.DataFrame:
    """`rule_rows` of what a model says in the passages that are read."""
    return rule_rows(guesses(counted, read, len(model.W_E)), said(model, read), read, seed)


def guesses(counted: Passages, read: Passages, words: int) -> Int[np.ndarray, "rule row pos-3"]:
    """What each rule says in place of each token; -1 where it never saw the tokens before."""
    found = []
    for back in RULES.values():
        start = max(back, default=0)
        told = counted.told(start)
        following = counted.tokens[:, start:][told]
        best = _likeliest(counted.keys(back, words, start)[told], following)
        keys = read.keys(back, words, REACH)
        at = np.searchsorted(best[0], keys).clip(max=len(best[0]) - 1)
        found.append(np.where(best[0][at] == keys, best[1][at], -1))
    return np.stack(found)


def _likeliest(
    keys: Int[np.ndarray, "n"], following: Int[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "key"], Int[np.ndarray, "key"]]:
    """Each key, in order, and what most often follows it (of equals the smallest token)."""
    pairs = pd.DataFrame({"key": keys, "next": following}).value_counts(sort=False)
    pairs = pairs.rename("count").reset_index()
    first = pairs.sort_values(["key", "count", "next"], ascending=[True, False, True])
    first = first.drop_duplicates("key")
    return first["key"].to_numpy(), first["next"].to_numpy()


@torch.inference_mode()
def said(model: Model, read: Passages) -> Int[np.ndarray, "row pos-3"]:
    """The token that the model finds likeliest in place of each from the fourth on.

    Passages of a text are read after a BOS where the model's tokenizer puts one.
    """
    tokens, start = torch.from_numpy(read.tokens).to(model.cfg.device), REACH - 1
    if model.card.arithmetic is None and begins_with_bos(model.tokenizer):
        first = torch.full_like(tokens[:, :1], model.tokenizer.bos_token_id)
        tokens, start = torch.cat([first, tokens], dim=1), REACH
    found = [model(row[None, :-1])[0, start:].argmax(-1) for row in tokens]
    return torch.stack(found).cpu().numpy()


def rule_rows(
    guessed: Int[np.ndarray, "rule row pos"],
    model_says: Int[np.ndarray, "row pos"],
    read: Passages,
    seed: int,
) -> pd.DataFrame:
    """How often each rule, and rules together, say what the model says; intervals over rows."""
    by = dict(zip(RULES, guessed, strict=True))
    longest = np.full_like(model_says, -1)
    for name in SUFFIXES:
        longest = np.where(longest < 0, by[name], longest)
    other = np.roll(model_says, 1, axis=0)  # what the model says elsewhere
    agree = {name: (one == model_says, one == other) for name, one in by.items()}
    agree[LONGEST] = longest == model_says, longest == other
    agree[SOME] = (guessed == model_says).any(0), (guessed == other).any(0)
    truth, there = read.tokens[:, REACH:], read.told(REACH)
    rows = []
    for name, (same, chance) in agree.items():
        known = {LONGEST: longest, SOME: guessed.max(0)}.get(name, by.get(name)) >= 0
        right = (
            (guessed == truth).any(0) if name == SOME else {**by, LONGEST: longest}[name] == truth
        )
        found = bootstrap((same & there).sum(1) / there.sum(1), seed).within(0, 1)
        told = {key: value.item() for key, value in vars(found).items()}
        told |= {"counted": known[there].mean(), "right": right[there].mean()}
        rows.append({"rule": name} | told | {"elsewhere": chance[there].mean()})
    model_right = (model_says == truth)[there].mean()
    return pd.DataFrame(rows).assign(model_right=model_right)
