"""Files that appear whole or not at all, so that a reader never sees half of one."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = re.compile(r"\..+\.(\d+)\.tmp")


def aside_of(path: Path, use: str) -> Path:
    """A hidden name beside a path, one for each use and process; `sweep` removes those left."""
    return path.with_name(f".{path.name}.{use}.{os.getpid()}.tmp")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path beside `path`: what is written there takes its place in one step, or never.

    A link at `path` is replaced and not followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path, "new")
    remove(aside)  # of a killed process of the same number, or a link
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step that survives a power cut: all of it or none."""
    with written_aside(path) as aside:
        aside.write_bytes(content)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written anywhere below a folder."""
    for top, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            named = _ASIDE.fullmatch(name)
            if named and not _is_alive(int(named[1])):
                remove(Path(top, name))


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link itself; nothing if not there.

    A folder is gone under its name in one step: half of one would look damaged.
    """
    if path.is_dir() and not path.is_symlink():
        aside = aside_of(path, "gone")
        if aside.exists():  # of a killed process of the same number
            shutil.rmtree(aside)
        os.rename(path, aside)
        shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
