"""Templates into pages that open from disk, run only their own scripts, and ask no network."""

import re
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from viz.evidence import counted
from viz.files import write_atomically
from viz.labels import label, number, probability, script_json

# Styles may stand in the page: the drawing libraries set them from script. `file:` is what
# 'self' would be where a page opened from disk has no origin.
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'{wasm}; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; base-uri 'none'; form-action 'none'"
)
_OPTION = re.compile(r"--[a-z][a-z-]*")


def write_html(path: Path, template: str, *, wasm: bool = False, **values: Any) -> Path:
    """Fill a template and write it; every page gets a nonce of its own.

    `wasm` allows WebAssembly (not `eval`), which circuitsvis compiles for its 64-bit integers.
    """
    nonce = secrets.token_urlsafe(16)
    policy = _POLICY.format(nonce=nonce, wasm=" 'wasm-unsafe-eval'" if wasm else "")
    text = filled(template, nonce=nonce, policy=policy, **values)
    write_atomically(path, text.encode(errors="backslashreplace"))  # halves of characters
    return path


def filled(template: str, **values: Any) -> str:
    """A template with its values, escaped."""
    return _environment().get_template(template).render(**values)


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def moment(iso: str) -> str:
    """An ISO time as date, hour and minute; the manifest keeps times in UTC."""
    return datetime.fromisoformat(iso).strftime("%Y-%m-%d %H:%M UTC")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("viz"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": counted,
        "label": label,
        "number": number,
        "probability": probability,
        "script_json": lambda value: Markup(script_json(value)),  # escaped there
        "unbroken": _unbroken,
    }
    return environment


def _unbroken(text: str) -> Markup:
    """Text in which no line ends between a number and its %, or within an option."""
    whole = str(escape(text.replace(" %", "\N{NO-BREAK SPACE}%")))
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', whole))
