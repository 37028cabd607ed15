"""The page of one run: its question, the answer, the figures, and how to repeat it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from viz.assets import place
from viz.html import duration, moment, write_html
from viz.labels import label

if TYPE_CHECKING:
    import pandas as pd

MOST_HEAVY = 12
"""Interactive figures on one page; more would make it slow to scroll."""

_PREVIEW_ROWS = 300

KINDS = {
    "identity": "Holds in any model, by algebra: a check of the measurement.",
    "mechanical": "Follows in part from shapes and scales: what counts is the difference from "
    "the null and from random weights.",
    "learned": "Must not hold with random weights, and must hold on a planted control.",
}


def write_page(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Write `index.html` of a run, and `assets/` beside it; returns the page's path.

    Reads `figures/*/figure.json` and the first rows of `tables/`; everything else comes from
    the manifest, which need not be on disk yet. Works for runs in any status.
    """
    figures = _figures(folder, manifest["figures"])
    tables = [_table(folder, table) for table in manifest["tables"]]
    styles = ["pico.min.css", *(["tabulator.min.css"] if tables else []), "page.css"]
    scripts = ["tabulator.min.js"] if tables else []
    libraries = {figure["library"] for figure in figures if figure["interactive"]}
    needed = [*styles, "page.js", *scripts, *sorted(f"{name}.js" for name in libraries)]
    at_home = folder.parent.name == manifest["experiment"]
    place(folder / "assets", needed, folder.parents[1] / "assets" if at_home else None)
    return write_html(
        folder / "index.html",
        "page.html.j2",
        wasm="circuitsvis" in libraries,
        run=manifest,
        figures=figures,
        tables=tables,
        fields=_fields(manifest),
        facts=_facts(manifest),
        kinds=KINDS,
        most_heavy=MOST_HEAVY,
        styles=styles,
        scripts=scripts,
    )


def _figures(folder: Path, slugs: list[str]) -> list[dict[str, Any]]:
    figures, heavy = [], 0
    for slug in slugs:
        figure = json.loads((folder / "figures" / slug / "figure.json").read_text("utf-8"))
        heavy += figure["library"] is not None
        within = heavy <= MOST_HEAVY
        has_widget = figure["library"] is not None
        state = {"interactive": has_widget and within, "over_limit": has_widget and not within}
        figures.append(figure | {"slug": slug} | state)
    return figures


def _table(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / table["parquet"]) as file:
        first = next(file.iter_batches(_PREVIEW_ROWS), None)
    frame = first.to_pandas() if first is not None else None
    rows = [] if frame is None else _cells(frame)
    columns = [{"name": label(name), "number": _numeric(frame, name)} for name in table["columns"]]
    return {**table, "shown": len(rows), "preview": {"columns": columns, "rows": rows}}


def _numeric(frame: "pd.DataFrame | None", name: str) -> bool:
    return frame is not None and frame[name].dtype.kind in "iuf"


def _cells(frame: "pd.DataFrame") -> list[list[Any]]:
    """Rows of JSON values: labels for text, floats of five digits, null where undefined."""
    return [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]


def _cell(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return label(value)
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) != float("inf") else str(value)
    return value if isinstance(value, int) else label(str(value))


def _fields(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    defaults, helps = manifest["defaults"], manifest["field_help"]
    return [
        {
            "name": name,
            "value": said(value),
            "default": said(defaults.get(name)),
            "changed": value != defaults.get(name),
            "help": helps.get(name, ""),
        }
        for name, value in manifest["fields"].items()
    ]


def said(value: Any) -> str:
    """A field's value in words: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, git = manifest["model"], manifest["git"]
    versions = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    memory = manifest.get("peak_memory_bytes")
    facts = [
        ("Model", model["name"]),
        ("Source", said(model["source"])),
        ("Licence", model["licence"]),
        ("Note", said(model["notes"])),
        ("SHA-256 of the weights", model["sha256"]),
        ("Device", manifest.get("device") or ""),
        ("Seeds", ", ".join(map(str, manifest["seeds"]))),
        ("Started", moment(manifest["started"])),
        ("Took", duration(manifest["seconds"]) if manifest.get("seconds") else ""),
        ("Peak memory", f"{memory / 2**20:,.0f} MiB" if memory else ""),
        ("Commit", (git["commit"] or "") + (" (with local changes)" if git["dirty"] else "")),
        ("Versions", versions),
        ("Run", manifest["hash"]),
    ]
    return [(name, fact) for name, fact in facts if fact]
