"""A suite on the workers of dask.distributed: one process a GPU, pieces on a disk they share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments._contract.errors import MachineFault, UsageError
from experiments._contract.experiment import Experiment
from experiments._contract.progress import say
from experiments._runs.arguments import build
from experiments._runs.finding import find
from experiments._runs.folders import RUNS
from experiments._runs.manifest import run_hash, source_of
from experiments._runs.run import run
from experiments._runs.shards import END, Shard, merge, work
from experiments._runs.suite import LastModel
from viz import write_gallery

if TYPE_CHECKING:
    from distributed import Client, Future

KILLED_AT_MOST = 20
"""Workers that may die of one task before it is given up: machines fail, and pieces are kept."""
BACK = "10 minutes"
"""A worker that died has so long to start anew, and a task to find a worker: dask's own 15 seconds
are less than importing torch takes on a busy machine, and without workers it waits for ever."""
HERE = "127.0.0.1"
_loaded = LastModel()
"""The model that this worker used last."""


def run_on_dask(points: list[Experiment], scheduler: str | None) -> None:
    """Run a suite on the workers of a cluster, or of one made here, and print each folder.

    Raises:
        UsageError: the extra `cluster` is not installed, no worker is there, or one works on
            several things at once.
    """
    with _client(scheduler) as client:
        workers = _workers(client)
        say(f"{len(points)} runs on {workers} workers")
        made = [_submitted(client, point, workers, -turn) for turn, point in enumerate(points)]
        for point, future in zip(points, made, strict=True):
            print(_result(point, future), flush=True)
    print(write_gallery(RUNS).resolve(), flush=True)


@contextmanager
def _client(scheduler: str | None) -> Iterator["Client"]:
    """A client of the scheduler at an address, or of workers on this machine, one a GPU."""
    try:
        import dask  # an extra: asked for only here
        from distributed import Client, Nanny, Scheduler, SpecCluster
    except ImportError:
        line = "--on dask needs dask.distributed: pip install 'carrylens[cluster]'"
        raise UsageError(line) from None
    dask.config.set({
        "distributed.scheduler.allowed-failures": KILLED_AT_MOST,
        "distributed.scheduler.no-workers-timeout": BACK,
        "distributed.deploy.lost-worker-timeout": BACK,
    })  # fmt: skip
    if scheduler:
        try:
            with Client(scheduler, timeout="10s") as client:
                yield client
        except OSError as error:
            raise UsageError(f"--scheduler {scheduler}: no answer; is it running?") from error
        return
    gpus = range(torch.cuda.device_count())
    options = [{"env": {"CUDA_VISIBLE_DEVICES": str(gpu)}} for gpu in gpus] or [{}]
    specs = {
        number: {"cls": Nanny, "options": {"nthreads": 1, "host": HERE, **one}}
        for number, one in enumerate(options)
    }
    options = {"host": HERE, "dashboard": False, "port": 0}
    with (
        SpecCluster(workers=specs, scheduler={"cls": Scheduler, "options": options}) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _workers(client: "Client") -> int:
    """How many workers there are."""
    client.wait_for_workers(1, timeout=60)
    known = client.scheduler_info(n_workers=-1)["workers"]
    for address, worker in known.items():
        if worker["nthreads"] != 1:
            raise UsageError(
                f"worker {address} does {worker['nthreads']} things at once, on one model; start "
                "it with --nthreads 1"
            )
    return len(known)


def _submitted(client: "Client", point: Experiment, workers: int, priority: int) -> "Future":
    """The folder of a run, to come: its shards on all workers, then the merging on one."""
    asked = (source_of(type(point)), point.model_dump(mode="json"), str(Path.cwd()))
    how: dict[str, Any] = {"pure": False, "priority": priority, "retries": 2}
    if point.in_one_piece:
        return client.submit(_whole, *asked, **how)
    shards = [client.submit(_piece, *asked, turn, workers, **how) for turn in range(workers)]
    return client.submit(_merged, *asked, shards, **how)


def _result(point: Experiment, future: "Future") -> str:
    """The folder of a run, when it is there; its failure in one line."""
    from distributed import KilledWorker
    from distributed.scheduler import NoWorkerError

    try:
        return future.result()
    except NoWorkerError as error:
        raise MachineFault(
            f"{point.name()}: no worker is left, and none came; the pieces are kept, and the same "
            "command goes on"
        ) from error
    except KilledWorker as error:
        raise MachineFault(
            f"{point.name()}: {KILLED_AT_MOST} workers died of it, perhaps of too little memory; "
            "its pieces are kept, and the same command goes on"
        ) from error


def _piece(source: str, fields: dict[str, Any], home: str, turn: int, of: int) -> str:
    """On a worker: one shard of a run."""
    return str(work(_asked(source, fields, home), Shard(turn, of), _loaded))


def _merged(source: str, fields: dict[str, Any], home: str, _: list[str]) -> str:
    """On a worker: the run, of the pieces that all made."""
    point = _asked(source, fields, home)
    folder = RUNS / point.name() / f"{run_hash(point)}{END}"
    return str(merge(folder, _loaded) if folder.exists() else run(point, loader=_loaded))


def _whole(source: str, fields: dict[str, Any], home: str) -> str:
    """On a worker: a run that cannot be cut into pieces."""
    return str(run(_asked(source, fields, home), loader=_loaded))


def _asked(source: str, fields: dict[str, Any], home: str) -> Experiment:
    """The experiment, in the folder from which it was asked for."""
    os.chdir(home)
    return build(find(source), fields, "suite")
