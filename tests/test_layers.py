"""The architecture as a table, checked against every import in the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "experiments": {"lenses", "viz", "models", "prompts"},
    "lenses": {"models", "prompts"},
    "models": {"prompts"},
    "prompts": set(),
    "viz": set(),
}

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

NAMES_THAT_SAY_NOTHING = {"utils", "common", "helpers", "core", "misc"}
SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))


def imported(tree: ast.Module) -> set[str]:
    """The first part of every absolute import, wherever in the file it stands."""
    nodes = list(ast.walk(tree))
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    froms = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    return {name.split(".")[0] for name in plain | froms}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_go_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    names = imported(ast.parse(path.read_text("utf-8")))
    assert names & MAY_IMPORT.keys() <= MAY_IMPORT[folder] | {folder}
    for name in names & ONLY_IN.keys():
        assert ONLY_IN[name] & {folder, relative(path)}, f"{name} is imported in {relative(path)}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_module_is_named_after_nothing(path):
    assert path.stem not in NAMES_THAT_SAY_NOTHING


def test_the_table_catches_a_wrong_import():
    assert imported(ast.parse("def f():\n    from models.text import tokenize")) == {"models"}
    assert "models" not in MAY_IMPORT["viz"]
