"""What a model goes on to say from a single state, and what it says without that state.

Two ways (SCIENCE 4): the state goes on through the blocks that are left, by itself; or it is put
into a prompt that asks what it is (Patchscopes: Ghandeharioun et al. 2024, 2401.06102, sections 3
and 4). A reader may tell what it knows or guesses itself (2509.13316), so that the state of another
text, the same numbers in another order, and no state at all are read beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.states.decoding import Decoder, Readout
from lenses.states.implied import Placed, another
from lenses.states.placing import Reader, states_of
from lenses.statistics.intervals import benjamini_hochberg, wilson
from lenses.statistics.paired import paired_shares
from models import Model

PUT = ("own", "another", "shuffled")
"""States that are put in: the case's, that of a case with another answer, the case's in another
order."""
PUT_BACK = 8
"""Cases, the first ones, in which a state is put back: few are enough for what must be exact."""
CONTROLS = ("another", "shuffled", "none")
STATES = (*PUT, "none", "text", "decoded")
"""And what needs none: the reader alone, the same in words, and the own state decoded at once."""


@dataclass(frozen=True)
class Read:
    """What is said about cases, as tokens."""

    put: Int[np.ndarray, "n depth state"]
    """With each state of PUT."""
    decoded: Int[np.ndarray, "n depth"]
    """The likeliest token of the own state by the model's readout (logit lens)."""
    none: Int[np.ndarray, "n"]
    text: Int[np.ndarray, "n"]
    error: Float[np.ndarray, "n depth"]
    """Relative difference of logits when a state is put back where it stood; NaN: not tried."""

    @property
    def said(self) -> Int[np.ndarray, "n depth state"]:
        """All of STATES, in order."""
        flat = [np.broadcast_to(x[:, None], self.decoded.shape) for x in (self.none, self.text)]
        return np.concatenate([self.put, np.stack([*flat, self.decoded], axis=-1)], axis=-1)


@torch.inference_mode()
def read_cases(
    model: Model, cases: Sequence[Placed], chosen: Sequence[int], depths: Sequence[int], seed: int
) -> Read:
    """What is said about the chosen cases, all of which are read in the same way."""
    mine = [cases[number] for number in chosen]
    ends = [len(one.text) - 1 for one in mine]
    text = Reader(model, [one.text for one in mine], ends, ends, depths)
    reader = Reader(
        model, [one.reader for one in mine], [one.put for one in mine], [one.read for one in mine],
        depths,
    )  # fmt: skip
    vectors = put_in(model, cases, chosen, depths, seed)
    said = [reader(depth, vectors[:, at]).argmax(-1).T for at, depth in enumerate(depths)]
    back = torch.full((len(mine), len(depths)), torch.nan, dtype=torch.float64)
    if min(chosen) < PUT_BACK:
        back = torch.stack(
            [_error(text, *pair) for pair in zip(depths, text.states, strict=True)], 1
        )
        back[torch.tensor(chosen) >= PUT_BACK] = torch.nan
    centre = torch.zeros(len(depths), model.cfg.d_model)
    _, decoded = Decoder(model, centre).likeliest(vectors[0], Readout())
    found = (torch.stack(said, 1), decoded[..., 0].T, reader.alone.argmax(-1),
        text.alone.argmax(-1), back)  # fmt: skip
    return Read(*(x.cpu().numpy() for x in found))


def put_in(
    model: Model, cases: Sequence[Placed], chosen: Sequence[int], depths: Sequence[int], seed: int
) -> Float[Tensor, "state depth n d_model"]:
    """The states of PUT of the chosen cases."""
    others = [cases[another(cases, number)].source for number in chosen]
    own, other = (
        states_of(model, rows, [len(row) - 1 for row in rows], depths).float()
        for rows in ([cases[number].source for number in chosen], others)
    )
    order = [np.random.default_rng([seed, n]).permutation(own.shape[-1]) for n in chosen]
    shuffle = torch.from_numpy(np.stack(order)).to(own.device).expand(own.shape)
    return torch.stack([own, other, own.gather(-1, shuffle)])


def _error(text: Reader, depth: int, state: Float[Tensor, "n d_model"]) -> Float[Tensor, "n"]:
    again = text(depth, state[None])[0]
    apart, size = (x.norm(dim=-1).double() for x in (again - text.alone, text.alone))
    return torch.where(apart == 0, 0, apart / size).nan_to_num(nan=torch.inf)  # NaN: not tried


def eligible(depths: Sequence[int], layers: int) -> list[int]:
    """Depths within the model: after the first layer, before the last; of one layer, before it.

    Before the first layer a state is its token and nothing else; after the last it is the model's
    own prediction.
    """
    return [number for number, depth in enumerate(depths) if 0 < depth < layers] or [0]


def where_read(sentence: str, layers: Iterable[int]) -> str:
    """A sentence on depths `within the model`; of a model of one layer it was before that."""
    if max(layers):
        return sentence
    return sentence.replace("within the model", "before the only layer")


def held_out(right: Bool[np.ndarray, "n depth state"], within: Sequence[int]) -> pd.DataFrame:
    """Own state and best control of each case at the depth that is best in the other half.

    `right` is by STATES. For each half, drawn by lot, depth and control are chosen on the other.
    """
    rows = []
    names = [STATES.index(name) for name in CONTROLS]
    half = np.random.default_rng(0).permutation(len(right)) % 2
    for part in (0, 1):
        seen = right[half != part].mean(0)
        excess = seen[within, 0] - seen[within][:, names].max(1)
        depth = within[int(excess.argmax())]
        control = names[int(seen[depth, names].argmax())]
        for case in np.flatnonzero(half == part):
            told = right[case, depth]
            rows.append((case, depth, STATES[control], told[0], told[control], told[4], told[5]))
    names = ["case", "depth", "control", "own", "best_control", "text", "decoded"]
    return pd.DataFrame(rows, columns=names).sort_values("case", ignore_index=True)


def shares(right: Bool[np.ndarray, "n depth state"], depths: Sequence[int]) -> pd.DataFrame:
    """The share of cases that is right, by depth and state."""
    n, rows = len(right), []
    for number, depth in enumerate(depths):
        for state, k in zip(STATES, right[:, number].sum(0).tolist(), strict=True):
            low, high = wilson(k, n)
            rows.append((depth, state, k / n, float(low), float(high), n))
    return pd.DataFrame(rows, columns=["layer", "state", "accuracy", "low", "high", "n"])


def excesses(right: Bool[np.ndarray, "n depth state"], depths: Sequence[int]) -> pd.DataFrame:
    """By how much the own state is right more often than the best control, at each depth."""
    names, rows = [STATES.index(name) for name in CONTROLS], []
    for number, depth in enumerate(depths):
        at = right[:, number]
        best = names[int(at[:, names].sum(0).argmax())]
        rows.append((depth, STATES[best], *paired_shares(at[:, 0], at[:, best])))
    names = ["layer", "control", "estimate", "low", "high", "n", "p"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(q=benjamini_hochberg(table["p"].to_numpy(float)))
