"""One run by several processes: each makes pieces, and one merges them."""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments._contract.errors import UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.progress import say
from experiments._contract.stream import in_pieces, session, stoppable
from experiments._runs.arguments import build
from experiments._runs.faults import in_one_line
from experiments._runs.finding import registered
from experiments._runs.folders import RUNS
from experiments._runs.locks import Busy
from experiments._runs.manifest import PACKAGES, run_hash, source_of, verify
from experiments._runs.pieces import Pieces
from experiments._runs.run import Loader, find_run, load_model, run
from experiments._runs.sources import refuse_changed
from experiments._runs.starting import threads_for
from viz.files import remove as remove_tree
from viz.files import write_atomically

END = ".pieces"
REQUEST = "request.json"
USED = ".used"


class Shard(NamedTuple):
    """Which of several processes this one is, counted from 0."""

    turn: int
    of: int


def shard_of(words: str) -> Shard:
    """The shard that `2/7` names (raises UsageError)."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", words)
    turn, of = (int(found[1]) - 1, int(found[2])) if found else (-1, 0)
    if not 0 <= turn < of:
        raise UsageError(f"--shard {words}: give I/N, such as 2/7, with I from 1 to N")
    return Shard(turn, of)


def work(experiment: Experiment, shard: Shard, loader: Loader = load_model) -> Path:
    """Make pieces of a run until all are there; the folder of its pieces, or of a finished run.

    Raises:
        UsageError: the run cannot be cut into pieces, or was begun with other versions.
    """
    if why := experiment.in_one_piece:
        raise UsageError(f"{experiment.name()} is one piece ({why}): run it without --shard")
    refuse_changed(Path(sys.modules[type(experiment).__module__].__file__))
    digest = run_hash(experiment)
    done = find_run(experiment, digest, finished=True)
    if done is not None and not verify(done):
        say(f"finished already: {done}")
        return done
    folder = RUNS / experiment.name() / f"{digest}{END}"
    _request(folder, experiment, digest)
    pieces = Pieces(folder, *shard)
    with _used(folder), stoppable(), in_one_line("the pieces made are kept"):
        _measure(experiment, pieces, loader)
    say(f"{experiment.name()}: {pieces.made} of {pieces.all} pieces made here; all are there")
    return folder


def share(points: Sequence[Experiment], shard: Shard, loader: Loader) -> Iterator[Path]:
    """Work on the runs of a suite; one that is in one piece is run by whoever comes first."""
    for point in points:
        if not point.in_one_piece:
            yield work(point, shard, loader)
            continue
        try:
            yield run(point, loader=loader, wait=False)
        except Busy:
            say(f"{point.name()} is one piece, and another process runs it")


def merge(folder: Path, loader: Loader = load_model) -> Path:
    """The run that pieces are of; those that are missing are made here.

    Raises:
        UsageError: the folder holds no pieces, or those of other code, weights or versions.
    """
    where = folder / REQUEST
    asked = _read(where)
    experiment = build(registered(asked["source"], str(where)), asked["fields"], str(where))
    if run_hash(experiment) != asked["hash"]:
        raise UsageError(f"{folder}: pieces of other code, files or weights; run its shards again")
    _refuse_other_versions(where, asked)
    pieces = Pieces(folder)
    with in_pieces(pieces):
        done = run(experiment, loader=loader)
    say(f"{experiment.name()}: {pieces.all - pieces.made} of {pieces.all} pieces were there")
    _drop(folder)
    return done


def folders_of_pieces() -> list[Path]:
    """Every folder of pieces below `runs`."""
    return sorted(path.parent for path in RUNS.glob(f"*/*{END}/{REQUEST}"))


def _measure(experiment: Experiment, pieces: Pieces, loader: Loader) -> None:
    """Go through all streams; what is not in pieces is thrown away."""
    model = loader(experiment)
    if model is not None:
        torch.manual_seed(experiment.seed)
    say(f"{experiment.name()}, shard {pieces.turn + 1} of {pieces.of}")
    with (
        tempfile.TemporaryDirectory(prefix="carrylens-") as scratch,
        in_pieces(pieces),
        session(Path(scratch), experiment.name()),
        threads_for(model),
    ):
        experiment.measure(model)


def _request(folder: Path, experiment: Experiment, digest: str) -> None:
    """Write what the pieces are of, once."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = experiment.model_dump(mode="json")
    asked = {"source": source_of(type(experiment)), "fields": fields, "hash": digest}
    if (folder / REQUEST).exists():
        _refuse_other_versions(folder / REQUEST, _read(folder / REQUEST))
    else:
        text = json.dumps(asked | {"versions": _versions()}, indent=1)
        write_atomically(folder / REQUEST, text.encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        asked = json.loads(path.read_text("utf-8"))
        if {"source", "fields", "hash", "versions"} <= asked.keys():
            return asked
    except (OSError, ValueError, AttributeError):
        pass
    raise UsageError(f"{path.parent}: holds no pieces of a run; give a folder that --shard printed")


def _versions() -> dict[str, str]:
    """What decides the last bits of a number besides the code."""
    known = {name: version(name) for name in PACKAGES}
    return known | {"threads": str(torch.get_num_threads())}


def _refuse_other_versions(where: Path, asked: dict[str, Any]) -> None:
    here = _versions()
    for name, stated in asked["versions"].items():
        if here.get(name) != stated:
            raise UsageError(
                f"{where}: begun with {name} {stated}, and here it is {here.get(name)}; use the "
                "same, or delete the folder and begin anew"
            )


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Show that a process is at the pieces, so that nobody takes them away."""
    with (folder / USED).open("w") as file:
        flock(file, LOCK_SH)
        yield


def _drop(folder: Path) -> None:
    """Delete merged pieces, unless a process is at them."""
    with (folder / USED).open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            say(f"left: other processes are still at {folder}")
            return
        remove_tree(folder)
