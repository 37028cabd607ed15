"""Finding experiments: by file stem, by path, or by entry point; listing imports none of them."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import sys
import tokenize
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from experiments._contract.experiment import Experiment, UsageError

FOLDER = Path(__file__).parents[1]
GROUP = "carrylens.experiments"


@dataclass(frozen=True)
class FieldHelp:
    """A field as its source shows it: name, type, default and the string under it."""

    name: str
    annotation: str
    default: str
    help: str


def names() -> list[str]:
    """The names of all registered experiments, in order."""
    return sorted({*_own(), *_installed()})


def question(name: str) -> str:
    """The first line of an experiment's docstring, read without importing it or reading on."""
    between = (tokenize.COMMENT, tokenize.NL)
    with tokenize.open(source(name)) as file:
        tokens = tokenize.generate_tokens(file.readline)
        first = next(token for token in tokens if token.type not in between)
    text = ast.literal_eval(first.string) if first.type == tokenize.STRING else ""
    return next(iter(text.strip().splitlines()), "")


def source(name: str) -> Path:
    """The file an experiment is written in.

    Raises:
        UsageError: there is no experiment of that name, with the nearest one that there is.
    """
    if name.endswith(".py") or "/" in name:
        return _existing(Path(name))
    if name in _own():
        return _own()[name]
    if name in _installed():
        spec = importlib.util.find_spec(_installed()[name].module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise UsageError(f"no experiment {name!r}{did_you_mean(name, names())}; see `list`")


def find(name: str) -> type[Experiment]:
    """The class of an experiment, imported.

    Raises:
        UsageError: the file is missing, does not import, or holds no experiment or several.
    """
    path = source(name)
    if name in _installed() and name not in _own():
        return _installed()[name].load()
    module = _import(path)
    local = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Experiment)]
    found = [c for c in local if c.__module__ == module.__name__]
    if len(found) != 1:
        raise UsageError(f"{path}: holds {len(found)} Experiment classes, expected one")
    return found[0]


def field_help(name: str) -> list[FieldHelp]:
    """The fields of an experiment, its own first, read without importing it."""
    files = source(name), FOLDER / "_contract" / "experiment.py"
    own, shared = (_fields(_tree(path)) for path in files)
    return [*own, *(f for f in shared if f.name not in {o.name for o in own})]


def did_you_mean(word: str, known: list[str]) -> str:
    """A suggestion to hang on an error: ", did you mean 'digits'?", or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


@cache
def _own() -> dict[str, Path]:
    return {p.stem: p for p in FOLDER.glob("*.py") if not p.stem.startswith("_")}


@cache
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give an experiment's name or the path of its file")
    return path.resolve()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def _import(path: Path) -> ModuleType:
    if path.parent == FOLDER:
        return importlib.import_module(f"experiments.{path.stem}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        raise UsageError(f"{path}: does not import: {error}") from error
    return module


def _fields(tree: ast.Module) -> list[FieldHelp]:
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and _is_experiment(n)]
    body = classes[-1].body if classes else []
    return [
        FieldHelp(node.target.id, ast.unparse(node.annotation), _default(node), _string(after))
        for node, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
    ]


def _is_experiment(node: ast.ClassDef) -> bool:
    return node.name == "Experiment" or any("Experiment" in ast.unparse(b) for b in node.bases)


def _default(node: ast.AnnAssign) -> str:
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field" and value.args:
        value = value.args[0]
    return ast.unparse(value) if value is not None else "required"


def _string(node: ast.stmt | None) -> str:
    is_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return " ".join(str(node.value.value).split()) if is_string else ""
