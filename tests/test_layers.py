"""The architecture as tables, checked against every import; and what is public is explained."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "experiments": {"lenses", "viz", "models", "prompts"},
    "experiments/_contract": {"lenses/statistics", "viz", "models", "prompts"},
    "experiments/_runs": {
        "experiments/_contract", "lenses/statistics", "models", "viz", "prompts",
    },
    "lenses": {"models", "prompts"},
    "lenses/statistics": set(),
    "lenses/patching": {"models", "prompts"},
    "lenses/heads": {"lenses/patching", "lenses/statistics", "models", "prompts"},
    "lenses/states": {"lenses", "lenses/heads", "lenses/statistics", "models", "prompts"},
    "lenses/flow": {
        "lenses", "lenses/heads", "lenses/patching", "lenses/statistics", "models", "prompts",
    },
    "lenses/addition": {
        "lenses", "lenses/heads", "lenses/patching", "lenses/states", "lenses/statistics", "models",
        "prompts",
    },
    "lenses/digits": {"lenses", "lenses/states", "lenses/statistics", "models", "prompts"},
    "models": {"prompts"},
    "models/planted": {"models", "prompts"},
    "models/train": {"models", "prompts"},
    "prompts": set(),
    "viz": set(),
    "viz/figures": {"viz"},
}  # fmt: skip
"""What each folder may import besides itself. A folder without subfolders named stands for all of
its subfolders; `lenses` alone stands for the files that lie in it (texts.py, kept.py)."""

WHOLE = {"viz", "models", "prompts", "experiments/_contract"}
"""Folders whose subfolders come along with them."""

ONLY_IN = {
    "transformer_lens": {"models"},
    "transformers": {"models"},
    "scipy": {"lenses"},
    "sklearn": set(),
    "seaborn": {"viz"},
    "matplotlib": {"viz", "experiments/_doctor.py"},
    "plotly": {"viz"},
    "circuitsvis": {"viz"},
    "jinja2": {"viz"},
    "torch": {"models", "lenses", "experiments"},
}
"""Where a library may be imported: folders or files, and all that lies below them."""

NEVER = {"lenses/statistics": {"torch"}, "lenses": {"models.planted"}}
"""What a folder and those below it never import, although others may: no lens plants a model."""

NAMES_THAT_SAY_NOTHING = {"utils", "common", "helpers", "core", "misc"}
TOP = {"experiments", "lenses", "models", "prompts", "viz"}
SOURCES = sorted(path for folder in TOP for path in (ROOT / folder).rglob("*.py"))


def imported(tree: ast.Module) -> set[str]:
    """Every module that is imported, wherever in the file it stands."""
    nodes = list(ast.walk(tree))
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    froms = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    return plain | froms


def folder_of(path: str) -> str:
    """The row of the table for a file: the folder it lies in, which must be named there."""
    folder = path.rpartition("/")[0]
    assert folder in MAY_IMPORT, f"{path}: name its folder in MAY_IMPORT, with what it may import"
    return folder


def module_folder(name: str) -> str | None:
    """The folder of a module of the project; None for a library."""
    if name.split(".")[0] not in TOP:
        return None
    parts = name.split(".")
    while parts and not (ROOT.joinpath(*parts)).is_dir():
        parts.pop()
    return "/".join(parts)


def problems(path: str, names: set[str]) -> list[str]:
    """What the imports of a file break, a sentence each."""
    mine, found = folder_of(path), []
    allowed = MAY_IMPORT[mine] | {mine}
    for name in sorted(names):
        folder, library = module_folder(name), name.split(".")[0]
        # An upper folder may import any folder below it, and what its own subfolders hold.
        reach = {folder, *(f for f in WHOLE if folder and folder.startswith(f + "/"))}
        below = mine in TOP and folder is not None and folder.split("/")[0] in allowed
        if folder is not None and not below and not reach & allowed:
            found.append(f"{path} imports {name}, but {mine} may import {sorted(allowed)}")
        around = {"/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 2)}
        if not around & ONLY_IN.get(library, around):
            found.append(f"{path} imports {library}; only {sorted(ONLY_IN[library])} may")
        for folder in around & NEVER.keys():
            if banned := [b for b in NEVER[folder] if f"{name}.".startswith(f"{b}.")]:
                found.append(f"{path} imports {banned[0]}; {folder} never does")
    return found


def test_imports_go_one_way():
    assert [
        problem
        for path in SOURCES
        for problem in problems(
            path.relative_to(ROOT).as_posix(), imported(ast.parse(path.read_text("utf-8")))
        )
    ] == []


def test_imports_make_no_circle():
    needs = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        tree = ast.parse(path.read_text("utf-8"))
        at_top = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
        needs[name.removesuffix(".__init__")] = imported(at_top)
    while free := {name for name, names in needs.items() if not names - {name} & needs.keys()}:
        needs = {k: names - free for k, names in needs.items() if k not in free}
    assert not needs, f"these import each other: {sorted(needs)}"


def test_no_module_is_named_after_nothing():
    assert [path for path in SOURCES if path.stem in NAMES_THAT_SAY_NOTHING] == []


def test_the_tables_catch_a_wrong_import():
    assert imported(ast.parse("def f():\n    from models.text import tokenize")) == {"models.text"}
    assert problems("viz/page.py", {"models.text"})
    assert problems("viz/figures/grids.py", {"torch"})
    assert problems("lenses/flow/scores.py", {"lenses.addition.roles"})
    assert problems("lenses/statistics/intervals.py", {"torch"})
    assert problems("lenses/heads/means.py", {"lenses.states.probes"})
    assert problems("lenses/states/fillers.py", {"models.planted.dialect"})
    assert not problems("lenses/heads/means.py", {"lenses.statistics.grid", "torch"})


def unexplained(tree: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[int, str]]:
    """Line and name of each public function, class and method that has no docstring."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        forms = [ast.unparse(one) for one in node.decorator_list]
        if node.name.startswith("_") or "overload" in forms:
            continue  # the function that overloads stand for explains them
        if not ast.get_docstring(node):
            yield node.lineno, within + node.name
        if isinstance(node, ast.ClassDef):
            yield from unexplained(node, f"{within}{node.name}.")


def test_what_is_public_is_explained():
    bare = [
        f"{path.relative_to(ROOT)}:{line} {name}: say in a sentence what it is or gives"
        for path in SOURCES
        for line, name in unexplained(ast.parse(path.read_text("utf-8")))
    ]
    assert not bare, "\n".join(bare)


def test_a_missing_docstring_is_seen():
    source = """
class A:
    def told(self):
        "What it gives."
    def bare(self): ...
    @overload
    def one(self, x: int): ...
    def _hidden(self): ...
    class B:
        "Explained."
        async def inner(self): ...
class _Hidden:
    def unseen(self): ...
def f():
    def g(): ...
"""
    found = list(unexplained(ast.parse(source)))
    assert found == [(2, "A"), (5, "A.bare"), (11, "A.B.inner"), (14, "f")]
