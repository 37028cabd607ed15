"""The page of one run: its question, the answer, the figures, and how to repeat it."""

import json
import re
from collections.abc import Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from viz.assets import place
from viz.beside import beside
from viz.citation import bibtex, methods
from viz.evidence import KINDS, evidence
from viz.files import remove, written_aside
from viz.glossary import axis_name
from viz.html import duration, moment, write_html
from viz.labels import label, script_json

HEAVY = {"circuitsvis", "plotly"}
"""Libraries that are loaded when a figure of theirs comes near, not with the page."""

MOST_HEAVY = 12
"""Interactive figures on one page; more would make it slow to scroll."""

MOST_FIGURES = 8
"""Figures that are seen at once; the others stand behind "More figures"."""
MOST_ROWS = 100_000
"""Of a table that a page can show whole."""

_PREVIEW_ROWS = 300
_LARGER, _LOWEST, _HIGHEST, _ROOMY = 1.6, 520, 608, 800
"""The first picture of a page, as page.css has it: how much larger it stands on a desk, between
which heights, and below which width it leaves a third of the page empty, in pixels."""
_ROWS_AT_ONCE = 2_000
"""Rows of a page's table in memory while they are written."""

_READING = {
    "causal": "Is it causal?",
    "assumes": "It assumes",
    "stressed": "Put to the test here",
    "not_shown": "It does not show",
}
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z“(])")
_MARKED = re.compile(r"``(?P<code2>[^`]+)``|`(?P<code>[^`]+)`|\*(?P<em>[^*\s][^*]*)\*")


