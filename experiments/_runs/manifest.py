"""What a run says of itself: its manifest, its identity, and whether its files are still true."""

import hashlib
import inspect
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.files import sha256
from experiments._runs.registry import IMPORTED, installed
from experiments._runs.sources import source_hash
from models.card import Card, find_card
from models.fetch import settings_sha256, weights_sha256
from prompts.given import file_and_column
from viz.files import write_atomically
from viz.manifests import LOCK, SEAL, ManifestError, is_held, read_manifest

if TYPE_CHECKING:
    from models import Model

PACKAGES = ("torch", "transformer-lens", "transformers", "numpy", "pandas", "scipy", "circuitsvis")
SCRATCH = "unfinished"
SUMS = "SHA256SUMS"
OWN = ("manifest.json", LOCK)
"""Files of a run's folder itself that its manifest does not list."""
KINDS = {"link": stat.S_ISLNK, "file": stat.S_ISREG, "folder": stat.S_ISDIR,
         "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}  # fmt: skip
PLAIN = ("file", "folder", "empty folder")


def run_hash(experiment: Experiment, card: Card | None = None) -> str:
    """Eight hexadecimal digits of experiment, code, fields, files they name, and weights.

    The code is every file of the project that the experiment imports, and the data they read.
    `card` is that of a model in memory.
    """
    model = _identity(card or find_card(experiment.model)) if experiment.has_model else []
    code = source_hash(Path(sys.modules[type(experiment).__module__].__file__))
    named = {k: v for k, v in experiment.model_dump().items() if isinstance(v, Path)}
    files = {k: sha256(file_and_column(path)[0]) for k, path in named.items()}
    what = [experiment.name(), code, experiment.model_dump(mode="json"), files, model]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


def _identity(card: Card) -> list[Any]:
    """What of a card decides the numbers: weights, configs, tokenizer, how it writes additions."""
    stated = card.model_dump(mode="json", include={"config", "arithmetic"})
    return [weights_sha256(card), settings_sha256(card), stated]


def command(experiment: Experiment, card: Card | None = None) -> str:
    """The command line that repeats a run; with the `card` of a model in memory, the Python."""
    if type(experiment).name() in IMPORTED:
        return "from experiments import import_patching\n\nimport_patching(result, question=...)"
    if card is not None:
        return _python(experiment)
    words = ["python", "-m", "experiments", "run", source_of(type(experiment))]
    for name, value in experiment.changed().items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


def _python(experiment: Experiment) -> str:
    """What repeats a run of a model that was in memory."""
    kind, of_model = type(experiment), ("model", "device", "dtype", "processing")
    stated = {k: v for k, v in experiment.changed().items() if k not in of_model}
    fields = ", ".join(f"{name}={value!r}" for name, value in stated.items())
    imports = f"from experiments import run\nfrom {kind.__module__} import {kind.__name__}"
    return f"{imports}\n\nrun({kind.__name__}({fields}), model=model)"


def first_manifest(
    experiment: Experiment, digest: str, card: Card | None = None, label: str = ""
) -> dict[str, Any]:
    """The manifest of a run that begins."""
    kind = type(experiment)
    fields = kind.model_fields
    defaults = {
        name: field.get_default(call_default_factory=True) for name, field in fields.items()
    }
    return {
        "status": "running",
        "experiment": experiment.name(),
        "label": label,
        "source": source_of(kind),
        "question": experiment.question(),
        "method": inspect.cleandoc(kind.__doc__ or ""),
        "headline": "",
        "reading": kind.reading.lines() if hasattr(kind, "reading") else {},
        "related": list(kind.related),
        "hash": digest,
        "fields": experiment.model_dump(mode="json"),
        "defaults": json.loads(json.dumps(defaults)),
        "field_help": {name: field.description or "" for name, field in fields.items()},
        "command": command(experiment, card),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in PACKAGES},
        "git": _git(),
        "seeds": [experiment.seed],
        "started": now(),
        "claims": [],
        "figures": [],
        "tables": [],
        "model": model_facts(None) | {"name": experiment.model if experiment.has_model else ""},
    }


