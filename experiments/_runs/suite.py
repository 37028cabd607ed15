"""Several runs from one TOML file; in each process, each model is loaded once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.progress import say
from experiments._runs.arguments import build, read_toml
from experiments._runs.finding import registered
from experiments._runs.folders import RUNS
from experiments._runs.locks import Busy
from experiments._runs.manifest import run_hash, verify
from experiments._runs.run import find_run, load_for_good, require, run
from models import ModelError, find_card
from models.fetch import weights_sha256
from viz import write_gallery

if TYPE_CHECKING:
    from models import Model


def read_suite(path: Path) -> list[Experiment]:
    """The runs of a suite, every one of them validated.

    A suite is a list of tables `[[run]]`, each with `experiment = "NAME"` and that experiment's
    fields. A list stands for its product: `experiment = ["a", "b"]` and `model = ["x", "y"]` are
    four runs. So does a list given to any field that takes one value.

    Raises:
        UsageError: the file, an experiment's name, a field or a model is wrong.
    """
    content = read_toml(path)
    listed = content.get("run")
    tables = isinstance(listed, list) and all(isinstance(table, dict) for table in listed)
    if set(content) != {"run"} or not tables:
        raise UsageError(f"{path}: a suite is a list of [[run]] tables and nothing else")
    return [
        point
        for number, table in enumerate(content["run"], start=1)
        for point in _points(f"{path}, run {number}", dict(table))
    ]


def run_suite(points: list[Experiment]) -> None:
    """Run every point that is not finished, printing each folder; then rebuild the gallery.

    What another process is at comes last: by then that process may have finished it.
    """
    loader, later = LastModel(), []
    for number, point in enumerate(points, start=1):
        say(f"[{number}/{len(points)}] {point.name()} on {point.model}")
        try:
            print(_done(point, loader, wait=False), flush=True)
        except Busy:
            say("another process runs this; going on to the next")
            later.append(point)
    for point in later:
        print(_done(point, loader, wait=True), flush=True)
    print(write_gallery(RUNS).resolve(), flush=True)


def run_by_processes(count: int, path: Path, files: list[Path]) -> None:
    """Run a suite in several processes that share its runs, each with its share of the cores.

    Raises:
        UsageError: there is no such number of processes, or one failed; it said why.
    """
    if count < 1:
        raise UsageError(f"--jobs {count}: give 1 or more")
    named = [word for file in files for word in ("--file", str(file))]
    words = [sys.executable, "-m", "experiments", "suite", str(path), *named]
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    # Each in a session of its own, so that a stop reaches it once: from here.
    options = {"env": threads | os.environ, "start_new_session": True}
    workers = [subprocess.Popen(words, stdout=subprocess.DEVNULL, **options) for _ in range(count)]
    try:
        failed = sum(worker.wait() != 0 for worker in workers)
    finally:
        for worker in workers:
            worker.terminate()  # does nothing to one that has ended
            worker.wait()
    if failed:
        raise UsageError(f"{failed} of {count} processes failed; what they finished is kept")


def _done(point: Experiment, loader: "LastModel", *, wait: bool) -> Path:
    """The folder of a point: of a finished run that is whole, or of a new one."""
    done = find_run(point, run_hash(point), finished=True)
    if done is not None and (faults := verify(done)):
        say(f"{faults[0]}; running again")
        done = None
    return done or run(point, loader=loader, wait=wait)


class LastModel:
    """Loads a model unless the run before used the same one."""

    def __init__(self) -> None:
        self._key: tuple[str, ...] = ()
        self._model: Model | None = None

    def __call__(self, experiment: Experiment) -> "Model | None":
        if not experiment.has_model:
            return None
        how = experiment.device, experiment.dtype, experiment.processing
        key = (experiment.model, weights_sha256(find_card(experiment.model)), *how)
        if key != self._key:
            self._model = None  # frees its memory before the next one is loaded
            self._model, self._key = load_for_good(experiment), key
        return self._model


def _points(where: str, table: dict[str, Any]) -> Iterator[Experiment]:
    """The product of a table's lists; models take turns last, so that each is loaded once."""
    names = table.pop("experiment", None)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UsageError(f'{where}: needs experiment = "NAME", or a list of names')
    kinds = [registered(name, where) for name in names]
    models = table.pop("model", [None])
    for model in models if isinstance(models, list) else [models]:
        for kind in kinds:
            given = table if model is None else {**table, "model": model}
            swept = [name for name in given if _is_swept(kind, name, given[name])]
            for values in product(*(given[name] for name in swept)):
                yield _point(where, kind, given | dict(zip(swept, values, strict=True)))


def _is_swept(kind: type[Experiment], name: str, value: Any) -> bool:
    """Whether a list is one value after the other of a field, and not the value of a field."""
    field = kind.model_fields.get(name)
    if field is None or not value or not isinstance(value, list):
        return False
    kinds = {get_origin(part) or part for part in (field.annotation, *get_args(field.annotation))}
    return not kinds & {tuple, list}


def _point(where: str, kind: type[Experiment], fields: dict[str, Any]) -> Experiment:
    point = build(kind, fields, where)
    if point.has_model:
        try:
            find_card(point.model)
        except ModelError as error:
            raise UsageError(f"{where}: {error}") from error
        require(point.device)
    return point
