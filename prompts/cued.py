"""Slots of which a cue names one: where to look is known, and differs from case to case.

"blue? red C, blue H, green A": the slot of the colour that is asked for holds the answer, H.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

COLOURS = (
    "red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "lime", "navy",
    "teal",
)  # fmt: skip
"""Each slot has one, and no two slots of a case the same."""
LETTERS = tuple("ABCDEFGHIJ")
"""Each slot holds one; several may hold the same."""


@dataclass(frozen=True)
class Cued:
    """Cases as numbers: places in COLOURS and LETTERS."""

    colour: Int[np.ndarray, "case slot"]
    letter: Int[np.ndarray, "case slot"]
    cue: Int[np.ndarray, "case"]
    """The colour that is asked for."""
    right: Int[np.ndarray, "case"]
    """The slot that has it, from 0: where to look."""
    answer: Int[np.ndarray, "case"]
    """The letter that is to be said."""

    def __len__(self) -> int:
        return len(self.cue)

    def words(self, case: int) -> list[str]:
        """The slots of a case as text: "red C"."""
        slots = zip(self.colour[case], self.letter[case], strict=True)
        return [f"{COLOURS[colour]} {LETTERS[letter]}" for colour, letter in slots]


def cued(count: int, slots: int, rng: np.random.Generator, *, shuffled: bool = False) -> Cued:
    """As many cases of as many slots; `shuffled` answers are those of a slot drawn by lot.

    Raises ValueError for more slots than colours.
    """
    if slots > len(COLOURS):
        raise ValueError(f"{slots} slots need as many colours; there are {len(COLOURS)}")
    colour = rng.random((count, len(COLOURS))).argsort(axis=1)[:, :slots]
    letter = rng.integers(len(LETTERS), size=(count, slots))
    case, right = np.arange(count), rng.integers(slots, size=count)
    told = rng.integers(slots, size=count) if shuffled else right
    return Cued(colour, letter, colour[case, right], right, letter[case, told])
