"""How a run is cited: a BibTeX entry, and a sentence for the methods section of a paper."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from viz.evidence import count_verdicts, counted
from viz.manifests import changed_fields

_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "#$%&_{}"} | {"\\": r"\textbackslash{}"})
_LONG = 60
"""Characters of a field's value up to which a sentence gives it."""


def bibtex(manifest: Mapping[str, Any]) -> str:
    """A BibTeX entry of the run, with version, hash and model."""
    model = manifest["model"]["name"]
    about = f"experiment {manifest['experiment']}, run {manifest['hash']}"
    about += f", model {model}" if model else ""
    lines = [
        f"  title = {{{{{_escaped(manifest['question'])}}}}}",
        "  author = {{carrylens}}",
        f"  year = {{{manifest['started'][:4]}}}",
        f"  version = {{{version('carrylens')}}}",
        f"  note = {{{_escaped(about)}}}",
    ]
    return "\n".join([f"@software{{carrylens-{manifest['hash']},", ",\n".join(lines), "}"])


def methods(manifest: Mapping[str, Any]) -> str:
    """What was done, in two or three sentences that can stand in a paper."""
    model = manifest["model"]
    on = f" on {model['name']} (SHA-256 {model['sha256'][:12]}…)" if model["name"] else ""
    said = f"We ran the experiment {manifest['experiment']} of carrylens {version('carrylens')}{on}"
    changed = [f"{name} {_brief(value)}" for name, value in changed_fields(manifest).items()]
    said += f" with {', '.join(changed)}, and" if changed else " with"
    said += f" {'all other' if changed else 'all'} fields at their defaults"
    said += f" (run {manifest['hash']}, seed {manifest['fields'].get('seed', 0)})."
    counts = {v: n for v, n in count_verdicts(manifest["claims"]).items() if n}
    if counts:
        told = ", ".join(counted(verdict, count) for verdict, count in counts.items())
        said += f" Of {sum(counts.values())} claims about the model {told}; intervals are of 95 %"
        corrected = any(claim.get("p") is not None for claim in manifest["claims"])
        said += ", p-values corrected by Benjamini and Hochberg." if corrected else "."
    return said


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"({len(value)} values)"
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _escaped(text: str) -> str:
    """Text in which TeX reads no commands."""
    return "".join(char.translate(_ESCAPED) for char in text if char.isprintable())
