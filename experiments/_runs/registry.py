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


@dataclass(frozen=True)
class FieldHelp:
    """A field as its source shows it: name, type, default and the string under it."""

    name: str
    annotation: str
    default: str
    help: str


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
    if name in installed():
        spec = importlib.util.find_spec(installed()[name].module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise UsageError(f"no experiment {name!r}{did_you_mean(name, names())}; see `list`")


def field_help(name: str) -> list[FieldHelp]:
    """The fields of an experiment, its own first, read without importing it."""
    files = source(name), FOLDER / "_contract" / "experiment.py"
    mine, shared = (_fields(path) for path in files)
    return [*mine, *(f for f in shared if f.name not in {m.name for m in mine})]


def refuse_unknown_fields(name: str, fields: Iterable[str], where: str) -> None:
    """Refuse a field that an experiment's source does not have, before anything is imported.

    Raises:
        UsageError: there is no such field. A class that inherits fields from another than
            Experiment is not judged here.
    """
    if any(ast.unparse(base) != "Experiment" for base in _class(source(name)).bases):
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
    except (SyntaxError, ValueError) as error:
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


def _fields(path: Path) -> list[FieldHelp]:
    body = _class(path).body
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
