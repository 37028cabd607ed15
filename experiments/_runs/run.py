"""One run: measure, store, claim, draw, and a manifest that says what was done."""

import gc
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pyarrow.parquet import read_schema

from experiments._contract.errors import MachineFault, UsageError
from experiments._contract.experiment import Experiment, Frames, Results
from experiments._contract.memory import give_back
from experiments._contract.progress import say
from experiments._contract.rows import Rows
from experiments._contract.stream import session, stoppable
from experiments._contract.tables import check_tables
from experiments._runs import answers
from experiments._runs.arguments import build
from experiments._runs.faults import in_one_line, is_out_of_memory
from experiments._runs.finding import registered
from experiments._runs.folders import RUNS, slug
from experiments._runs.locks import locked
from experiments._runs.manifest import (
    SCRATCH,
    files_of,
    first_manifest,
    manifest_of,
    model_facts,
    now,
    refuse_strange,
    run_hash,
    verify,
    write_sums,
)
from experiments._runs.replacing import replaced
from experiments._runs.sources import refuse_changed
from experiments._runs.starting import loading, threads_for
from experiments._runs.store import (
    Arrays,
    Tables,
    refuse_changed_file,
    write_arrays,
    write_manifest,
    write_tables,
)
from models import Card, ModelError, load
from models.text import TextNote
from viz import as_drawing, write_page
from viz.files import aside_of, sweep
from viz.files import remove as remove_tree
from viz.manifests import LOCK, ManifestError, is_held, read_manifest

if TYPE_CHECKING:
    from models import Model

Loader = Callable[[Experiment], "Model | None"]


def load_model(experiment: Experiment) -> "Model | None":
    """The model an experiment names, or None where it needs none."""
    if not experiment.has_model:
        return None
    require(experiment.device)
    how = experiment.model_dump(include={"device", "dtype", "processing"})
    return load(experiment.model, **how)


def load_for_good(experiment: Experiment) -> "Model | None":
    """The same in a process that does nothing else: what is in memory then is no garbage."""
    with loading():
        return load_model(experiment)


def require(device: str) -> None:
    """Refuse a device that this machine lacks (raises UsageError)."""
    kind, _, number = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.mps.device_count()}[kind]
    if int(number or 0) >= there:
        raise UsageError(f"device {device}: torch sees {there} of that kind; use --device cpu")


def run(
    experiment: Experiment,
    *,
    fresh: bool = False,
    loader: Loader = load_model,
    card: Card | None = None,
    label: str = "",
    wait: bool = True,
) -> Path:
    """Run an experiment, or go on with an unfinished run of it, and return the run's folder.

    `card` is that of a model in memory, which the loader gives; `label` names the run. Where
    another process is at the same run, its end is waited for and its folder returned.

    Raises:
        Busy: another process is at the same run, and `wait` is false.
    """
    refuse_changed(Path(sys.modules[type(experiment).__module__].__file__))
    digest = run_hash(experiment, card)
    first = first_manifest(experiment, digest, card, label)
    home = RUNS / experiment.name()
    try:
        with stoppable(), in_one_line("nothing was kept"):
            if fresh:
                return _run_in(_new(home, digest), experiment, loader, first)
            with locked(home / f".{digest}{LOCK}", wait=wait):
                done = find_run(experiment, digest, finished=True)
                if done is not None and not verify(done):
                    return done
                folder = find_run(experiment, digest, finished=False, versions=first["versions"])
                return _run_in(folder or _new(home, digest), experiment, loader, first)
    finally:
        _drop_empty(home)


def _run_in(folder: Path, experiment: Experiment, loader: Loader, first: dict[str, Any]) -> Path:
    """One run from its beginning, or from where it stopped, to its end."""
    with locked(folder / LOCK), _recorded(folder, first) as manifest:
        sweep(folder)
        model = loader(experiment)
        with threads_for(model):
            _store(folder, experiment, model, manifest)
        manifest |= {"model": model_facts(model), "device": experiment.device}
        manifest |= {"peak_memory_bytes": _peak_memory(experiment.device)}
        write_manifest(folder, _timed(manifest))
        try:
            finish(folder, experiment, manifest)
        except Exception as error:
            error.add_note(
                f"All that was measured is kept. Mend this, then: draw {_again(folder, first)}"
            )
            raise
    return folder


def _again(folder: Path, manifest: dict[str, Any]) -> str:
    """What `draw` needs: the folder and, of an experiment that is not registered, its file."""
    source = manifest["source"]
    return f"{folder} --file {source}" if source.endswith(".py") else str(folder)


