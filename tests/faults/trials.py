"""What can go wrong, tried many times: each function yields what was tried and whether it passed.

The tests here take a few of each; `make test-faults` takes many and prints a table.
"""

import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from experiments import UsageError
from experiments.__main__ import main
from experiments._contract import stream
from experiments._contract.errors import Stopped
from experiments._runs.manifest import manifest_of, verify
from experiments._runs.store import Tables
from viz.manifests import status_of

Trial = tuple[str, bool]
"""What was tried, in words, and whether it went as it must."""


def damaged_folders(folder: Path, count: int, seed: int) -> Iterator[Trial]:
    """A run's folder with one damage; verify must name the file. Undone after each."""
    rng = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(count):
        path = files[number % len(files)]
        what = KINDS[number % len(KINDS)]
        kept = path.read_bytes()
        mark = damage(path, kept, what, rng)
        yield f"{what} {path.relative_to(folder)}", mark.name in " ".join(named(folder))
        shutil.rmtree(mark) if mark.is_dir() and not mark.is_symlink() else mark.unlink(True)
        path.unlink(missing_ok=True)
        path.write_bytes(kept)


KINDS = ("flip", "cut", "lengthen", "delete", "empty", "add", "link", "pipe")


def damage(path: Path, kept: bytes, what: str, rng: random.Random) -> Path:
    """Damage a file, or put something beside it; returns the path that must be named."""
    at = rng.randrange(max(len(kept), 1))
    mark = path if what not in ("add", "pipe") else path.with_name(f"{what}-{rng.random()}")
    if what == "flip" and kept:
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 1 << rng.randrange(8)]) + kept[at + 1 :])
    elif what == "cut":
        path.write_bytes(kept[:at] if kept else b"x")
    elif what == "lengthen":
        path.write_bytes(kept + b"\0")
    elif what == "delete":
        path.unlink()
    elif what == "empty":
        path.write_bytes(b"" if kept else b"x")
    elif what == "add":
        mark.write_bytes(kept)
    elif what == "link":
        path.unlink()
        path.symlink_to("/etc/hostname")
    else:
        os.mkfifo(mark)
    return mark


def named(folder: Path) -> list[str]:
    """What `verify` says of a folder, refusals included; each in one line."""
    try:
        lines = verify(folder)
    except UsageError as error:
        lines = [str(error)]
    assert not any("\n" in line for line in lines)
    return lines


def damaged_tables(folder: Path, count: int, seed: int) -> Iterator[Trial]:
    """A table with one bit flipped: reading it must be refused. Undone after each."""
    rng, files = random.Random(seed), manifest_of(folder)["files"]
    names = [name for name in files if name.endswith(".parquet") and name.startswith("tables/")]
    for number in range(count):
        path = folder / names[number % len(names)]
        kept = path.read_bytes()
        at = rng.randrange(len(kept))
        path.write_bytes(kept[:at] + bytes([kept[at] ^ 1 << rng.randrange(8)]) + kept[at + 1 :])
        yield f"bit of byte {at} of {path.name}", is_refused(folder, path, files)
        path.write_bytes(kept)


def is_refused(folder: Path, path: Path, files: dict) -> bool:
    """Whether a table is not read, in a line that names its file."""
    try:
        table = Tables(folder, files)[path.stem]
    except UsageError as error:
        return path.name in str(error)
    assert isinstance(table, pd.DataFrame)
    return False


@dataclass(frozen=True)
class Place:
    """A folder to run in, a command, and what its tables must be in the end."""

    home: Path
    words: tuple[str, ...]
    tables: dict[str, bytes]
    seconds: float
    """That the whole command takes."""


def place(home: Path, *words: str) -> Place:
    """Run a command once, undisturbed, and keep what its tables are."""
    home.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    code, said = ended(started(home, *words))
    took = time.monotonic() - begun
    assert code == 0, said
    tables = tables_of(only_run(home))
    shutil.rmtree(home / "runs")
    return Place(home, words, tables, took)


PATIENCE = 600
"""Seconds without a word after which a process hangs. Where thirty processes share two cores, one
that is well may take minutes to begin, or wait as long for another that has the same run."""
SIGNS = (signal.SIGINT, signal.SIGTERM)
_said: dict[int, int] = {}
"""Of each process that was started: the end of the pipe from which its words are read."""


