"""The gallery: every run with its question, answer and picture on one page."""

import json
from pathlib import Path
from typing import Any

from viz.assets import place
from viz.evidence import VERDICTS, count_verdicts
from viz.html import duration, moment, write_html
from viz.labels import shorten
from viz.page import said

_STYLES = ["pico.min.css", "page.css"]


def write_gallery(runs: Path) -> Path:
    """Write `index.html` of a folder of runs from their manifests alone; returns its path."""
    manifests = sorted(runs.glob("*/*/manifest.json"))
    rows = [_row(runs, path.parent, json.loads(path.read_text("utf-8"))) for path in manifests]
    rows.sort(key=lambda row: row["started"], reverse=True)
    found = {verdict for row in rows for verdict in row["verdicts"]}
    place(runs / "assets", [*_STYLES, "page.js", "gallery.js"])
    return write_html(
        runs / "index.html",
        "gallery.html.j2",
        runs=rows,
        experiments=sorted({row["experiment"] for row in rows}),
        models=sorted({row["model"] for row in rows if row["model"]}),
        verdicts=[v for v in (*VERDICTS, "running", "failed", "interrupted") if v in found],
        styles=_STYLES,
        scripts=["gallery.js"],
    )


def _row(runs: Path, folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    where, status = folder.relative_to(runs).as_posix(), manifest["status"]
    counts = count_verdicts(manifest["claims"])
    found = [verdict for verdict, count in counts.items() if count]
    changed = _changed(manifest)
    sentences = [claim["sentence"] for claim in manifest["claims"]]
    words = [manifest[name] for name in ("question", "experiment")]
    words += [manifest["model"]["name"], manifest.get("headline", ""), changed]
    picture = f"{where}/figures/{manifest['figures'][0]}/thumb.png" if manifest["figures"] else ""
    return {
        "question": manifest["question"],
        "experiment": manifest["experiment"],
        "model": manifest["model"]["name"],
        "status": status,
        "headline": manifest.get("headline", ""),
        "counts": counts,
        "verdicts": [*found, *([status] if status != "finished" else [])],
        "started": manifest["started"],
        "when": moment(manifest["started"]),
        "seconds": manifest.get("seconds", 0),
        "took": duration(manifest["seconds"]) if manifest.get("seconds") else "",
        "page": f"{where}/index.html" if (folder / "index.html").exists() else "",
        "thumb": picture,
        "changed": changed,
        "text": " ".join([*words, *sentences]),
    }


def _changed(manifest: dict[str, Any]) -> str:
    """The fields that differ from their defaults; the model has a column of its own."""
    defaults = manifest["defaults"]
    told = [
        f"{name} = {_brief(value)}"
        for name, value in manifest["fields"].items()
        if value != defaults.get(name) and name != "model"
    ]
    return " · ".join(told)


def _brief(value: Any) -> str:
    """A field's value in a few words: of a long list, how long it is."""
    if isinstance(value, list) and len(said(value)) > 60:
        return f"{len(value)} values"
    return shorten(said(value), 60)