def _store(
    folder: Path, experiment: Experiment, model: "Model | None", manifest: dict[str, Any]
) -> None:
    """Measure and store; where memory does not suffice, again with half the batch."""
    size = experiment.batch_size
    while not _fits(folder, experiment, size, model, manifest):
        if size == 1:
            raise MachineFault(
                f"out of memory with one prompt at a time: use shorter prompts, a smaller model or "
                f"--dtype bfloat16; nothing is lost, {folder} goes on with the same command"
            )
        size //= 2
        note = (
            f"Memory did not suffice for batches of {experiment.batch_size}: these are of {size}."
        )
        say(note)
        manifest["notes"] = [note]
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _fits(
    folder: Path, asked: Experiment, size: int, model: "Model | None", manifest: dict[str, Any]
) -> bool:
    """Measure and store with batches of a size; False if memory did not suffice."""
    experiment, kind = asked.model_copy(update={"batch_size": size}), type(asked)
    # Batches of another size are other batches: they have checkpoints of their own.
    scratch = folder / SCRATCH / ("" if size == asked.batch_size else f"batches_of_{size}")
    try:
        with session(scratch, experiment.name()):
            with _noted(manifest):
                results = _measure(experiment, model)
            give_back()
            check_tables(kind.tables, results.tables)
            manifest["tables"] = write_tables(folder, results.tables.stored, kind.tables)
            write_arrays(folder, results.arrays)
            manifest["files"] = files_of(folder, ("tables", "arrays"))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def finish(folder: Path, experiment: Experiment, manifest: dict[str, Any]) -> None:
    """Answer, figures and the page, from what is stored; then the manifest, last."""
    files = manifest["files"]
    results = Results(Tables(folder, files), Arrays(folder, files))
    say("Answering and drawing")
    give_back()
    manifest["headline"] = answers.headline(experiment, results)
    manifest["claims"] = [claim.model_dump() for claim in answers.claims(experiment, results)]
    figures = answers.figures(experiment, results)
    manifest |= {"figures": _draw(folder, figures), "status": "finished"}
    manifest.setdefault("finished", now())
    write_page(folder, manifest)
    remove_tree(folder / SCRATCH)
    manifest["files"] = write_sums(folder, files_of(folder))
    write_manifest(folder, manifest)


def _draw(folder: Path, figures: dict[str, Any]) -> list[str]:
    """Save every figure; returns the names of their folders, in order."""
    aside, slugs = aside_of(folder / "figures", "new"), []
    remove_tree(aside)
    for title, figure in figures.items():
        try:
            drawing = as_drawing(title, figure)
        except ValueError as error:
            raise UsageError(f"figure {title!r}: {error}") from error
        slugs.append(slug(title))
        drawing.save(aside / slugs[-1], title)
    remove_tree(folder / "figures")
    if slugs:
        os.rename(aside, folder / "figures")
    return slugs


def redraw(folder: Path) -> None:
    """Draw a run anew from its stored numbers; one that failed only then becomes finished.

    The folder changes in one step, or not at all. What its manifest names as its experiment is
    imported only if it is registered, or was imported by name before.

    Raises:
        UsageError: the folder holds no measured run, numbers that are not as they were written,
            links, or fields that its experiment no longer has.
    """
    manifest, where = manifest_of(folder), f"{folder}/manifest.json"
    if "peak_memory_bytes" not in manifest:  # told once all is measured
        raise UsageError(f"{folder}: this run is {manifest['status']}; run it to its end first")
    refuse_strange(folder)
    for name in manifest["files"]:
        if name.startswith(("tables/", "arrays/")):
            refuse_changed_file(folder, name, manifest["files"])
    manifest.pop("error", None)
    experiment = build(registered(manifest["source"], where), manifest["fields"], where)
    _refuse_other_tables(folder, type(experiment), manifest["files"])
    with stoppable(), in_one_line(f"{folder} is as it was"), locked(folder / LOCK):
        sweep(folder.parent)
        with replaced(folder) as aside:
            finish(aside, experiment, manifest)


def _refuse_other_tables(folder: Path, kind: type[Experiment], files: Mapping[str, Any]) -> None:
    """Raise UsageError for a run whose tables are not those that its experiment has today."""
    for name, declared in kind.tables.items():
        path = f"tables/{name}.parquet"
        if path not in files:
            raise UsageError(f"{folder}: holds no table {name!r} of {kind.name()}; run it again")
        columns = read_schema(folder / path).names
        if columns and (problem := declared.problem(name, columns)):
            raise UsageError(f"{folder}: {problem}: it was measured by other code; run it again")