def started(home: Path, *words: str, limit: Callable[[], object] = lambda: None) -> int:
    """A command in a process of its own, forked so that nothing is imported again; its number."""
    reading, writing = os.pipe()
    # Held back until the child says what they do to it: on a busy machine it is stopped before.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNS)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNS)
        os.close(writing)
        _said[child] = reading
        return child
    code = 1
    try:
        os.chdir(home)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        for sign in SIGNS:
            signal.signal(sign, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNS)
        torch.set_num_threads(1)
        stream.CHECKPOINT_SECONDS = 0.02
        limit()
        code = main(words)
    except Stopped as early:  # before the command line had begun
        code = early.code
    except BaseException:
        traceback.print_exc()
    finally:
        for sign in SIGNS:
            signal.signal(sign, signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def stop(number: int, _: object) -> None:
    """What a signal does to a process that has just been forked."""
    raise Stopped(128 + number)


def ended(child: int) -> tuple[int, str]:
    """The exit code of a process (minus the signal that killed it), and its words.

    One that says nothing for PATIENCE seconds hangs, and is killed.
    """
    words, reading = b"", _said.pop(child)
    while True:
        if not select.select([reading], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
        if not (said := os.read(reading, 1 << 16)):
            break
        words += said
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), words.decode(errors="replace")


def runs_of(home: Path) -> list[Path]:
    """Every run's folder."""
    return sorted(path.parent for path in home.glob("runs/[!.]*/[!.]*/manifest.json"))


def only_run(home: Path) -> Path:
    """The folder of the one run that there is."""
    (folder,) = runs_of(home)
    return folder


def tables_of(folder: Path) -> dict[str, bytes]:
    """The bytes of a run's tables by name."""
    return {path.name: path.read_bytes() for path in (folder / "tables").glob("*.parquet")}


def lacking(here: Place) -> str:
    """What is wrong after the same command again: empty where it ends in one whole run."""
    code, said = ended(started(here.home, *here.words))
    if code != 0:
        return f"the same command again: code {code}, {said[-300:]!r}"
    if len(runs_of(here.home)) != 1:
        return f"{len(runs_of(here.home))} runs"
    folder = only_run(here.home)
    if tables_of(folder) != here.tables:
        return "other tables"
    left = [str(path) for path in here.home.rglob("*.tmp") if path.name.startswith(".")]
    return "; ".join([*verify(folder), *left])


def stopped(here: Place, sign: int, count: int, seed: int) -> Iterator[Trial]:
    """A command stopped by a signal at a random moment, then said again."""
    rng = random.Random(seed)
    for _ in range(count):
        child, after = started(here.home, *here.words), rng.uniform(0.05, here.seconds)
        time.sleep(after)
        os.kill(child, sign)
        code, said = ended(child)
        right = {-9: (-9, 0), -2: (130, 0), -15: (143, 0)}[-sign]
        passed = code in right and "Traceback" not in said and states_are_true(here.home)
        lacks = lacking(here)
        what = f"{here.words[1]}, {signal.Signals(sign).name} after {after:.2f} s: code {code}"
        told = "" if passed else f", {said[-300:]!r}"
        yield f"{what}{told}; {lacks or 'whole'}", passed and not lacks
        shutil.rmtree(here.home / "runs")


def states_are_true(home: Path) -> bool:
    """Whether no run is shown as running, now that no process is left."""
    found = [status_of(folder, manifest_of(folder)) for folder in runs_of(home)]
    return set(found) <= {"finished", "interrupted", "stopped", "failed"}


def together(here: Place, processes: int) -> Iterator[Trial]:
    """The same command in many processes at once: it is run once."""
    children = [started(here.home, *here.words) for _ in range(processes)]
    codes = [ended(child)[0] for child in children]
    runs = runs_of(here.home)
    yield (
        f"{processes} processes on {' '.join(here.words)}",
        codes == [0] * processes and (len(runs) == 1 and tables_of(runs[0]) == here.tables),
    )
    shutil.rmtree(here.home / "runs")


def together_on_a_suite(home: Path, words: tuple[str, ...], points: int, processes: int) -> Trial:
    """One suite in many processes at once: each point is run once."""
    children = [started(home, *words) for _ in range(processes)]
    codes = [ended(child)[0] for child in children]
    runs = runs_of(home)
    right = codes == [0] * processes and len(runs) == points
    right = right and all(verify(folder) == [] for folder in runs)
    shutil.rmtree(home / "runs")
    return f"{processes} processes on a suite of {points}", right


def limited(here: Place, what: str, limit: Callable[[], object], may_pass: bool = True) -> Trial:
    """A command on a machine that lacks something: one line and exit code 3, and nothing lost."""
    code, said = ended(started(here.home, *here.words, limit=limit))
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    told = code == 3 and len(errors) == 1 and not any("Traceback" in line for line in lines)
    right = (told or (may_pass and code == 0)) and not lacking(here)
    shutil.rmtree(here.home / "runs", ignore_errors=True)
    return f"{what}: {errors[0][:70] if errors else f'code {code}'}", right


def ended_anyhow(here: Place, what: str, limit: Callable[[], object]) -> Trial:
    """A command under a limit, however it ends: said again without the limit, it is whole."""
    code, _ = ended(started(here.home, *here.words, limit=limit))
    right = states_are_true(here.home) and not lacking(here)
    shutil.rmtree(here.home / "runs", ignore_errors=True)
    return f"{what}: code {code}", right


def limited_disk(here: Place, what: str) -> Trial:
    """A command whose runs lie on a disk that is full or read-only: one line, code 3."""
    code, said = ended(started(here.home, *here.words))
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    right = code == 3 and len(errors) == 1 and "Traceback" not in said
    return f"{what}: {errors[0][:90] if errors else f'code {code}'}", right


def no_more_than(kind: int, most: int) -> Callable[[], object]:
    """A limit that the process sets itself."""
    return lambda: resource.setrlimit(kind, (most, most))


def memory_now() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
