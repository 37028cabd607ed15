"""What models with random weights show of the same digits: numbers, so that each can be let go."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float

from lenses.digits.carry_flag import flag_rows
from lenses.digits.probes import Told, digits_told, places_told
from lenses.digits.reading import DigitReading
from lenses.digits.words import Scores, word_scores


@dataclass(frozen=True)
class RandomWeights:
    """Of each such model: how far words stand out, what probes tell, what carries do."""

    words: list[Scores]
    flags: list[pd.DataFrame]
    places: list[Told]
    digits: list[Float[np.ndarray, "place n"]]

    @classmethod
    def of(cls, readings: Iterable[DigitReading], most: int, seed: int) -> Self:
        """What is kept of readings, one after another; probes see at most `most` digits."""
        found = cls([], [], [], [])
        for reading in readings:
            found.words.append(word_scores(reading))
            found.flags.append(flag_rows(reading, seed))
            found.places.append(places_told(reading, most, seed))
            found.digits.append(digits_told(reading, seed))
            del reading  # before the next one is made
        return found