def write_page(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Write `index.html` of a run, and `assets/` beside it; returns the page's path.

    Reads `figures/*/figure.json` and the first rows of `tables/`; everything else comes from
    the manifest, which need not be on disk yet. Works for runs in any status.
    """
    figures = _figures(folder, manifest["figures"])
    remove(folder / "rows")
    tables = [_table(folder, table) for table in manifest["tables"]]
    styles = ["pico.min.css", *(["tabulator.min.css"] if tables else []), "page.css"]
    scripts = ["tabulator.min.js"] if tables else []
    libraries = {figure["library"] for figure in figures if figure["interactive"]}
    scripts += sorted(f"{name}.js" for name in libraries - HEAVY)
    needed = [*styles, "page.js", *scripts, *sorted(f"{name}.js" for name in libraries & HEAVY)]
    answer = evidence(manifest["claims"])
    at_home = folder.parent.name == manifest["experiment"]
    place(folder / "assets", needed, folder.parents[1] / "assets" if at_home else None)
    return write_html(
        folder / "index.html",
        "page.html.j2",
        wasm="circuitsvis" in libraries,
        run=manifest,
        headline=first_sentence(manifest.get("headline", "")),
        answer=answer,
        shown_beside=[row for group in answer["groups"] for row in group["rows"]],
        provenance=_provenance(manifest),
        related=_related(folder, manifest),
        reading=_reading(manifest.get("reading") or {}),
        method=paragraphs(manifest.get("method") or ""),
        hero=figures[0] if figures else None,
        figures=figures[1:MOST_FIGURES],
        more_figures=figures[MOST_FIGURES:],
        tables=tables,
        fields=_fields(manifest),
        facts=_facts(manifest),
        citation=bibtex(manifest),
        methods=methods(manifest),
        kinds=KINDS,
        most_heavy=MOST_HEAVY,
        styles=styles,
        scripts=scripts,
    )


def _related(folder: Path, manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """What related experiments answered about the same model, and where."""
    return [
        {
            "experiment": run["experiment"],
            "answer": first_sentence(run["headline"])[0],
            "at": at,
        }
        for at, run in beside(folder, manifest)
    ]


def first_sentence(text: str) -> tuple[str, str]:
    """A text as its first sentence and all that follows."""
    first, *rest = _END.split(text, maxsplit=1)
    return first, " ".join(rest)


def _provenance(manifest: Mapping[str, Any]) -> str:
    """Model, how much was measured, and how long it took, on one line."""
    prompts = next((t["rows"] for t in manifest["tables"] if t["name"] == "prompts"), 0)
    most = max((claim["n"] for claim in manifest["claims"]), default=0)
    much = f"{prompts:,} prompts" if prompts else f"claims on up to {most:,} cases" if most else ""
    took = f"measured in {duration(manifest['seconds'])}" if manifest.get("seconds") else ""
    return " · ".join(filter(None, [manifest["model"]["name"], much, took]))


def _reading(reading: Mapping[str, str]) -> list[tuple[str, str]]:
    said = {name: text for name, text in reading.items() if text}
    return [(words, _sentence(said[name])) for name, words in _READING.items() if name in said]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def paragraphs(text: str) -> list[list[tuple[str, str]]]:
    """Plain text as paragraphs of (kind, words); kinds are text, em (`*so*`) and code."""
    blocks = re.split(r"\n\s*\n", cleandoc(text)) if text.strip() else []
    return [_spans(" ".join(block.split())) for block in blocks]


def _spans(text: str) -> list[tuple[str, str]]:
    spans, end = [], 0
    for mark in _MARKED.finditer(text):
        kind = "em" if mark["em"] else "code"
        spans += [("text", text[end : mark.start()]), (kind, mark[mark.lastgroup])]
        end = mark.end()
    return [(kind, words) for kind, words in [*spans, ("text", text[end:])] if words]


def _figures(folder: Path, slugs: list[str]) -> list[dict[str, Any]]:
    figures, heavy = [], 0
    for index, slug in enumerate(slugs):
        told = json.loads((folder / "figures" / slug / "figure.json").read_text("utf-8"))
        has_widget = told["library"] is not None
        heavy += has_widget
        within = heavy <= MOST_HEAVY
        state = {"interactive": has_widget and within, "over_limit": has_widget and not within}
        older = {"legend": None, "heading": "", "on_white": False}
        state |= {"slug": slug, "id": f"widget-{index}", "narrow": _is_narrow(told)}
        figures.append(older | told | state)
    return figures


def _is_narrow(figure: Mapping[str, Any]) -> bool:
    """Whether a figure, as the first of a page, leaves a third of a desk's width empty."""
    if figure["library"] is not None:
        return figure["library"] == "plotly"
    wide, high = figure["width"], figure["height"]
    shown = min(max(high, _LOWEST), _HIGHEST)
    return min(_LARGER * wide, shown * wide / high) < _ROOMY


def _table(folder: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    with _opened(folder, table) as file:
        first = next(file.iter_batches(_PREVIEW_ROWS), None)
    frame = first.to_pandas() if first is not None else None
    rows = [] if frame is None else _cells(frame)
    meanings = table.get("dictionary") or {}
    columns = [_column(frame, name, meanings.get(name, "")) for name in table["columns"]]
    whole = len(rows) < table["rows"] <= MOST_ROWS
    script = _write_rows(folder, table) if whole else ""
    known = {"about": "", **table, "shown": len(rows), "explained": bool(meanings)}
    known |= {"script": script}
    return known | {"columns": columns, "preview": {"columns": columns, "rows": rows}}


def _write_rows(folder: Path, table: Mapping[str, Any]) -> str:
    """Every row of a table as a script, which a page opened from disk can load; its path."""
    path = folder / "rows" / f"{table['name']}.js"
    path.parent.mkdir(exist_ok=True)
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as script:
        script.write(f"carrylens.rows({script_json(table['name'])},[")
        with _opened(folder, table) as file:
            for number, group in enumerate(file.iter_batches(_ROWS_AT_ONCE)):
                rows = script_json(_cells(group.to_pandas()))
                script.write("," * (number > 0) + rows[1:-1])
        script.write("]);\n")
    return f"rows/{path.name}"


def _opened(folder: Path, table: Mapping[str, Any]) -> pq.ParquetFile:
    """A table's file, of which no more is read than is asked for."""
    path = folder / table["parquet"]
    return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)


def _column(frame: pd.DataFrame | None, name: str, about: str) -> dict[str, Any]:
    """A column's name in words and as it is, what it means, and how its cells are written."""
    kind = "" if frame is None else frame[name].dtype.kind
    words = axis_name(name)
    return {
        "name": label(name),
        "words": label(words if words != name else ""),
        "about": label(about),
        "number": kind in ("i", "u", "f"),
        "float": kind == "f",
    }


def _cells(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows of JSON values: labels for text, floats of seven digits, null where undefined."""
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
        return float(f"{value:.7g}") if abs(value) != float("inf") else str(value)
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
        ("Rows of attention sum to", model.get("attention_rows", "")),
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
