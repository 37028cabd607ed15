"""A folder that changes in one step: drawn aside, then exchanged."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from viz.files import aside_of, remove
from viz.manifests import LOCK

HERE, EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A copy of a run's folder to change; it takes the folder's place once all went well.

    Files are shared with the original until one is replaced, so nothing may write into them.
    """
    aside = aside_of(folder, "new")
    remove(aside)
    try:
        leave_out = shutil.ignore_patterns(LOCK)
        shutil.copytree(folder, aside, copy_function=_link, ignore=leave_out)
        yield aside
        _exchange(aside, folder)
    finally:
        remove(aside)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(one: Path, other: Path) -> None:
    """Each takes the other's name: in one step on Linux, else in three."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename and rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return
    between = one.with_name(f"{one.name}.between")
    os.rename(other, between)
    os.rename(one, other)
    os.rename(between, one)
