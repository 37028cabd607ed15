"""Try what can go wrong many times and print a table: `make test-faults`, some minutes."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import experiments._runs.opened
import experiments._runs.suite  # noqa: F401  imported before processes are forked
from tests.faults import trials
from tests.faults.conftest import DRAWING

ADDER = ("--model", "adder_6d_1l", "--batch-size", "8")
COMMANDS = (
    ("run", "counting.py", "--count", "20", "--pause", "0.02"),
    ("run", "addition_accuracy", *ADDER, "--per-cell", "4", "--uniform", "64"),
    ("run", "head_contributions", *ADDER, "--additions", "16"),
)
Row = tuple[str, int, int]


def row(test: str, tried: Iterable[trials.Trial]) -> Row:
    """A line of the table; what did not pass is told on stderr."""
    results = list(tried)
    for what, right in results:
        if not right:
            print(f"not passed: {test}: {what}", file=sys.stderr)
    print(f"| {test} | {len(results)} | {sum(right for _, right in results)} |", flush=True)
    return test, len(results), sum(right for _, right in results)


def rows(home: Path, share: float) -> Iterator[Row]:
    """Every line of the table; of trials that take seconds, a share of the full number."""

    def of(full: int) -> int:
        return max(1, round(full * share))

    (home / "counting.py").write_text(DRAWING)
    places = [trials.place(home, *words) for words in COMMANDS]
    for number, here in enumerate(places):
        name = f"killed at a random moment, same tables after: {here.words[1]}"
        yield row(name, trials.stopped(here, SIGKILL, of(17), number))
    for sign in (SIGTERM, SIGINT):
        tried = (t for here in places for t in trials.stopped(here, sign, of(7), 100 + sign))
        yield row(f"{sign.name} at a random moment, same tables after", tried)
    together = (t for _ in range(of(3)) for t in trials.together(places[0], 8))
    yield row("8 processes on one command, run once", together)
    yield row("8 processes on one suite, each point once", [_suite(home) for _ in range(of(3))])
    yield row("limits of the machine, one line, nothing lost", _limits(places[0]))
    yield row("0 to 64 MiB of memory left, nothing lost", _memory(places[0]))
    folder = _finished(home)
    yield row("damage of a run's folder, named", trials.damaged_folders(folder, 400, 0))
    yield row("damaged tables, refused when read", trials.damaged_tables(folder, 240, 1))


def _suite(home: Path) -> trials.Trial:
    text = "".join(f'[[run]]\nexperiment = "counting.py"\ncount = {n}\n' for n in range(2, 6))
    (home / "suite.toml").write_text(text)
    words = ("suite", "suite.toml", "--file", "counting.py")
    return trials.together_on_a_suite(home, words, 4, 8)


def _finished(home: Path) -> Path:
    assert trials.ended(trials.started(home, *COMMANDS[0]))[0] == 0
    os.chdir(home)
    return trials.only_run(home)


def _limits(here: trials.Place) -> Iterator[trials.Trial]:
    """Too few files, too small files, a full disk, a disk that is read-only."""
    for most in (0, 500, 3_000, 20_000, 60_000):
        limit = trials.no_more_than(resource.RLIMIT_FSIZE, most)
        yield trials.limited(here, f"files of {most} bytes", limit)
    for most in (5, 6, 8, 12):
        limit = trials.no_more_than(resource.RLIMIT_NOFILE, most)
        yield trials.limited(here, f"{most} open files", limit)
    for options, what in (("size=8k", "full"), ("size=64k", "full"), ("ro", "read-only")):
        with _mounted(here.home / "runs", options) as is_there:
            if is_there:
                yield trials.limited_disk(here, f"disk {what} ({options})")


def _memory(here: trials.Place) -> Iterator[trials.Trial]:
    """So little memory that some libraries end the process, or blame a file, before we can."""
    for more in (0, 4, 8, 16, 32, 64):
        limit = trials.no_more_than(resource.RLIMIT_AS, trials.memory_now() + more * 2**20)
        yield trials.ended_anyhow(here, f"{more} MiB of memory left", limit)


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """A disk of its own at a folder, where this machine lets us; whether it is there."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    is_there = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def main(share: float) -> int:
    """Print the table; 1 if anything did not pass."""
    print("| test | tried | passed |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        found = list(rows(Path(home).resolve(), share))
        os.chdir("/")
    return 0 if all(tried == passed for _, tried, passed in found) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
