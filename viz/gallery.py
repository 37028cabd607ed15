"""The gallery: every run with its question, answer and picture on one page."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from viz.assets import STYLES, place
from viz.compare import write_compare
from viz.evidence import VERDICTS, count_verdicts
from viz.files import sweep
from viz.html import duration, moment, write_html
from viz.labels import shorten
from viz.manifests import ManifestError, changed_fields, read_manifest, status_of
from viz.matrix import write_matrix
from viz.page import said

STATUSES = ("running", "stopped", "failed", "interrupted")
"""Of runs that are not finished."""


def write_gallery(runs: Path) -> Path:
    """Write `index.html` of a folder of runs from their manifests alone; returns its path.

    Folders without a readable manifest are left out, and named on stderr.
    """
    sweep(runs)
    found = list(manifests(runs))
    write_matrix(runs, found)
    write_compare(runs, found)
    rows = [_row(runs, folder, manifest) for folder, manifest in found]
    rows.sort(key=lambda row: row["started"], reverse=True)
    done = [row for row in rows if row["status"] == "finished"]
    outcomes = {verdict for row in rows for verdict in row["verdicts"]}
    place(runs / "assets", [*STYLES, "page.js", "gallery.js"])
    return write_html(
        runs / "index.html",
        "gallery.html.j2",
        total=len(rows),
        groups=_groups(done),
        unfinished=[row for row in rows if row["status"] != "finished"],
        experiments=sorted({row["experiment"] for row in rows}),
        models=sorted({row["model"] for row in rows if row["model"]}),
        verdicts=[v for v in (*VERDICTS, *STATUSES) if v in outcomes],
        changed=sorted({name for row in rows for name in row["changed_names"]}),
        styles=STYLES,
        scripts=["gallery.js"],
    )


def _groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs that ask the same question, in order of the newest of each."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["experiment"], []).append(row)
    return [
        {"experiment": name, "question": members[0]["question"], "runs": members}
        for name, members in groups.items()
    ]


def manifests(runs: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every run's folder with its manifest; what cannot be read is named on stderr."""
    for path in sorted(runs.glob("[!.]*/[!.]*/manifest.json")):
        try:
            yield path.parent, read_manifest(path.parent)
        except ManifestError as error:
            print(f"left out: {error}", file=sys.stderr, flush=True)


def _row(runs: Path, folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    where, status = folder.relative_to(runs).as_posix(), status_of(folder, manifest)
    counts = count_verdicts(manifest["claims"])
    found = [verdict for verdict, count in counts.items() if count]
    changed = changed_fields(manifest)
    told = " · ".join(f"{name} = {_brief(value)}" for name, value in changed.items())
    sentences = [claim["sentence"] for claim in manifest["claims"]]
    words = [manifest[name] for name in ("question", "experiment")]
    words += [
        manifest["model"]["name"],
        manifest.get("headline", ""),
        manifest.get("label", ""),
        told,
    ]
    picture = f"{where}/figures/{manifest['figures'][0]}/thumb.png" if manifest["figures"] else ""
    return {
        "where": where,
        "label": manifest.get("label", ""),
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
        "changed": told,
        "changed_names": [*changed],
        "text": " ".join([*words, *sentences]),
    }


def _brief(value: Any) -> str:
    """A field's value in a few words: of a long list, how long it is."""
    if isinstance(value, list) and len(said(value)) > 60:
        return f"{len(value)} values"
    return shorten(said(value), 60)
