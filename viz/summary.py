"""A run as a piece of HTML for a notebook: the answer, the evidence, the first figure."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from viz.evidence import evidence
from viz.html import filled


def run_html(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The headline, every claim with its numbers, and the hero; no scripts, no network.

    A notebook shows it wherever the run's folder has gone since: the picture is inside.
    """
    return filled(
        "run.html.j2",
        run=manifest,
        folder=folder,
        answer=evidence(manifest["claims"]),
        hero=_hero(folder, manifest["figures"]),
    )


def _hero(folder: Path, slugs: list[str]) -> dict[str, str] | None:
    picture = folder / "figures" / slugs[0] / "figure.png" if slugs else None
    if picture is None or not picture.is_file():
        return None
    told = json.loads((picture.parent / "figure.json").read_text("utf-8"))
    data = b64encode(picture.read_bytes()).decode()
    return {
        "title": told["title"],
        "caption": told["caption"],
        "alt": told["alt"],
        "source": f"data:image/png;base64,{data}",
        "width": told["width"],
    }
