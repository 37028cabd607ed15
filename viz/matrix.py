"""The matrix: each claim of an experiment beside the models it was tested on."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from viz.assets import STYLES, place
from viz.evidence import claim_key, evidence
from viz.html import write_html
from viz.labels import shorten
from viz.manifests import changed_fields

Found = list[tuple[Path, dict[str, Any]]]
LONGEST = 400
"""Letters of a question, a model's name or a claim that are shown; its page shows all of them."""


def write_matrix(runs: Path, found: Found) -> Path:
    """Write `matrix.html`: a table for each experiment, from finished runs; returns its path.

    Rows are claims about the model, columns the models; of several runs of a model the newest
    counts, at its default sizes where there is such a run.
    """
    place(runs / "assets", [*STYLES, "page.js"])
    tables = [_table(runs, name, members) for name, members in _by_experiment(found).items()]
    return write_html(
        runs / "matrix.html",
        "matrix.html.j2",
        tables=[table for table in tables if table["rows"]],
        styles=STYLES,
        scripts=[],
    )


def _by_experiment(found: Found) -> dict[str, Found]:
    done = [(folder, told) for folder, told in found if told["status"] == "finished"]
    names = sorted({told["experiment"] for _, told in done})
    return {name: [run for run in done if run[1]["experiment"] == name] for name in names}


def _table(runs: Path, experiment: str, members: Found) -> dict[str, Any]:
    """The runs that stand for their models, and each claim with its cell for each of them."""
    shown: dict[str, tuple[Path, dict[str, Any]]] = {}
    for run in sorted(members, key=_preference):
        shown[run[1]["model"]["name"]] = run
    columns = [
        {
            "model": shorten(model, LONGEST) or "no model",
            "page": f"{folder.relative_to(runs).as_posix()}/index.html",
            "reduced": list(changed_fields(told)),
        }
        for model, (folder, told) in shown.items()
    ]
    cells = [_cells(told["claims"]) for _, told in shown.values()]
    keys = dict.fromkeys(key for column in cells for key in column)
    rows = [
        {"sentence": shorten(_first(column.get(key) for column in cells)["sentence"], LONGEST),
         "cells": [column.get(key) for column in cells]}
        for key in keys
    ]  # fmt: skip
    question = shorten(next(iter(shown.values()))[1]["question"], LONGEST)
    return {"experiment": experiment, "question": question, "columns": columns, "rows": rows}


def _preference(run: tuple[Path, Mapping[str, Any]]) -> tuple[bool, str]:
    """Later in this order is preferred: default sizes, then the newest."""
    return not changed_fields(run[1]), run[1]["started"]


def _cells(claims: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Claims about the model by what makes them the same elsewhere."""
    told = evidence(claims)
    about = [claim for group in told["groups"] for claim in group["rows"]]
    about += [claim for group in told["not_tested"] for claim in group["claims"]]
    return {claim_key(claim): claim for claim in about}


def _first(cells: Iterable[dict[str, Any] | None]) -> dict[str, Any]:
    return next(cell for cell in cells if cell)
