"""Questions asked of transformers: one file is one experiment, and the file's stem is its name.

Importing this costs nothing: `list` and `--help` are answered from the source of an experiment.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments._contract.errors import UsageError

if TYPE_CHECKING:
    from experiments._contract.claims import Claim, Estimate, corrected, percent
    from experiments._contract.experiment import Experiment, Results, TextFile, TextStudy
    from experiments._contract.reading import Reading
    from experiments._contract.rows import Rows
    from experiments._contract.tables import Table
    from experiments._runs.imported_patching import import_patching
    from experiments._runs.opened import Run, open_run, run

_HOME = {
    "Claim": "_contract.claims",
    "Estimate": "_contract.claims",
    "Experiment": "_contract.experiment",
    "Reading": "_contract.reading",
    "Results": "_contract.experiment",
    "Rows": "_contract.rows",
    "Run": "_runs.opened",
    "Table": "_contract.tables",
    "TextStudy": "_contract.experiment",
    "TextFile": "_contract.experiment",
    "corrected": "_contract.claims",
    "import_patching": "_runs.imported_patching",
    "open_run": "_runs.opened",
    "percent": "_contract.claims",
    "run": "_runs.opened",
}

__all__ = [
    "Claim",
    "Estimate",
    "Experiment",
    "Reading",
    "Results",
    "Rows",
    "Run",
    "Table",
    "TextFile",
    "TextStudy",
    "UsageError",
    "corrected",
    "import_patching",
    "open_run",
    "percent",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what needs pandas and pydantic when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"experiments.{_HOME[name]}"), name)
