"""The files of this project that an experiment is made of, followed through its imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from experiments._contract.errors import UsageError
from experiments._contract.files import sha256

ROOT = Path(__file__).resolve().parents[2]
DATA = (".toml", ".txt")
"""What a module reads from its own folder: prompts and texts."""
NOT_MEASURED = ("viz", "experiments/_runs")
"""Folders that draw and store numbers; what they do changes none."""
_imported_as: dict[Path, str] = {}
"""The hash of each file as it was when this process imported it."""


def files_behind(file: Path) -> list[Path]:
    """An experiment's file and every file of the project that it imports, near or far.

    Followed with `ast`, wherever in a file an import stands. Of a module that has data of its own
    name beside it (prompts/facts.py, prompts/facts.toml), the data too. Drawing is left out: it
    changes no number.
    """
    found, data, waiting = set(), set(), [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            imported, named = _named(path, path.stat().st_mtime_ns)
            waiting += imported
            data |= {path.with_suffix(end) for end in DATA} | {path.parent / n for n in named}
    return sorted(found | {path for path in data if path.is_file()})


def source_hash(file: Path) -> str:
    """One sha256 over the names and contents of all files behind an experiment."""
    lines = (f"{sha256(path)} {_name(path, file)}\n" for path in files_behind(file))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def remember(file: Path) -> None:
    """Note what the files behind an experiment are, before it is imported."""
    for path in files_behind(file):
        _imported_as.setdefault(path, sha256(path))
    _imported_as[file.resolve()] = sha256(file)  # its own file is read anew each time


def refuse_changed(file: Path) -> None:
    """Refuse to measure with code that is no longer what its files say.

    Raises:
        UsageError: a file behind the experiment has changed since this process imported it.
    """
    for path in files_behind(file):
        digest = sha256(path)
        if _imported_as.setdefault(path, digest) != digest:
            raise UsageError(
                f"{path}: changed while this process was at work; the same command, begun again, "
                "goes on with the new code"
            )


def _name(path: Path, file: Path) -> str:
    """Relative to the project, so that a checkout may lie anywhere; else relative to `file`."""
    for top in (ROOT, file.resolve().parent):
        if path.is_relative_to(top):
            return path.relative_to(top).as_posix()
    return path.name


@lru_cache(maxsize=4096)
def _named(path: Path, _mtime_ns: int) -> tuple[list[Path], list[str]]:
    """The project's files that a module imports, and the names of data files that it mentions."""
    nodes = list(ast.walk(ast.parse(path.read_bytes(), filename=str(path))))
    imported = [hit for name in _modules(nodes) for hit in _files(name, path.parent)]
    strings = (n.value for n in nodes if isinstance(n, ast.Constant))
    return imported, [text for text in strings if isinstance(text, str) and text.endswith(DATA)]


def _modules(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Dotted names that may be modules: of `from a import b`, both `a` and `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@lru_cache(maxsize=4096)
def _files(name: str, beside: Path) -> list[Path]:
    """The files of a module and of the packages around it, if they are the project's.

    A package whose names come on demand (`models.load`) hands on all that it mentions, since
    its own imports are followed like any other's.
    """
    level, found = len(name) - len(name.lstrip(".")), []
    for start in [beside.joinpath(*[".."] * (level - 1))] if level else [ROOT, beside]:
        at = start
        for part in filter(None, name.split(".")):
            at = at / part
            found += [
                path for path in (at.with_suffix(".py"), at / "__init__.py") if path.is_file()
            ]
            if not at.is_dir():
                break
    return [path for path in map(Path.resolve, found) if not _draws(path)]


def _draws(path: Path) -> bool:
    return any(path.is_relative_to(ROOT / folder) for folder in NOT_MEASURED)
