"""Workers of dask on the loopback interface give what one process gives, also when killed."""

import os
import random
import signal
import threading
import time

import pytest

from experiments import UsageError
from experiments._contract.errors import MachineFault
from experiments._runs import cluster
from experiments._runs.run import find_run, run, run_hash
from tests.experiments._runs.test_pieces import numbers_of

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


def workers(count: int, threads: int = 1):
    """As many processes with a scheduler, which nobody but this machine can reach."""
    return distributed.LocalCluster(
        n_workers=count, threads_per_worker=threads, host="127.0.0.1", dashboard_address=None
    )


def made(experiment) -> dict[str, bytes]:
    """The numbers of the run that workers made."""
    return numbers_of(find_run(experiment, run_hash(experiment), finished=True))


def test_workers_made_here_give_what_one_process_gives(study, capsys):
    points = [study(), study(count=4)]
    cluster.run_on_dask(points, None)
    out = capsys.readouterr().out.splitlines()
    assert [line.split("/")[:2] for line in out[:2]] == [["runs", "study"]] * 2
    for point in points:
        assert made(point) == numbers_of(run(point, fresh=True))


def test_a_worker_that_does_two_things_at_once_is_refused(study):
    with workers(1, threads=2) as two, pytest.raises(UsageError, match="start it with --nthreads"):
        cluster.run_on_dask([study()], two.scheduler_address)


def test_a_scheduler_that_is_not_there_is_named(study):
    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:9: no answer"):
        cluster.run_on_dask([study()], "tcp://127.0.0.1:9")


def test_a_run_for_which_no_worker_is_left_ends(study):
    soon = {"distributed.scheduler.no-workers-timeout": "1 s"}
    with dask.config.set(soon), workers(1) as one:
        threading.Timer(1, one.scale, [0]).start()
        with pytest.raises(MachineFault, match="no worker is left"):
            cluster.run_on_dask([study(pause=1)], one.scheduler_address)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_workers_gives_the_same(study, count):
    with workers(count) as some:
        cluster.run_on_dask([study(pause=0.05)], some.scheduler_address)
    assert made(study(pause=0.05)) == numbers_of(run(study(pause=0.05), fresh=True))


@pytest.mark.slow
def test_a_worker_of_three_that_is_killed_changes_nothing(study):
    once, draw = numbers_of(run(study(pause=0.05))), random.Random(0)
    with workers(3) as some, distributed.Client(some) as client:
        for number in range(20):
            client.wait_for_workers(3)
            pids = list(client.run(os.getpid).values())
            experiment = study(pause=0.05, seed=number + 1)
            asked = ([experiment], some.scheduler_address)
            thread = threading.Thread(target=cluster.run_on_dask, args=asked)
            thread.start()
            time.sleep(draw.uniform(0, 2))
            os.kill(draw.choice(pids), signal.SIGKILL)
            thread.join()
            assert made(experiment) == once
