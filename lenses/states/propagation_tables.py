"""What is said and written of states that are read by other texts, as tables (SCIENCE 4)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lenses.states.implied import Placed, Told, shown
from lenses.states.placing import Reader, written_from
from lenses.states.propagation import (
    STATES,
    Read,
    eligible,
    excesses,
    held_out,
    put_in,
    shares,
)
from lenses.statistics.grid import grid
from models import Model
from models.text import token_strings


def read_tables(
    model: Model, cases: Sequence[Placed], read: Read, depths: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Tables of cases that are read in the same way: what is said, and how often it is right."""
    is_right = read.said == np.array([one.right for one in cases])[:, None, None]
    best = held_out(is_right, eligible(depths, model.cfg.n_layers))
    best["depth"] = np.array(depths)[best["depth"]]
    axes = {"case": len(cases), "layer": depths, "state": STATES}
    tokens = np.array(token_strings(model, read.said.ravel()), dtype=object)
    return {
        "cases": case_rows(model, cases),
        "said": grid(axes, token=tokens, is_right=is_right),
        "shares": shares(is_right, depths),
        "excess": excesses(is_right, depths),
        "held_out": best.rename(columns={"depth": "layer"}),
    }


def case_rows(model: Model, cases: Sequence[Placed]) -> pd.DataFrame:
    """The texts of each case, and the token that is right."""
    rows = [
        {
            "case": number,
            "group": one.group,
            "source": shown(model, one.source),
            "reader": shown(model, one.reader),
            "right": token_strings(model, [one.right])[0],
        }
        for number, one in enumerate(cases)
    ]
    return pd.DataFrame(rows)


def identity_rows(read: Read, told: Told) -> pd.DataFrame:
    """What must be exact, a row a case that was tried: `back`, and of answers `last`.

    The error of `back` is the largest over depths; that of `last` is 1 where the state after the
    last block says another token than the whole text.
    """
    tried = np.flatnonzero(~np.isnan(read.error).all(1))
    found = [("back", tried, read.error[tried].max(1))]
    if told == "answer":
        other = (read.put[:, -1, 0] != read.text).astype(float)
        found.append(("last", np.arange(len(other)), other))
    names = ("identity", "case", "error")
    return pd.concat([pd.DataFrame(dict(zip(names, one, strict=True))) for one in found])


def written_rows(
    model: Model,
    cases: Sequence[Placed],
    chosen: Sequence[int],
    depths: Sequence[int],
    seed: int,
    most: int,
) -> pd.DataFrame:
    """What the model goes on to write from the chosen cases: own state, another's, none.

    At most as many tokens as its context has room for.
    """
    mine = [cases[number] for number in chosen]
    put, read = [one.put for one in mine], [one.read for one in mine]
    rows = [one.reader for one in mine]
    own, other, _ = put_in(model, cases, chosen, depths, seed)
    none = Reader(model, rows, put, read, depths[:1]).states
    count = min(most, model.cfg.n_ctx + 1 - max(map(len, rows)))
    frames = []
    for state, vectors in {"own": own, "another": other, "none": none}.items():
        at = depths[: len(vectors)]
        frame = grid({"layer": at, "case": chosen}).assign(state=state)
        layers, many = frame["layer"].tolist(), len(at)
        new = written_from(model, rows * many, put * many, layers, vectors.flatten(0, 1), count)
        reader = [shown(model, row) for row in rows] * many
        frames.append(frame.assign(reader=reader, text=[shown(model, row) for row in new]))
    return pd.concat(frames, ignore_index=True)
