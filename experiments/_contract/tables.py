"""What the rows and columns of a table are: declared by an experiment, checked when written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from experiments._contract.errors import UsageError
from viz.glossary import GLOSSARY

MOST_KEYS = 3_000_000
"""Rows up to which a table is searched for repeated keys."""


@dataclass(frozen=True)
class Table:
    """A tidy table: one observation a row.

    `key` names the columns that tell the rows apart. `columns` says what further columns mean;
    `more` names those whose meaning all experiments share (`viz/glossary.py`). A name that ends
    in `?` is of a column that is only there where it applies.
    """

    about: str
    """What a row is, a full sentence."""
    key: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    more: str = ""

    @classmethod
    def of(
        cls, explained: Mapping[str, str], /, about: str, key: str, more: str = "", **own: str
    ) -> "Table":
        """A table whose columns `own` explains, or `explained` for several, or the glossary."""
        names = [name for name in f"{key} {more}".split() if name.rstrip("?") in explained]
        return cls(about, key, {name: explained[name.rstrip("?")] for name in names} | own, more)

    @property
    def keys(self) -> list[str]:
        """Names of the columns that tell the rows apart."""
        return self.key.replace("?", "").split()

    def meanings(self) -> dict[str, str]:
        """Every declared column with its meaning.

        Raises:
            UsageError: a column is neither explained here nor in the glossary.
        """
        own = {name.rstrip("?"): text for name, text in self.columns.items()}
        shared = [name.rstrip("?") for name in f"{self.key} {self.more}".split()]
        unknown = [name for name in shared if name not in own and name not in GLOSSARY]
        if unknown:
            raise UsageError(
                f"column {unknown[0]!r} is explained nowhere: say what it is in columns= of its "
                "Table, or add it to viz/glossary.py if several experiments have it"
            )
        first = {name: own.get(name) or GLOSSARY[name].about for name in shared}
        return first | own

    def problem(self, name: str, columns: Sequence[str]) -> str:
        """What is wrong with the columns of a table, in one line; nothing if nothing is."""
        declared = f"{self.key} {self.more}".split() + list(self.columns)
        required = [column for column in declared if not column.endswith("?")]
        missing = [column for column in required if column not in columns]
        extra = [column for column in columns if column not in self.meanings()]
        if missing:
            return f"table {name!r} has no column {missing[0]!r}, which its Table declares"
        if extra:
            return f"table {name!r} has a column {extra[0]!r} that its Table does not declare"
        return ""

    def check(self, name: str, frame: pd.DataFrame) -> None:
        """Refuse a table that is not as declared.

        Raises:
            UsageError: a column is missing or too many, holds the wrong kind of value, or two
                rows have the same key.
        """
        if not len(frame.columns):
            return  # nothing was measured, so there are no rows and no columns to check
        if problem := self.problem(name, list(frame.columns)):
            raise UsageError(problem)
        for column in frame.columns:
            own = column in self.columns or f"{column}?" in self.columns
            wanted = GLOSSARY[column].kind if column in GLOSSARY and not own else ""
            if wanted and not _is(wanted, frame[column]):
                raise UsageError(
                    f"table {name!r}, column {column!r}: holds {frame[column].dtype}, "
                    f"expected {wanted}"
                )
        keys = [column for column in self.keys if column in frame.columns]
        if keys and len(frame) <= MOST_KEYS and (same := frame.duplicated(keys)).any():
            row = frame.loc[same.idxmax(), keys].to_dict()
            raise UsageError(
                f"table {name!r}: two rows have the same key {row}; make key= of its Table tell "
                "all rows apart"
            )


def _is(kind: str, column: pd.Series) -> bool:
    """Whether a column holds whole numbers, numbers, words or truth values, gaps aside."""
    known = column.dropna()
    inferred = pd.api.types.infer_dtype(known, skipna=True)
    allowed = {
        "whole": {"integer", "integer-na"},
        "number": {"integer", "integer-na", "floating", "mixed-integer-float"},
        "text": {"string", "categorical"},
        "yes or no": {"boolean"},
    }
    return inferred in allowed[kind] | {"empty"} or not len(known)


def check_tables(declared: Mapping[str, Table], given: Mapping[str, object]) -> None:
    """Refuse results whose tables are not those that the experiment declares.

    Raises:
        UsageError: a table is missing or was never declared.
    """
    missing, extra = declared.keys() - given.keys(), given.keys() - declared.keys()
    if extra:
        name = sorted(extra)[0]
        raise UsageError(f"table {name!r} is not declared: add it to `tables` of the experiment")
    if missing:
        raise UsageError(f"table {sorted(missing)[0]!r} is declared, but `measure` did not give it")
