"""A run as lines of text: the headline, each claim with its numbers, the page; or as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from viz import duration, moment


def answer_lines(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows at the end of a run."""
    if manifest.get("headline"):
        yield manifest["headline"]
    yield from manifest.get("notes", [])
    for claim in manifest["claims"]:
        if not claim["check"] or claim["verdict"] != "holds":
            about = f"{claim['label']}: " if claim["label"] else ""
            yield f"{claim['verdict'] or 'found':>10}  {about}{claim['sentence']}{_numbers(claim)}"
            if why := claim["decide"] or claim["needs"]:
                yield f"{'':>10}  {'needs' if claim['needs'] else 'to decide'}: {why}"
    passed = [claim["verdict"] == "holds" for claim in manifest["claims"] if claim["check"]]
    if passed:
        yield f"{'checks':>10}  {sum(passed)} of {len(passed)} pass"
    yield f"Page: {(folder / 'index.html').resolve()}"


def show_lines(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """All of a run that fits a terminal: what was asked, the answer, what was stored."""
    label = f" ({manifest['label']})" if manifest.get("label") else ""
    model = f" on {manifest['model']['name']}" if manifest["model"]["name"] else ""
    took = f", took {duration(manifest['seconds'])}" if manifest.get("seconds") else ""
    yield f"{manifest['experiment']}{model}{label}: {manifest['question']}"
    yield f"{manifest['status']}, of {moment(manifest['started'])}{took}, hash {manifest['hash']}"
    if manifest.get("error"):
        yield f"error: {manifest['error']}"
    yield from answer_lines(folder, manifest)
    for name, value in manifest["fields"].items():
        if value != manifest["defaults"].get(name):
            yield f"{'field':>10}  {name} = {value!r}"
    for table in manifest["tables"]:
        yield f"{'table':>10}  {table['name']}: {table['rows']:,} rows. {table['about']}"
    for title in titles(folder, manifest):
        yield f"{'figure':>10}  {title}"
    yield f"{'again':>10}  {manifest['command']}"


def titles(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The titles of a run's figures, in order."""
    for name in manifest["figures"]:
        yield json.loads((folder / "figures" / name / "figure.json").read_text("utf-8"))["title"]


def as_json(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A run for a program: its manifest but for the list of files, and where it lies."""
    told = {name: value for name, value in manifest.items() if name != "files"}
    whole = folder.resolve()
    return {"folder": str(whole), "page": str(whole / "index.html")} | told


def _numbers(claim: Mapping[str, Any]) -> str:
    if claim["estimate"] is None:
        return ""
    ends = ""
    if claim["low"] is not None:
        ends = f" [{claim['low']:.3g}, {claim['high']:.3g}]"
    return f"  {claim['estimate']:.3g}{ends}, n = {claim['n']:,}"
