"""What is kept of a model reading digits: logits of words at every digit and site, some states."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.digits.texts import DigitTexts
from lenses.kept import PerPrompt
from lenses.states.decoding import (
    Decoder,
    MeanStates,
    Readout,
    Site,
    read_states,
    readouts,
    single_tokens,
    sites,
)
from lenses.states.nearest import divergences, fitted_ridge
from lenses.statistics.intervals import bootstrap
from models import Model
from models.text import right_pad, tokenize
from prompts.passages import passages
from prompts.place_values import OTHER_WORDS
from prompts.texts import Text, shipped_texts

NUMBERS = ("addition", "copy", "words")
"""Kinds of texts whose digits are those of numbers."""
SAMPLES = ("prompt", "announced", "generated")
MOST = 8
"""The highest place that is scored: a few sums go beyond it, too few for the word billion."""
KEPT_SITES = 4
"""At which states are kept."""
Stream = Callable[..., Iterator[Any]]
"""`Experiment.stream`: the items in batches, with progress and exact resume."""
FROM_OUTPUT = "divergence from the output by "
"""Contrasts that begin so are of readouts, each named by decoder and norm."""
PER_WORD = 4
"""Other words looked for, for each word that is scored."""


@dataclass(frozen=True)
class Words:
    """Words by class (a place, say), then others of like frequency, as the ids of their forms."""

    table: pd.DataFrame
    """word, place (-1: none), role (place, other, skipped) and token_id (several: with spaces)."""
    places: tuple[int, ...]
    """The classes that have a word, in order."""
    ids: tuple[tuple[int, ...], ...]
    """Ids of the forms of each class's words, then of each other word."""

    @classmethod
    def of(cls, model: Model, of_class: Mapping[int, Sequence[str]]) -> "Words":
        """The words of each class that are one token, and four times as many others.

        Vocabularies are ordered by how often a token was merged from others, so the nearest ids
        are words of like frequency.
        """
        forms = {
            name: {word: single_tokens(model, word) for word in words}
            for name, words in of_class.items()
        }
        joined = {
            name: [one for ids in found.values() for one in ids] for name, found in forms.items()
        }
        places = tuple(name for name, ids in joined.items() if ids)
        others = _like_frequency(model, [joined[name][0] for name in places])
        rows = [
            (word, name, "place" if ids else "skipped", " ".join(map(str, ids)))
            for name, found in forms.items()
            for word, ids in found.items()
        ]
        rows += [(word, -1, "other", " ".join(map(str, ids))) for word, ids in others.items()]
        table = pd.DataFrame(rows, columns=["word", "place", "role", "token_id"])
        ids = [joined[name] for name in places] + list(others.values())
        return cls(table, places, tuple(map(tuple, ids)))

    @classmethod
    def none(cls) -> "Words":
        """No words at all, for a model that knows none."""
        return cls(pd.DataFrame(), (), ())

    def logits(
        self, decoder: Decoder, states: Float[Tensor, "site n d"], how: Readout
    ) -> Float[np.ndarray, "n site word"]:
        """The logit of each word: of its forms together, as their probabilities add up."""
        if not self.ids:
            return np.zeros((states.shape[1], states.shape[0], 0), dtype=np.float32)
        flat = torch.tensor([one for ids in self.ids for one in ids], device=states.device)
        parts = decoder(states, how, flat).split([len(ids) for ids in self.ids], dim=-1)
        joined = torch.stack([part.logsumexp(-1) for part in parts], dim=-1)
        return joined.transpose(0, 1).contiguous().cpu().numpy()

    def number(self, name: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """Where each class stands in `places`; -1 where it has no word."""
        at = {place: number for number, place in enumerate(self.places)}
        return np.array([at.get(int(one), -1) for one in name], dtype=np.int64)


def _like_frequency(model: Model, wanted: Sequence[int]) -> dict[str, list[int]]:
    """Words of no class, whose ids are nearest to those of the words that are scored."""
    left = {word: ids for word in OTHER_WORDS if (ids := single_tokens(model, word))}
    found: dict[str, list[int]] = {}
    for _ in range(PER_WORD):
        for one in wanted:
            if left:
                nearest = min(left, key=lambda word: abs(left[word][0] - one))
                found[nearest] = left.pop(nearest)
    return found


@dataclass(frozen=True)
class DigitReading:
    """One model's reading of texts: a row for each digit of `texts.digits`."""

    texts: DigitTexts
    where: list[Site]
    how: list[Readout]
    words: Words
    logits: Float[np.ndarray, "n readout site word"]
    said: Int[np.ndarray, "n"]
    """The token that the model would have said instead; -1 for a text's first token."""
    few: list[int]
    """Numbers of the sites whose states are kept."""
    states: Float[np.ndarray, "n few d"]
    means: MeanStates
    """Mean states of given digits of known place, by place."""
    decoder: Decoder

    @property
    def digits(self) -> pd.DataFrame:
        """What is known of each digit."""
        return self.texts.digits

    @property
    def layers(self) -> Int[np.ndarray, "site"]:
        """Blocks passed at each site."""
        return np.array([int(site.passed) for site in self.where])

    @property
    def right(self) -> Bool[np.ndarray, "n"]:
        """Whether the model would have said each digit."""
        return self.said == self.digits["token_id"].to_numpy()

    @property
    def scored(self) -> tuple[int, ...]:
        """The places that are scored: those that have a word and enough digits."""
        return tuple(place for place in self.words.places if place <= MOST)

    @property
    def label(self) -> Int[np.ndarray, "n"]:
        """Which of the scored words is each digit's own; -1 for none, and for first tokens."""
        place = self.digits["place"].to_numpy()
        counted = (self.digits["pos"] > 0) & (place <= MOST)
        return np.where(counted, self.words.number(place), -1)

    def some_numbers(self, most: int) -> list[int]:
        """At most `most` of the texts with numbers, evenly spread, the first among them."""
        numbers = self.digits.loc[self.digits["kind"].isin(NUMBERS), "prompt"].unique()
        return numbers[np.linspace(0, len(numbers) - 1, most).astype(int)].tolist()

    def of(self, sample: str, *, numbers: bool = True) -> Bool[np.ndarray, "n"]:
        """The digits of one sample that are (or are no) digits of numbers, but no first tokens."""
        is_number = self.digits["kind"].isin(NUMBERS) == numbers
        found = (self.digits["sample"] == sample) & is_number & (self.digits["pos"] > 0)
        return found.to_numpy()


def read_digits(
    model: Model, texts: DigitTexts, words: Words, size: int, stream: Stream, label: str
) -> DigitReading:
    """Every digit's state as logits of words, some states, and the mean state of each place."""
    where, how, ridge = sites(model), readouts(model), None
    few, kept, means = some_sites(where, KEPT_SITES), PerPrompt(), MeanStates(20)
    centre = _centre(model, texts, size, stream, f"{label}: centre")
    if words.ids:
        ridge = fitted_ridge(model, _ids(model, passages()), size, stream, f"{label}: ridge lens")
        how.append(Readout("ridge"))
    decoder = Decoder(model, centre, ridge)
    place = texts.digits["place"].where(is_operand(texts.digits), -1).to_numpy()
    for part in stream(texts.batches(size), (kept, means), label):
        tokens, row, pos, which = texts.batch(part, model.cfg.device)
        states, said = read_states(model, tokens, where, row, pos)
        logits = [words.logits(decoder, states, each) for each in how]
        some = states[few].transpose(0, 1).contiguous().cpu().numpy()
        kept.update(logits=np.stack(logits, axis=1), said=said.cpu().numpy(), states=some)
        means.update(states, torch.as_tensor(place[which], device=states.device))
    read = {name: kept[name] for name in ("logits", "said", "states")}
    return DigitReading(texts, where, how, words, few=few, means=means, decoder=decoder, **read)


def _centre(
    model: Model, texts: DigitTexts, size: int, stream: Stream, label: str
) -> Float[Tensor, "site d"]:
    """Mean state of each site over other texts (of an adder: over the same)."""
    ids, mean = texts.ids, MeanStates()
    if model.card.arithmetic is None:
        ids = _ids(model, shipped_texts())
    for batch in stream(ids, mean, label, size):
        tokens, lengths = (x.to(model.cfg.device) for x in right_pad(batch))
        at = torch.arange(tokens.shape[1], device=tokens.device)
        row, pos = ((at > 0) & (at < lengths[:, None])).nonzero(as_tuple=True)
        states, _ = read_states(model, tokens, sites(model), row, pos)
        mean.update(states, torch.zeros_like(row))
    return mean.mean[0]


def _ids(model: Model, texts: Sequence[Text]) -> list[list[int]]:
    return [tokenize(model, text.text)[: model.cfg.n_ctx] for text in texts]


def divergence_rows(model: Model, own: DigitReading, stream: Stream, seed: int) -> pd.DataFrame:
    """How far each readout is from the model's own output on texts that no lens was fitted on.

    The nearest one comes first.
    """
    texts = _ids(model, shipped_texts())
    found = divergences(model, own.decoder, own.how, texts, stream, "nearest readout")
    ends = bootstrap(found, seed)
    names = [FROM_OUTPUT + ": ".join(describe(how).values()) for how in own.how]
    rows = pd.DataFrame({"statistic": names, **vars(ends)})
    return rows.sort_values("estimate", kind="stable", ignore_index=True)


def is_operand(digits: pd.DataFrame) -> pd.Series:
    """Digits of the first number that is given, of which the place can be known."""
    known = digits["announced"] | ~digits["announced"].any()
    return (digits["part"] == "a") & digits["kind"].isin(NUMBERS) & known


def some_sites(where: Sequence[Site], count: int) -> list[int]:
    """At most `count` of the sites, evenly spread, the last among them."""
    return sorted(set(np.linspace(0, len(where) - 1, count + 1).round().astype(int)[1:].tolist()))


def describe(how: Readout) -> dict[str, str]:
    """Decoder and norm, as tables name them."""
    return {"decoder": how.decoder, "norm": how.norm + (", centred" if how.centred else "")}
