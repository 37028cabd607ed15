"""Progress on stderr: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 5.0
_silent = False


def be_silent() -> None:
    """Show no progress in this process from now on."""
    global _silent
    _silent = True


def say(message: str) -> None:
    """Print one line of progress."""
    if not _silent:
        print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """A function that is told how many steps are done; `done` of them were done before."""
    shown = sys.stderr.isatty() and not _silent
    with _bar(label, total, done) if shown else _lines(label, total, done) as tell:
        yield tell


@contextmanager
def _bar(label: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, *times, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda steps: bar.update(task, completed=steps)


@contextmanager
def _lines(label: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()

    def tell(steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            say(f"{label}: {_of(steps, total)}, {now - start:.0f} s{_left(steps)}")

    def _left(steps: int) -> str:
        if total is None or steps <= done:
            return ""
        return f", about {(total - steps) * (time.monotonic() - start) / (steps - done):.0f} s left"

    if done:
        say(f"{label}: resumed at {_of(done, total)}")
    yield tell
    say(f"{label}: done in {time.monotonic() - start:.1f} s")


def _of(steps: int, total: int | None) -> str:
    return f"{steps}/{total}" if total is not None else f"{steps}"