def find_run(
    experiment: Experiment, digest: str, *, finished: bool, versions: object = None
) -> Path | None:
    """The newest run of this hash that is finished, or one that is not and can go on.

    What cannot be read, and unfinished runs of other code or other `versions`, are left and named.
    """
    for folder, told in _known_runs(experiment.name()):
        if (told["status"] == "finished") != finished:
            continue
        if told["hash"] == digest and versions in (None, told.get("versions")):
            return folder
        if versions and told["fields"] == experiment.model_dump(mode="json"):
            say(f"left: {folder} was begun with other code, weights or versions; it stays as it is")
    return None


def _known_runs(name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs of an experiment, newest first; what cannot be read or holds links is named."""
    for path in sorted((RUNS / name).glob("[!.]*/manifest.json"), reverse=True):
        try:
            told = read_manifest(path.parent)
            if told["status"] != "finished" and is_held(path.parent / LOCK):
                continue  # another process is at it
            refuse_strange(path.parent)
        except (ManifestError, UsageError, FileNotFoundError) as error:
            say(f"left out: {error}")
        else:
            yield path.parent, told


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


def _new(home: Path, digest: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    folder = home / f"{stamp}-{digest}"
    folder.mkdir(parents=True)
    return folder


@contextmanager
def _recorded(folder: Path, manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The manifest, on disk from the start; how a run ended is written even if it failed.

    A request that is refused before anything was measured leaves no folder.
    """
    manifest |= _before(folder) | {"resumed": datetime.now(UTC).isoformat()}
    try:
        with in_one_line(f"what was measured is kept, and the same command goes on in {folder}"):
            write_manifest(folder, manifest)
            yield manifest
    except (UsageError, ModelError) as error:
        if _is_bare(folder):
            remove(folder)
        else:
            _end(folder, manifest, "failed", error)
        raise
    except KeyboardInterrupt:
        _end(folder, manifest, "interrupted")
        raise
    except Exception as error:
        _end(folder, manifest, "failed", error)
        raise


def _end(
    folder: Path, manifest: dict[str, Any], status: str, error: Exception | None = None
) -> None:
    """Write how a run ended; where that cannot be written, its free lock says that it did."""
    told = {"error": str(error)} if error else {}
    with suppress(OSError):
        write_manifest(folder, _timed(manifest) | {"status": status} | told)


def _before(folder: Path) -> dict[str, Any]:
    """When an unfinished run began, and the seconds spent on it up to what was kept."""
    try:
        old = read_manifest(folder)
    except ManifestError:
        return {"seconds": 0}
    spent = old.get("seconds", 0)
    if old["status"] == "running":  # it was killed
        kept = [p.stat().st_mtime for p in (folder / SCRATCH).rglob("*") if p.is_file()]
        began = datetime.fromisoformat(old.get("resumed", old["started"])).timestamp()
        spent += max(0.0, max(kept, default=began) - began)
    return {"started": old["started"], "seconds": round(spent, 2)}


def _timed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the seconds since the run began or went on, once."""
    if "resumed" in manifest:
        since = datetime.fromisoformat(manifest.pop("resumed"))
        spent = (datetime.now(UTC) - since).total_seconds()
        manifest["seconds"] = round(manifest["seconds"] + spent, 2)
    return manifest


def delete(folder: Path) -> None:
    """Delete a run, unless a process runs it (raises UsageError)."""
    manifest_of(folder)  # of anything but a run nothing is deleted
    with locked(folder / LOCK):
        remove(folder)


def remove(folder: Path) -> None:
    """Delete a run's folder, and those around it that are empty then."""
    remove_tree(folder)
    _drop_empty(folder.parent)


def _drop_empty(home: Path) -> None:
    """Delete the folder of an experiment's runs if it is empty, and then that of all runs."""
    with suppress(OSError):
        home.rmdir()
        home.parent.rmdir()


def _is_bare(folder: Path) -> bool:
    """Whether nothing that was measured is in a run's folder."""
    return not any(path.suffix in (".safetensors", ".parquet") for path in folder.rglob("*"))


def _peak_memory(device: str) -> int:
    """The largest resident set of this process so far, or what was allocated on its GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage starts with the peak of whatever process started this one
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
