"""What texts are taken apart into, read in a stream: states, Jacobians, and random twins."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.kept import PerPrompt
from lenses.states.concept_tables import (
    compared,
    example_tokens,
    share_rows,
    shares_of,
    taken_apart,
)
from lenses.states.concepts import (
    OF_TOKENS,
    TRANSPORTED,
    States,
    added_at,
    atom_set,
    depth_of,
    last,
    spread,
)
from lenses.states.decoding import Site
from lenses.states.jacobian import MeanJacobians, text_jacobians
from lenses.texts import ReadText
from models import Model

JACOBIAN_TOKENS = 8
"""First tokens of a text over which a Jacobian is averaged."""
EXAMPLE_TOKENS = 6
"""Last tokens of the first text whose states are its example."""


class Rows(Protocol):
    """A table that grows, as of `Experiment.rows`."""

    def append(self, frame: pd.DataFrame) -> None:
        """Add rows."""


@dataclass(frozen=True)
class TextStates:
    """Texts of two tokens or more whose states are taken apart, and how they are read."""

    texts: Sequence[ReadText]
    where: Sequence[Site]
    """Depths of the residual stream."""
    positions: int
    """Read in each text, spread evenly over it."""
    seed: int
    stream: Callable[..., Iterator[Any]]
    """`Experiment.stream`."""

    def read(self, model: Model) -> tuple[States, States]:
        """States and what is added to them in every text; states where the first text ends."""
        read, example = States([*self.where, *added_at(model, self.where)]), States(self.where)
        kept = (read.kept, read.mean, example.kept, example.mean)
        for text in self.stream(self.texts, kept, "reading"):
            self._update(read, model, text)
            if text is self.texts[0]:
                pos = last(len(text.given), EXAMPLE_TOKENS)
                example.update(model, text.number, text.given, pos)
        return read, example

    def _update(self, read: States, model: Model, text: ReadText) -> None:
        read.update(model, text.number, text.given, spread(len(text.given), self.positions))

    def jacobians(self, model: Model, most: int) -> Float[Tensor, "depth d d"]:
        """Mean Jacobians over at most so many texts of three tokens or more.

        Without any such text, a tensor of shape (0, 0, 0).
        """
        mean = MeanJacobians()
        long = [text.given for text in self.texts if len(text.given) > 2][:most]
        for ids in self.stream(long, mean, "Jacobians"):
            mean.update(text_jacobians(model, ids[:JACOBIAN_TOKENS], self.where))
        return mean.mean if long else torch.zeros(0, 0, 0)

    def take_apart(
        self,
        model: Model,
        read: States,
        example: States,
        jacobians: Float[Tensor, "depth d d"],
        rows: Mapping[str, Rows],
    ) -> None:
        """Append to `states`, `pursuits` and `example` what each set of atoms finds.

        The transported set is left out where there are no Jacobians.
        """
        names = (*OF_TOKENS, TRANSPORTED) if len(jacobians) else OF_TOKENS
        for name in self.stream(names, rows.values(), "taking states apart"):
            atoms = atom_set(model, name, jacobians, len(self.where), self.seed)
            for frame in taken_apart(model, atoms, read, self.seed):
                rows["states"].append(frame)
            rows["pursuits"].append(compared(model, atoms, read, self.seed))
            rows["example"].append(example_tokens(model, atoms, example, read))
            del atoms  # before the next set is made

    def of_twins(self, twins: Iterable[Model], count: int) -> pd.DataFrame:
        """States of `count` random twins by their own atoms, as `share_rows` has them."""
        frames = []
        for number, twin in enumerate(twins):
            kept, told = PerPrompt(), f"random weights {number + 1}/{count}"
            for _ in self.stream([number], kept, told):
                kept.update(**self.shares(twin, self.seed + number))
            depths = [depth_of(site) for site in self.where]
            rows = share_rows(kept["shares"], kept["prompt"], depths)
            frames.append(rows.assign(weights=f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def shares(
        self, model: Model, seed: int
    ) -> dict[str, Float[np.ndarray, "n set site+1 step"] | Int[np.ndarray, "n"]]:
        """`shares_of` the states of all texts, and the `prompt` of each state."""
        read = States(self.where)
        for text in self.texts:
            self._update(read, model, text)
        return {"shares": shares_of(model, read, seed), "prompt": read.kept["prompt"]}
