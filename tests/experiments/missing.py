"""Results in which numbers are missing, and the claims that must not hold on them."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from experiments import Claim, Experiment, Results


class Noted(Mapping):
    """Tables by name; which of them were asked for."""

    def __init__(self, tables: Mapping[str, pd.DataFrame]) -> None:
        self._tables, self.asked = tables, set()

    def __getitem__(self, name: str) -> pd.DataFrame:
        self.asked.add(name)
        return self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def answered_from(experiment: Experiment, results: Results) -> list[tuple[str, str]]:
    """The measured numbers (table, column) of the tables behind the headline and the claims."""
    noted = Results(Noted(results.tables), results.arrays)
    experiment.headline(noted)
    experiment.claims(noted)
    found = []
    for name in sorted(noted.tables.asked):
        table, keys = results.tables[name], type(experiment).tables[name].keys
        numbers = table.columns[[t.kind == "f" for t in table.dtypes]] if len(table) else []
        found += [(name, c) for c in numbers if c not in keys and table[c].notna().any()]
    return found


GONE = ("every one", "the largest", "the smallest")
BY_DESIGN = {
    ("traced", "error_before"): "missing where the subject stands first",
    ("prompts", "integrated"): "missing where refused, which the claim counts",
}
"""Columns in which some numbers may be missing, though an identity is about them."""


def without(results: Results, name: str, column: str, gone: str) -> Results:
    """The results with a column of which every number, the largest or the smallest is NaN."""
    table = results.tables[name].copy()
    rows = {"the largest": table[column].idxmax(), "the smallest": table[column].idxmin()}
    table.loc[rows.get(gone, slice(None)), column] = np.nan
    return Results({**results.tables, name: table}, results.arrays)


def lacking(results: Results, name: str, column: str) -> Iterator[tuple[str, Results]]:
    """What is gone, and the results without it."""
    for gone in GONE[: 1 if (name, column) in BY_DESIGN else len(GONE)]:
        yield gone, without(results, name, column, gone)


def wrongly_held(before: list[Claim], after: list[Claim], gone: str) -> list[str]:
    """Sentences of claims that hold although numbers that they are about are missing.

    Without any number of a column no claim may hold that is not, in all but p, what it was; where
    one number is missing no identity that it changes, and no claim that did not hold before.
    """
    same = [one.model_dump(exclude={"p"}) for one in before]
    held = [claim for claim in after if claim.verdict == "holds"]
    changed = [claim for claim in held if claim.model_dump(exclude={"p"}) not in same]
    lost_p = [
        claim for claim in held if claim.p is None and any(
            one.p is not None and one.sentence == claim.sentence for one in before)
    ]  # fmt: skip
    if gone != GONE[0]:
        number = sum(one.verdict == "holds" for one in before)
        changed = [c for c in changed if c.kind == "identity" or len(held) > number]
    return [claim.sentence for claim in [*changed, *lost_p]]
