"""What a run says of itself: its manifest, its identity, and whether its files are still true."""

import hashlib
import inspect
import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.files import sha256
from experiments._runs.finding import FOREIGN
from experiments._runs.sources import source_hash
from experiments._runs.store import read_manifest
from models.card import find_card
from models.fetch import weights_sha256

if TYPE_CHECKING:
    from models import Model

PACKAGES = ("torch", "transformer-lens", "transformers", "numpy", "pandas", "scipy", "circuitsvis")
SCRATCH = "unfinished"


def run_hash(experiment: Experiment) -> str:
    """Eight hexadecimal digits of experiment, code, fields, files they name, and weights.

    The code is every file of the project that the experiment imports, and the data they read.
    """
    model = _identity(experiment.model) if experiment.needs_model else []
    code = source_hash(Path(sys.modules[type(experiment).__module__].__file__))
    files = {k: sha256(v) for k, v in experiment.model_dump().items() if isinstance(v, Path)}
    what = [experiment.name(), code, experiment.model_dump(mode="json"), files, model]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _identity(name: str) -> list[Any]:
    """What of a card decides the numbers: its weights, its shape, how it writes additions."""
    card = find_card(name)
    return [weights_sha256(card), card.model_dump(mode="json", include={"config", "arithmetic"})]


def command(experiment: Experiment) -> str:
    """The command line that repeats a run."""
    words = ["python", "-m", "experiments", "run", _source(type(experiment))]
    for name, value in experiment.changed().items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def first_manifest(experiment: Experiment, digest: str) -> dict[str, Any]:
    """The manifest of a run that begins."""
    kind = type(experiment)
    fields = kind.model_fields
    defaults = {
        name: field.get_default(call_default_factory=True) for name, field in fields.items()
    }
    return {
        "status": "running",
        "experiment": experiment.name(),
        "source": _source(kind),
        "question": experiment.question(),
        "method": inspect.cleandoc(kind.__doc__ or ""),
        "headline": "",
        "reading": kind.reading.lines() if hasattr(kind, "reading") else {},
        "hash": digest,
        "fields": experiment.model_dump(mode="json"),
        "defaults": json.loads(json.dumps(defaults)),
        "field_help": {name: field.description or "" for name, field in fields.items()},
        "command": command(experiment),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES},
        "git": _git(),
        "seeds": [experiment.seed],
        "started": now(),
        "claims": [],
        "figures": [],
        "tables": [],
        "model": model_facts(None) | {"name": experiment.model if experiment.needs_model else ""},
    }


def _source(kind: type[Experiment]) -> str:
    """What `run` is given: a registered experiment's name, or the path of a file."""
    foreign = kind.__module__.startswith(f"{FOREIGN}.")
    return sys.modules[kind.__module__].__file__ if foreign else kind.name()


def model_facts(model: "Model | None") -> dict[str, Any]:
    """What a page says of the model: its card, its weights, and the identities it passed."""
    if model is None:
        return dict.fromkeys(("name", "source", "licence", "notes", "sha256"), "") | {
            "identities": []
        }
    card = model.card
    return {
        "name": card.name,
        "source": card.source,
        "licence": card.licence,
        "notes": "; ".join(note for note in (card.notes, card.weights_note) if note),
        "sha256": weights_sha256(card),
        "identities": [identity.model_dump() for identity in model.identities],
    }


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file of a run but the manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = [p for p in files if p.name not in ("manifest.json", ".lock")]
    kept = [p for p in kept if SCRATCH not in p.relative_to(folder).parts]
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in kept
    }


def _git() -> dict[str, Any]:
    here = Path(__file__).parent

    def ask(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    status = ask("status", "--porcelain")
    return {"commit": ask("rev-parse", "HEAD") or "", "dirty": bool(status)}


def manifest_of(folder: Path) -> dict[str, Any]:
    """A run's manifest.

    Raises:
        UsageError: the folder is no run.
    """
    try:
        return read_manifest(folder)
    except FileNotFoundError:
        raise UsageError(f"{folder}: no run here (no manifest.json)") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{folder}/manifest.json: damaged: {error}") from None


def verify(folder: Path) -> list[str]:
    """What differs between a finished run's files and its manifest; empty if nothing does."""
    stated, actual = manifest_of(folder).get("files", {}), files_of(folder)
    if not stated:
        return [f"{folder}: the manifest lists no files; the run is not finished"]
    missing = [f"{folder / name}: missing" for name in sorted(stated.keys() - actual.keys())]
    added = [f"{folder / name}: not in the manifest" for name in sorted(actual.keys() - stated)]
    both = sorted(stated.keys() & actual.keys())
    return missing + added + [f"{folder / n}: changed" for n in both if stated[n] != actual[n]]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