def source_of(kind: type[Experiment]) -> str:
    """What `run` is given: a registered experiment's name, or the path of a file."""
    own = (f"experiments.{kind.name()}", f"experiments._runs.{kind.name()}")
    if kind.__module__ in own or kind.name() in installed():
        return kind.name()
    return str(Path(sys.modules[kind.__module__].__file__).resolve())


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
        "sha256": getattr(model, "weights_sha256", None) or weights_sha256(card),
        "attention_rows": "1 less a learned sink" if model.attention_sinks else "1",
        "identities": [identity.model_dump() for identity in model.identities],
    }


def files_of(folder: Path, inside: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file of a run but the manifest, or of those in some folders."""
    names = [name for name, kind in entries(folder) if kind == "file" and name not in OWN]
    wanted = [name for name in names if not inside or name.split("/")[0] in inside]
    return {
        name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(wanted)
    }


def write_sums(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Write what `sha256sum -c SHA256SUMS` reads; returns every file of the run, this one too."""
    listed = {name: dict(facts) for name, facts in files.items() if name != SUMS}
    text = "".join(f"{facts['sha256']}  {name}\n" for name, facts in listed.items())
    write_atomically(folder / SUMS, text.encode())
    facts = {"sha256": sha256(folder / SUMS), "bytes": len(text.encode())}
    return dict(sorted((listed | {SUMS: facts}).items()))


def entries(folder: Path) -> Iterator[tuple[str, str]]:
    """All that lies in a folder, near or far, and what it is; nothing is followed."""
    for top, folders, files in os.walk(folder, onerror=_refuse_unread):
        for name in [*folders, *files]:
            path = Path(top, name)
            mode = path.lstat().st_mode
            kind = next((kind for kind, holds in KINDS.items() if holds(mode)), "device")
            if kind == "folder" and not any(os.scandir(path)):
                kind = "empty folder"
            yield path.relative_to(folder).as_posix(), kind


def _refuse_unread(error: OSError) -> None:
    raise error


def refuse_strange(folder: Path) -> None:
    """Refuse a run's folder in which a link or a pipe lies: it would be read or written through.

    Raises:
        UsageError: there is one.
    """
    for name, kind in entries(folder):
        if kind not in PLAIN:
            raise UsageError(f"{folder / name}: is a {kind}, and runs hold none; take it away")


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
    if folder.is_file():
        raise UsageError(f"{folder}: is a file; give the folder of a run")
    try:
        return read_manifest(folder)
    except ManifestError as error:
        raise UsageError(str(error)) from None


def verify(folder: Path) -> list[str]:
    """What differs between a finished run's folder and its manifest; empty if nothing does.

    Raises:
        UsageError: there is no run.
    """
    try:
        manifest = manifest_of(folder)
    except UsageError as error:
        if not (folder / "manifest.json").exists():
            raise
        return [str(error)]
    if manifest["status"] != "finished" or not manifest.get("files"):
        return [f"{folder}: the run is not finished ({manifest['status']})"]
    unsealed = [] if SEAL in manifest else [f"{folder}/manifest.json: has no hash of itself"]
    return unsealed + _differences(folder, manifest["files"])


def _differences(folder: Path, stated: dict[str, Any]) -> list[str]:
    there = dict(entries(folder))
    own = OWN if is_held(folder / LOCK) else ("manifest.json",)
    strange = [f"{folder / name}: is a {kind}" for name, kind in there.items() if kind not in PLAIN]
    files = {name for name, kind in there.items() if kind == "file"} - {*own}
    more = files - stated.keys() | {n for n, kind in there.items() if kind == "empty folder"}
    missing = [f"{folder / name}: missing" for name in sorted(stated.keys() - files)]
    added = [f"{folder / name}: not in the manifest" for name in sorted(more)]
    changed = [f"{folder / n}: changed" for n in sorted(stated.keys() & files)
               if _is_other(folder / n, stated[n])]  # fmt: skip
    return missing + added + changed + sorted(strange)


def _is_other(path: Path, stated: dict[str, Any]) -> bool:
    return path.stat().st_size != stated["bytes"] or sha256(path) != stated["sha256"]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
