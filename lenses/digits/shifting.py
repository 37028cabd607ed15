"""States of digits, read in batches, and what a model says after a digit's state is shifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int

from lenses.digits import exchanges as ex
from lenses.digits import geometry as geo
from lenses.digits.shifts import (
    ABOVE,
    OWN,
    Asked,
    Said,
    edit_rows,
    fit_rows,
    helix_rows,
    move_rows,
    pair_rows,
)
from lenses.kept import PerPrompt
from lenses.states.depths import after_layers
from lenses.texts import Stream, likeliest
from models import Model

CONTEXTS_AT_ONCE = 8
"""Fixed, because the last bit of a state may depend on how many are computed together."""
MANY_LAYERS = 4
"""Models of more layers than this are edited at some of them."""
NUMBERS, NUMBER_CONTEXTS = 100, 8
"""0 to 99 is the shortest range that holds whole turns of all periods of the helix."""


def asked_of(model: Model, contexts: int, edits: int, seed: int) -> Asked:
    """Prompts in the model's own format: every slot with every digit, and digits to be shifted.

    In an adder the answer digit of the own column is read, and that of the column above.

    Raises:
        ModelError: digits are no tokens.
    """
    form = model.card.arithmetic
    if form is None:
        slots = ex.LANGUAGE_SLOTS
        every = ex.language_values(model, slots, contexts, seed)
        rows = ex.language_exchanges(model, slots, edits, seed + 1)
        return Asked(slots, every, rows, np.repeat(OWN, len(rows)))
    slots = ex.adder_slots(form)
    every = ex.adder_values(form, slots, contexts, seed)
    own = ex.adder_exchanges(form, slots, edits, seed + 1)
    above = ex.adder_exchanges(form, slots, edits, seed + 3, above=True)
    reads = np.repeat([OWN, ABOVE], [len(own), len(above)])
    return Asked(slots, every, own.and_also(above), reads)


def states_of(
    model: Model, every: ex.EveryValue, stream: Stream, label: str
) -> Float[np.ndarray, "slot layer context value d"]:
    """The state of each value at its pos, entering every block and leaving the last."""
    kept, (slots, contexts, values, _) = PerPrompt(), every.tokens.shape
    chunks = list(product(range(slots), range(0, contexts, CONTEXTS_AT_ONCE)))
    for slot, first in stream(chunks, kept, label):
        tokens = every.tokens[slot, first : first + CONTEXTS_AT_ONCE]
        tokens = rearrange(tokens, "context value pos -> (context value) pos")
        found = ex.states_at(model, tokens, int(every.at[slot]))
        apart = "layer (context value) d -> context layer value d"
        kept.update(states=np.ascontiguousarray(rearrange(found, apart, value=values)))
    by_slot = "(slot context) layer value d -> slot layer context value d"
    return rearrange(kept["states"], by_slot, slot=slots)


def some_layers(count: int, few: int) -> list[int]:
    """Layers at which digits are shifted: all, or of many `few`, spread over the first half."""
    if count <= MANY_LAYERS:
        return list(range(count))
    spread = np.linspace(0, count / 2, few, endpoint=few > 1)
    return sorted({int(layer) for layer in spread})


def keep_only(model: Model, patterns: geo.Basis) -> Model:
    """The adder itself, with embeddings of its digits that differ along patterns alone.

    The weights are changed in place; the mean over digits stays.
    """
    ids = torch.from_numpy(model.card.arithmetic.digit_ids)
    kept = torch.from_numpy(geo.projector(patterns) + 1 / geo.DIGITS)
    model.W_E[ids] = kept.to(model.W_E) @ model.W_E[ids]
    return model


@dataclass(frozen=True)
class Shifter:
    """Shifts digits of prompts that the fits have not seen, at some layers."""

    model: Model
    stream: Stream
    layers: Sequence[int]
    permuted_fits: int
    """Fits to permuted labels, along which digits are shifted as well."""
    batch_size: int
    seed: int

    def tables(
        self, asked: Asked, states: Float[np.ndarray, "slot layer context value d"]
    ) -> dict[str, pd.DataFrame]:
        """Moves of single prompts, and their means by edit, by fit, and by pair of digits."""
        patterns = geo.bases()["line and circle"]
        said, clean = self.said(asked.rows, states, patterns, "edits")
        moves = move_rows(asked, said, clean, self.layers)
        fits = fit_rows(asked, said, self.layers)
        edits, pairs = edit_rows(moves, fits), pair_rows(moves)
        return {"moves": moves, "edits": edits, "fits": fits, "pairs": pairs}

    def helix(
        self, edits: int
    ) -> tuple[pd.DataFrame, Float[np.ndarray, "slot layer context value d"]]:
        """Of numbers that are tokens: shares of the helix, what a shift along it does; states."""
        slots, seed = ex.NUMBER_SLOTS, self.seed
        every = ex.language_values(self.model, slots, NUMBER_CONTEXTS, seed, NUMBERS)
        rows = ex.language_exchanges(self.model, slots, edits, seed + 1, NUMBERS)
        states = states_of(self.model, every, self.stream, "numbers")
        patterns, parts = geo.helix(NUMBERS), []
        said, _ = self.said(rows, states, patterns, "numbers")
        for number, layer in enumerate(self.layers):
            gram, means = geo.gram(states[0, layer]), states[:, layer].mean(1)
            fits = geo.fits(means, patterns, np.random.default_rng(seed), self.permuted_fits)
            held = {name: np.trace(fit[0] @ gram) / np.trace(gram) for name, fit in fits.items()}
            right = {name: each[number] == rows.answer for name, each in said.items()}
            parts.append(helix_rows(layer, held, right))
        return pd.concat(parts, ignore_index=True), states

    def said(
        self,
        rows: ex.Exchanges,
        states: Float[np.ndarray, "slot layer context value d"],
        patterns: geo.Basis,
        label: str,
    ) -> tuple[Said, Int[np.ndarray, "row"]]:
        """Tokens said after each edit and with the other token written; those said before."""
        plain, after, size = PerPrompt(), PerPrompt(), self.batch_size
        for some in self.stream(rows, plain, f"{label}: answers", size):
            texts, read = {"clean": some.tokens, "token": some.exchanged}, some.read[:, None]
            said = {key: likeliest(self.model, x, read)[:, 0] for key, x in texts.items()}
            plain.update(**said)
        for layer in self.layers:
            steps = self.steps(states[:, layer].mean(1), patterns, rows)
            where = f"{label}, {after_layers(layer)}"
            for at in self.stream(np.arange(len(rows)), after, where, size):
                after.update(**self._after(rows[at], layer, {k: s[at] for k, s in steps.items()}))
        shape = len(self.layers), len(rows)
        said = {name: after[name].reshape(shape) for name in steps}
        said["other token"] = np.broadcast_to(plain["token"], shape)
        return said, plain["clean"]

    def _after(
        self, some: ex.Exchanges, layer: int, steps: dict[str, Float[np.ndarray, "row d"]]
    ) -> dict[str, Int[np.ndarray, "row"]]:
        """Tokens said after each step of the state that enters a layer."""
        state = ex.entering(self.model, some.tokens, layer)
        return {
            name: ex.said_after(self.model, state, layer, some, step)
            for name, step in steps.items()
        }

    def steps(
        self, means: Float[np.ndarray, "slot value d"], patterns: geo.Basis, rows: ex.Exchanges
    ) -> dict[str, Float[np.ndarray, "row d"]]:
        """What each edit adds to the state of each row's digit, by the edit's name."""
        rng = np.random.default_rng(self.seed)  # the same permutations at every layer
        made = geo.fits(means, patterns, rng, self.permuted_fits)
        if means.shape[1] == geo.DIGITS:
            for name in ("line", "circle"):
                made[name] = np.broadcast_to(geo.projector(geo.bases()[name]), made["fit"].shape)
        where = rows.slot, rows.value, rows.target
        steps = {name: geo.moved(means, fit, *where) for name, fit in made.items()}
        steps["random"] = geo.as_long(steps["fit"], rng)
        return {name: step.astype(np.float32) for name, step in steps.items()}
