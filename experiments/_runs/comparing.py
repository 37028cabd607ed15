"""Two runs side by side: what was asked otherwise, what they answer, whether tables are equal."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments._contract.claims import Claim
from experiments._runs.opened import Run
from viz.evidence import claim_key


@dataclass(frozen=True)
class Comparison:
    """What differs between a first and a second run; every pair is in this order."""

    folders: tuple[str, str]
    headlines: tuple[str, str]
    differs: dict[str, tuple[Any, Any]]
    """Fields, weights, versions and code that are not the same."""
    claims: list[dict[str, Any]]
    """Each sentence with the two verdicts and estimates; None where a run does not make it."""
    tables: dict[str, str]
    """Of each table whether it is equal, or by how much it is not."""

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The same for a terminal."""
        for number, (folder, headline) in enumerate(zip(self.folders, self.headlines, strict=True)):
            yield f"{'first' if number == 0 else 'second':>10}  {folder}"
            yield f"{'':>10}  {headline}"
        for name, (first, second) in self.differs.items():
            yield f"{'differs':>10}  {name}: {first!r} | {second!r}"
        for claim in self.claims:
            (one, other), same = claim["verdicts"], "same" if claim["same"] else "changed"
            yield f"{same:>10}  {claim['sentence']}"
            first, second = _said(claim["first"]), _said(claim["second"])
            yield f"{'':>10}  {one or '-'} {first} | {other or '-'} {second}"
        for name, told in self.tables.items():
            yield f"{'table':>10}  {name}: {told}"


def compare(first: Run, second: Run) -> Comparison:
    """What differs between two runs, of one experiment or of two."""
    runs = first, second
    names = list(dict.fromkeys([*first.tables, *second.tables]))
    return Comparison(
        folders=tuple(str(run.folder) for run in runs),
        headlines=tuple(run.headline for run in runs),
        differs=_differs(first.manifest, second.manifest),
        claims=_claims(first.claims, second.claims),
        tables={name: _table(name, *(run.tables for run in runs)) for name in names},
    )


def _differs(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    one, other = _facts(first), _facts(second)
    pairs = {name: (one.get(name), other.get(name)) for name in one | other}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All that may make numbers differ, by name."""
    facts = {"experiment": manifest["experiment"], **manifest["fields"]}
    facts |= {"weights": manifest["model"]["sha256"][:12], "commit": manifest["git"]["commit"][:12]}
    return facts | {f"version of {k}": v for k, v in manifest["versions"].items()}


def _claims(first: list[Claim], second: list[Claim]) -> list[dict[str, Any]]:
    one, other = (
        {claim_key(claim.model_dump()): claim for claim in claims} for claims in (first, second)
    )
    return [_beside(one.get(key), other.get(key)) for key in one | other]


def _beside(first: Claim | None, second: Claim | None) -> dict[str, Any]:
    shown = first or second
    verdicts = [claim and (claim.verdict or "found") for claim in (first, second)]
    numbers = [claim and [claim.estimate, claim.low, claim.high] for claim in (first, second)]
    about = f"{shown.label}: " if shown.label else ""
    return {
        "sentence": about + shown.sentence,
        "verdicts": verdicts,
        "first": numbers[0],
        "second": numbers[1],
        "same": verdicts[0] == verdicts[1],
    }


def _said(numbers: list[float | None] | None) -> str:
    if numbers is None or numbers[0] is None:
        return ""
    ends = "" if numbers[1] is None else f" [{numbers[1]:.3g}, {numbers[2]:.3g}]"
    return f"{numbers[0]:.3g}{ends}"


def _table(name: str, first: Mapping[str, pd.DataFrame], second: Mapping[str, pd.DataFrame]) -> str:
    """One table of two runs in words."""
    if name not in first or name not in second:
        return f"only in the {'first' if name in first else 'second'} run"
    one, other = first[name], second[name]
    if one.equals(other):
        return f"equal, {len(one):,} rows"
    if list(one) != list(other) or len(one) != len(other):
        return f"{len(one):,} x {len(one.columns)} | {len(other):,} x {len(other.columns)} values"
    return "; ".join(
        _column(column, one[column], other[column])
        for column in one
        if not one[column].equals(other[column])
    )


def _column(name: str, one: pd.Series, other: pd.Series) -> str:
    if all(pd.api.types.is_numeric_dtype(column) for column in (one, other)):
        far = np.abs(one.to_numpy(float, na_value=np.nan) - other.to_numpy(float, na_value=np.nan))
        return f"{name} differs by up to {np.nanmax(far, initial=0):.3g}"
    return f"{name} differs in {int((one.astype(str) != other.astype(str)).sum()):,} rows"
