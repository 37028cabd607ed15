"""Which experiments there are, and what their source says of them; none of them is imported."""

import ast
import difflib
import importlib.util
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from experiments._contract.errors import UsageError

FOLDER = Path(__file__).parents[1]
GROUP = "carrylens.experiments"
IMPORTED = ("imported_patching",)
"""Experiments that only Python can start, with numbers of other libraries: not in `list`."""


@dataclass(frozen=True)
class FieldHelp:
    """A field as its source shows it: name, type, default, bounds and the string under it."""

    name: str
    annotation: str
    default: str
    bounds: str
    help: str


@dataclass(frozen=True)
class TableHelp:
    """A table as its source declares it: what a row is, and what tells the rows apart."""

    name: str
    about: str
    key: str


@dataclass(frozen=True)
class Summary:
    """An experiment in a line of `list`."""

    name: str
    runs_on: str
    """Which models it is for and how long it takes there, as its class says."""
    tables: int
    question: str


def names() -> list[str]:
    """The names of all registered experiments, in order."""
    return sorted({*own(), *installed()})


def question(name: str) -> str:
    """The first line of an experiment's docstring, read without importing it or reading on."""
    between = (tokenize.COMMENT, tokenize.NL)
    try:
        with tokenize.open(source(name)) as file:
            tokens = tokenize.generate_tokens(file.readline)
            first = next(token for token in tokens if token.type not in between)
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
        raise UsageError(f"{source(name)}: not a Python file: {error}") from None
    text = ast.literal_eval(first.string) if first.type == tokenize.STRING else ""
    return next(iter(text.strip().splitlines()), "")


def source(name: str) -> Path:
    """The file an experiment is written in.

    Raises:
        UsageError: there is no experiment of that name, with the nearest one that there is.
    """
    if name.endswith(".py") or "/" in name:
        return _existing(Path(name))
    if name in own():
        return own()[name]
    if name in IMPORTED:
        return FOLDER / "_runs" / f"{name}.py"
    if name in installed():
        spec = importlib.util.find_spec(installed()[name].module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise UsageError(f"no experiment {name!r}{did_you_mean(name, names())}; see `list`")


def field_help(name: str) -> list[FieldHelp]:
    """The fields of an experiment, its own first, read without importing it."""
    known = _class(source(name))
    bases = [known, *(_contract(base) for base in map(ast.unparse, known.bases) if base in BASES)]
    found: dict[str, FieldHelp] = {}
    for base in (*bases, _contract("Experiment")):
        found = found | {f.name: f for f in _fields(base) if f.name not in found}
    return list(found.values())


BASES = ("TextStudy", "Experiment")
"""Classes of the contract that an experiment is derived from."""


def _contract(name: str) -> ast.ClassDef:
    tree = _tree(FOLDER / "_contract" / "experiment.py")
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


def summary(name: str) -> Summary:
    """What `list` says of an experiment, read without importing it."""
    said = {
        node.target.id if isinstance(node, ast.AnnAssign) else ast.unparse(node.targets[0]): node
        for node in _class(source(name)).body
        if isinstance(node, ast.AnnAssign | ast.Assign)
    }
    runs_on = _constant(said["runs_on"].value) if "runs_on" in said else ""
    if not runs_on and "needs_model" in said and _constant(said["needs_model"].value) == "False":
        runs_on = "no model"
    return Summary(name, runs_on, len(table_help(name)), question(name))


def table_help(name: str) -> list[TableHelp]:
    """The tables of an experiment, read without importing it."""
    for node in _class(source(name)).body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        declared = getattr(node, "value", None)
        if any(ast.unparse(target) == "tables" for target in targets):
            known = isinstance(declared, ast.Dict)
            entries = zip(declared.keys, declared.values, strict=True) if known else ()
            return [_table(key, value) for key, value in entries if key is not None]
    return []


def refuse_unknown_fields(name: str, fields: Iterable[str], where: str) -> None:
    """Refuse a field that an experiment's source does not have, before anything is imported.

    Raises:
        UsageError: there is no such field. A class that inherits fields from another than those
            of the contract is not judged here.
    """
    if any(ast.unparse(base) not in BASES for base in _class(source(name)).bases):
        return
    known = [field.name for field in field_help(name)]
    for field in fields:
        if not field.isidentifier():
            raise UsageError(
                f"{where}: --{field} is no option; a value that begins with -- is written "
                "--prompts=VALUE, or stands in a file"
            )
        if field not in known:
            stem = source(name).stem
            raise UsageError(f"{where}: {stem} has no field {field!r}{did_you_mean(field, known)}")


def did_you_mean(word: str, known: list[str]) -> str:
    """A suggestion to hang on an error: ", did you mean 'digits'?", or nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


@cache
def own() -> dict[str, Path]:
    """The files of this checkout's experiments by name."""
    return {p.stem: p for p in FOLDER.glob("*.py") if not p.stem.startswith("_")}


@cache
def installed() -> dict[str, EntryPoint]:
    """The experiments of installed packages by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give an experiment's name or the path of its file")
    return path.resolve()


@cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{path}: not a Python file: {error}") from None


def _class(path: Path) -> ast.ClassDef:
    """The experiment's class in a file, which is the last one there.

    Raises:
        UsageError: the file is no Python, or has no such class.
    """
    classes = [n for n in _tree(path).body if isinstance(n, ast.ClassDef) and _is_experiment(n)]
    if not classes:
        raise UsageError(f"{path}: holds 0 Experiment classes, expected one")
    return classes[-1]


def _fields(known: ast.ClassDef) -> list[FieldHelp]:
    body = known.body
    return [
        FieldHelp(
            node.target.id,
            ast.unparse(node.annotation),
            _default(node),
            _bounds(node.value),
            _string(after),
        )
        for node, after in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation)
    ]


def _is_experiment(node: ast.ClassDef) -> bool:
    bases = [ast.unparse(base) for base in node.bases]
    return any(base in BASES or "Experiment" in base for base in bases)


def _default(node: ast.AnnAssign) -> str:
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field" and value.args:
        value = value.args[0]
    return ast.unparse(value) if value is not None else "required"


BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def _bounds(value: ast.expr | None) -> str:
    """What a `Field(...)` allows: "at least 1 and at most 12"."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    said = {word.arg: _constant(word.value) for word in keywords}
    return " and ".join(f"{words} {said[name]}" for name, words in BOUNDS.items() if said.get(name))


def _table(key: ast.expr, value: ast.expr) -> TableHelp:
    """A table from the call `Table("About.", key="layer head", ...)`."""
    arguments = value.args if isinstance(value, ast.Call) else []
    named = {word.arg: word.value for word in getattr(value, "keywords", [])}
    about, key_columns = [*arguments, None, None][:2]
    return TableHelp(
        _constant(key), _constant(about or named.get("about")),
        ", ".join(_constant(key_columns or named.get("key")).replace("?", "").split()),
    )  # fmt: skip


def _constant(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _string(node: ast.stmt | None) -> str:
    is_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return " ".join(str(node.value.value).split()) if is_string else ""
