"""Locks that end with the process that holds them, however it ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from threading import get_ident

from experiments._contract.errors import UsageError
from experiments._contract.progress import say


class Busy(UsageError):
    """Another process is at it, or this one already."""


_HELD: dict[Path, int] = {}
"""Locks of this process, with the thread that holds each: it would wait for itself."""


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock, which another process may have to give back first.

    Raises:
        Busy: another process holds it, and `wait` is not said; or this thread does.
    """
    if _HELD.get(path.absolute()) == get_ident():
        raise Busy(
            f"{path.parent}: this program already runs it; if the program is imported again while "
            'it runs, put the call under `if __name__ == "__main__":`'
        )
    file = _taken(path, wait)
    _HELD[path.absolute()] = get_ident()
    try:
        yield
    finally:
        del _HELD[path.absolute()]
        path.unlink(missing_ok=True)
        os.close(file)


def _taken(path: Path, wait: bool) -> int:
    """The open file whose lock is ours."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # another process has just removed the empty folder
        try:
            _take(file, path, wait)
        except BaseException:
            os.close(file)
            raise
        if _is(path, file):
            return file
        os.close(file)  # its last holder has taken the file away: once more with a new one


def _take(file: int, path: Path, wait: bool) -> None:
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise Busy(f"{path.parent}: another process runs this; wait, or use --fresh") from None
        say("Another process runs this; waiting for it (--fresh does not wait)")
        flock(file, LOCK_EX)


def _is(path: Path, file: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
