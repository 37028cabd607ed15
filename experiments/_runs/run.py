"""One run: measure, store, claim, draw, and a manifest that says what was done."""

import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment, Frames, Results
from experiments._contract.progress import say
from experiments._contract.rows import Rows
from experiments._contract.stream import session
from experiments._contract.tables import check_tables
from experiments._runs.arguments import build
from experiments._runs.finding import find
from experiments._runs.manifest import (
    SCRATCH,
    files_of,
    first_manifest,
    manifest_of,
    model_facts,
    now,
    run_hash,
)
from experiments._runs.store import (
    Tables,
    read_arrays,
    read_manifest,
    write_arrays,
    write_manifest,
    write_tables,
)
from models import load
from models.text import TextNote
from viz import as_drawing, write_page

if TYPE_CHECKING:
    from models import Model

RUNS = Path("runs")
Loader = Callable[[Experiment], "Model | None"]


def load_model(experiment: Experiment) -> "Model | None":
    """The model an experiment names, or None where it needs none."""
    if not experiment.needs_model:
        return None
    _require(experiment.device)
    how = experiment.model_dump(include={"device", "dtype", "processing"})
    return load(experiment.model, **how)


def _require(device: str) -> None:
    kind, _, number = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}[kind]
    if int(number or 0) >= there:
        raise UsageError(f"device {device}: torch sees {there} of that kind; use --device cpu")


def run(experiment: Experiment, *, fresh: bool = False, loader: Loader = load_model) -> Path:
    """Run an experiment, or go on with an unfinished run of it, and return the run's folder."""
    digest = run_hash(experiment)
    folder = (None if fresh else find_run(experiment, digest, finished=False)) or _new(
        experiment, digest
    )
    with _locked(folder), _recorded(folder, experiment, digest) as manifest:
        started = time.monotonic()
        with session(folder / SCRATCH, experiment.name()):
            model = loader(experiment)
            with _noted(manifest):
                results = _measure(experiment, model)
            kind = type(experiment)
            check_tables(kind.tables, results.tables)
            manifest["tables"] = write_tables(folder, results.tables.stored, kind.tables)
            write_arrays(folder, results.arrays)
        manifest |= {"model": model_facts(model), "device": experiment.device}
        manifest["seconds"] = round(manifest.get("seconds", 0) + time.monotonic() - started, 2)
        manifest["peak_memory_bytes"] = _peak_memory(experiment.device)
        try:
            finish(folder, experiment, manifest)
        except Exception as error:
            error.add_note(f"All that was measured is kept. Mend this, then: draw {folder}")
            raise
    return folder


def finish(folder: Path, experiment: Experiment, manifest: dict[str, Any]) -> None:
    """Answer, figures and the page, from what is stored; then the manifest, last."""
    results = Results(Tables(folder / "tables"), read_arrays(folder))
    say("Answering and drawing")
    manifest["headline"] = experiment.headline(results)
    manifest["claims"] = [claim.model_dump() for claim in experiment.claims(results)]
    manifest |= {"figures": _draw(folder, experiment.figures(results)), "status": "finished"}
    manifest["finished"] = now()
    write_page(folder, manifest)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    manifest["files"] = files_of(folder)
    write_manifest(folder, manifest)


def _draw(folder: Path, figures: dict[str, Any]) -> list[str]:
    """Save every figure; returns the names of their folders, in order."""
    shutil.rmtree(folder / "figures", ignore_errors=True)
    slugs = []
    for title, figure in figures.items():
        try:
            drawing = as_drawing(title, figure)
        except ValueError as error:
            raise UsageError(f"figure {title!r}: {error}") from error
        slugs.append("".join(c if c.isalnum() else "-" for c in title.lower()).strip("-"))
        drawing.save(folder / "figures" / slugs[-1], title)
    return slugs


def redraw(folder: Path) -> None:
    """Draw a run anew from its stored numbers; one that failed only then becomes finished.

    Raises:
        UsageError: the folder holds no measured run, or fields that its experiment no longer has.
    """
    manifest = manifest_of(folder)
    if "peak_memory_bytes" not in manifest:  # told once all is measured
        raise UsageError(f"{folder}: this run is {manifest['status']}; run it to its end first")
    manifest.pop("error", None)
    kind = find(manifest["source"])
    finish(folder, build(kind, manifest["fields"], f"{folder}/manifest.json"), manifest)


def find_run(experiment: Experiment, digest: str, *, finished: bool) -> Path | None:
    """The newest run of this hash that is finished, or is not."""
    for folder in sorted((RUNS / experiment.name()).glob(f"*-{digest}"), reverse=True):
        known = (folder / "manifest.json").exists()
        if known and (read_manifest(folder)["status"] == "finished") == finished:
            return folder
    return None


def _measure(experiment: Experiment, model: "Model | None") -> Results:
    if model is not None:
        torch.manual_seed(experiment.seed)
    say(f"{experiment.name()}: {experiment.question()}")
    found = experiment.measure(model)
    if isinstance(found, dict):
        found = Results(found)
    if not isinstance(found, Results) or not isinstance(found.tables, Frames):
        raise UsageError(
            f"{experiment.name()}: measure gave {type(found).__name__}; return Results(tables) or "
            "a dict of DataFrames by name"
        )
    for name, table in found.tables.stored.items():
        if not isinstance(table, pd.DataFrame | Rows):
            raise UsageError(
                f"{experiment.name()}: table {name!r} is a {type(table).__name__}; give a "
                "DataFrame, or self.rows(name) for one that streams"
            )
    return found


@contextmanager
def _noted(manifest: dict[str, Any]) -> Iterator[None]:
    """What is to be known of the texts is said, and kept for the page."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        if issubclass(warning.category, TextNote):
            say(f"note: {warning.message}")
            manifest["notes"] = sorted({*manifest.get("notes", []), f"{warning.message}."})
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def _new(experiment: Experiment, digest: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    folder = RUNS / experiment.name() / f"{stamp}-{digest}"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{folder}: another process runs this; wait, or use --fresh") from None
    try:
        yield
    finally:
        lock.release()
        (folder / ".lock").unlink(missing_ok=True)


@contextmanager
def _recorded(folder: Path, experiment: Experiment, digest: str) -> Iterator[dict[str, Any]]:
    """The manifest, on disk from the start; how a run ended is written even if it failed."""
    manifest = first_manifest(experiment, digest)
    write_manifest(folder, manifest)
    try:
        yield manifest
    except KeyboardInterrupt:
        write_manifest(folder, manifest | {"status": "interrupted"})
        raise
    except Exception as error:
        write_manifest(folder, manifest | {"status": "failed", "error": str(error)})
        raise


def _peak_memory(device: str) -> int:
    """The largest resident set of this process so far, or what was allocated on its GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
