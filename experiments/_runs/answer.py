"""A run's answer as lines of text: the headline, each claim with its numbers, the page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


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


def _numbers(claim: Mapping[str, Any]) -> str:
    if claim["estimate"] is None:
        return ""
    ends = ""
    if claim["low"] is not None:
        ends = f" [{claim['low']:.3g}, {claim['high']:.3g}]"
    return f"  {claim['estimate']:.3g}{ends}, n = {claim['n']:,}"
