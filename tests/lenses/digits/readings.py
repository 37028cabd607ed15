"""Readings of digits made up for tests: real texts, states and logits by code."""

import numpy as np
import torch

from lenses.digits.reading import DigitReading, Words
from lenses.digits.texts import DigitTexts, texts_of_prompts
from lenses.states.decoding import Decoder, MeanStates, Readout, Site
from models.planted.places import planted_places
from prompts.place_values import PLACE_WORDS, place_prompts

MODEL = planted_places()
WORDS = Words.of(MODEL, PLACE_WORDS)
TEXTS = texts_of_prompts(MODEL, place_prompts(4, seed=0))
WHERE = [Site(0, "embedding"), Site(0, "resid_post"), Site(1, "resid_post")]
HOW = [Readout(), Readout(centred=True)]


def reading(
    logits: np.ndarray | None = None,
    *,
    said: np.ndarray | None = None,
    states: np.ndarray | None = None,
    texts: DigitTexts = TEXTS,
    seed: int = 0,
) -> DigitReading:
    """Noise, but for what is given: logits [n site word] (of both readouts), said, states."""
    rng, n = np.random.default_rng(seed), len(texts.digits)
    if logits is None:
        logits = rng.normal(size=(n, 3, len(WORDS.ids)))
    if states is None:
        states = rng.normal(size=(n, 3, 12))
    if said is None:
        said = texts.digits["token_id"].to_numpy()
    decoder = Decoder(MODEL, torch.zeros(3, MODEL.cfg.d_model))
    both = np.repeat(logits[:, None], 2, axis=1)
    return DigitReading(
        texts, WHERE, HOW, WORDS, both, said, [0, 1, 2], states.astype(np.float32), MeanStates(20),
        decoder,
    )  # fmt: skip


def noise(seed: int = 0) -> np.ndarray:
    """Logits of words [n site word] that know nothing."""
    return np.random.default_rng(seed).normal(size=(len(TEXTS.digits), 3, len(WORDS.ids)))


def knowing(strength: float, rows: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Logits that rise by `strength` for the word of each digit's place, at the middle site."""
    logits, number = noise(seed), WORDS.number(TEXTS.digits["place"].to_numpy())
    rows = number >= 0 if rows is None else rows & (number >= 0)
    logits[np.flatnonzero(rows), 1, number[rows]] += strength
    return logits
