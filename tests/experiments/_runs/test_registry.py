"""Listing and help read the source and import nothing heavy."""

import subprocess
import sys

import pytest

from experiments import UsageError
from experiments.__main__ import main
from experiments._runs import registry
from experiments._runs.finding import find

HEAVY = ("torch", "pandas", "transformers", "transformer_lens", "matplotlib", "scipy")


def imported(*words) -> tuple[str, set[str]]:
    """What a command prints, and the modules that it imports."""
    code = (
        "import sys; from experiments.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    out, _, modules = done.stdout.rstrip().rpartition("\n")
    return out, set(modules.split())


def test_list_shows_every_question_and_imports_nothing_heavy():
    out, modules = imported("list")
    assert len(out.splitlines()) == len(registry.names()) > 0
    assert all(line.endswith("?") for line in out.splitlines())
    assert not set(HEAVY) & modules


@pytest.mark.parametrize("name", registry.names())
def test_help_shows_every_field(name, capsys):
    assert main(["run", name, "--help"]) == 0
    out = capsys.readouterr().out
    for field in find(name).model_fields:
        assert f"--{field.replace('_', '-')} " in out


@pytest.mark.parametrize(
    "words",
    [
        ("digit_places", "--help"),
        ("digit_place",),
        ("digit_places", "--sed", "1"),
    ],
)
def test_help_and_what_is_misspelt_import_nothing_heavy(words):
    assert not set(HEAVY) & imported("run", *words)[1]


@pytest.mark.parametrize(
    ("source", "question"),
    [
        ('"""Why?"""\n', "Why?"),
        ('# a licence\n\n"""\nWhy so?\n\nMore.\n"""\nx = 1\n', "Why so?"),
        ('x = 1\n"""Why?"""\n', ""),
        ("", ""),
    ],
)
def test_the_question_is_the_first_line_of_the_docstring(source, question, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(source)
    assert registry.question(str(path)) == question


def test_help_in_source_equals_help_of_the_class(counting):
    kind = find(str(counting))
    for field in registry.field_help(str(counting)):
        described = kind.model_fields[field.name].description
        assert " ".join(described.split()) == field.help


def test_a_file_with_two_experiments_is_refused(tmp_path):
    path = tmp_path / "twins.py"
    base = "from experiments import Experiment\nclass A(Experiment): pass\n"
    path.write_text(base + "class B(Experiment): pass\n")
    with pytest.raises(UsageError, match=r"twins.py: holds 2 Experiment classes"):
        find(str(path))


def test_an_installed_package_registers_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        '"""Is it theirs?"""\nfrom experiments import Experiment\nclass Theirs(Experiment): pass\n'
    )
    facts = tmp_path / "theirs-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[carrylens.experiments]\ntheirs = theirs:Theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.installed.cache_clear()
    try:
        assert "theirs" in registry.names()
        assert registry.question("theirs") == "Is it theirs?"
        assert find("theirs").__name__ == "Theirs"
    finally:
        registry.installed.cache_clear()
