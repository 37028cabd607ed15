"""The page that sets runs side by side: fields, claims in one forest, pictures, differences."""

import hmac
import io
import json
import secrets
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from platformdirs import user_cache_path

from viz.assets import STYLES, place
from viz.evidence import claim_key, is_check
from viz.files import write_atomically
from viz.glossary import axis_name
from viz.html import moment, write_html
from viz.labels import label, script_json
from viz.manifests import ManifestError, checked_bytes
from viz.page import said

MOST_ROWS = 1_500
"""Of a table whose differences are drawn."""
_NUMBERS = ("estimate", "low", "high", "n", "verdict", "null", "threshold", "unit")


def write_compare(runs: Path, found: list[tuple[Path, dict[str, Any]]]) -> Path:
    """Write `compare.html`, and what it needs of every finished run; returns the page's path.

    A page opened from disk can read no JSON of others, but it can load scripts. They are written
    here from the runs' manifests and tables, as data: nothing that a run's folder says is run.
    """
    store = runs / "assets" / "runs"
    place(runs / "assets", [*STYLES, "page.js", "compare.js"])
    if store.is_symlink():
        store.unlink()
    store.mkdir(exist_ok=True)
    files = {}
    for folder, manifest in found:
        if manifest["status"] == "finished":
            try:
                name = _stored(store, runs, folder, manifest)
            except (ManifestError, OSError, ValueError, KeyError) as error:
                print(f"not compared: {error}", file=sys.stderr, flush=True)
                continue
            files[folder.relative_to(runs).as_posix()] = name
    for old in set(store.glob("*.js")) - {store / name for name in files.values()}:
        old.unlink(missing_ok=True)  # another process may be at it too
    return write_html(
        runs / "compare.html",
        "compare.html.j2",
        files=files,
        styles=STYLES,
        scripts=["compare.js"],
    )


def _stored(store: Path, runs: Path, folder: Path, manifest: Mapping[str, Any]) -> str:
    """The name of a run's script, written where this very run has none yet.

    Nobody else can tell the name in advance: a script that came with someone's runs is never taken
    for one of ours.
    """
    about = json.dumps([folder.name, manifest.get("finished"), manifest.get("files", {})])
    path = store / f"{hmac.digest(_secret(), about.encode(), 'sha256').hex()[:20]}.js"
    if not path.exists():
        told = _told(folder.relative_to(runs).as_posix(), folder, manifest)
        write_atomically(path, f"carrylens.run({script_json(told)});\n".encode())
    return path.name


@cache
def _secret() -> bytes:
    """Sixteen bytes that only this user has; of one process only, where they cannot be kept."""
    path = user_cache_path("carrylens") / "names.key"
    try:
        if not path.is_file():
            write_atomically(path, secrets.token_bytes(16))
            path.chmod(0o600)
        return path.read_bytes()
    except OSError:
        return secrets.token_bytes(16)


def _told(where: str, folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a run; text is made harmless here."""
    claims = enumerate(manifest["claims"], 1)
    return {
        "where": where,
        "experiment": manifest["experiment"],
        "question": label(manifest["question"]),
        "model": label(manifest["model"]["name"] or "no model"),
        "label": label(manifest.get("label", "")),
        "headline": label(manifest.get("headline", "")),
        "when": moment(manifest["started"]),
        "fields": {name: label(said(value)) for name, value in manifest["fields"].items()},
        "claims": [_claim(number, claim) for number, claim in claims if not is_check(claim)],
        "figures": [_figure(folder, slug) for slug in manifest["figures"]],
        "tables": _tables(folder, manifest["tables"], manifest.get("files", {})),
    }


def _claim(number: int, claim: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: claim.get(name) for name in _NUMBERS}
    sentence = label(claim["sentence"])
    return shown | {"key": label(claim_key(claim)), "sentence": sentence, "id": f"claim-{number}"}


def _figure(folder: Path, slug: str) -> dict[str, Any]:
    told = json.loads((folder / "figures" / slug / "figure.json").read_text("utf-8"))
    title = label(told["title"])
    return {"slug": slug, "title": title, "width": told["width"], "height": told["height"]}


def _tables(
    folder: Path, tables: list[Mapping[str, Any]], files: Mapping[str, Any]
) -> dict[str, Any]:
    """Short tables with a key and a number, column by column."""
    short = [t for t in tables if t.get("key") and 0 < t["rows"] <= MOST_ROWS]
    found = {t["name"]: _columns(_content(folder, t["parquet"], files), t["key"]) for t in short}
    return {name: table for name, table in found.items() if table["values"]}


def _content(folder: Path, name: str, files: Mapping[str, Any]) -> bytes:
    """A table's bytes, compared with the hash that a finished run has of them."""
    return checked_bytes(folder, name, files) if files else (folder / name).read_bytes()


def _columns(content: bytes, key: list[str]) -> dict[str, Any]:
    frame = pq.read_table(io.BytesIO(content)).to_pandas()
    names = [name for name in frame if name not in key and frame[name].dtype.kind in "iuf"]
    return {
        "key": [axis_name(name) for name in key],
        "rows": [
            [label(str(value)) for value in row] for row in frame[key].itertuples(index=False)
        ],
        "values": {axis_name(name): _numbers(frame[name]) for name in names},
    }


def _numbers(column: pd.Series) -> list[float | None]:
    """Six digits, and nothing where a value is not finite."""
    values = column.astype(float)
    return [float(f"{value:.6g}") if abs(value) < float("inf") else None for value in values]
