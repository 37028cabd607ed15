"""Listing and help read the source and import nothing heavy."""

import subprocess
import sys
import time

import pytest

from experiments import UsageError
from experiments._runs import registry as _registry

HEAVY = ("torch", "pandas", "transformer_lens", "matplotlib", "scipy")


def best_seconds(command, *words) -> float:
    """The fastest of three, since the machine may be busy."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        assert command(*words)[0] == 0
        times.append(time.monotonic() - start)
    return min(times)


def test_list_is_fast_and_shows_every_question(command):
    assert best_seconds(command, "list") < 0.5
    out = command("list")[1]
    assert len(out.splitlines()) == len(_registry.names()) > 0
    assert all(line.endswith("?") for line in out.splitlines())


@pytest.mark.parametrize("name", _registry.names())
def test_help_is_fast_and_shows_every_field(name, command):
    assert best_seconds(command, "run", name, "--help") < 2
    out = command("run", name, "--help")[1]
    for field in _registry.find(name).model_fields:
        assert f"--{field.replace('_', '-')} " in out


def test_listing_imports_nothing_heavy():
    code = "import sys; from experiments.__main__ import main; main(['list']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.splitlines()[-1].split())


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
    assert _registry.question(str(path)) == question


def test_help_in_source_equals_help_of_the_class(counting):
    kind = _registry.find(str(counting))
    for field in _registry.field_help(str(counting)):
        described = kind.model_fields[field.name].description
        assert " ".join(described.split()) == field.help


def test_a_file_with_two_experiments_is_refused(tmp_path):
    path = tmp_path / "twins.py"
    base = "from experiments import Experiment\nclass A(Experiment): pass\n"
    path.write_text(base + "class B(Experiment): pass\n")
    with pytest.raises(UsageError, match=r"twins.py: holds 2 Experiment classes"):
        _registry.find(str(path))


def test_an_installed_package_registers_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        '"""Is it theirs?"""\nfrom experiments import Experiment\nclass Theirs(Experiment): pass\n'
    )
    facts = tmp_path / "theirs-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[carrylens.experiments]\ntheirs = theirs:Theirs\n")
    monkeypatch.syspath_prepend(tmp_path)
    _registry._installed.cache_clear()
    try:
        assert "theirs" in _registry.names()
        assert _registry.question("theirs") == "Is it theirs?"
        assert _registry.find("theirs").__name__ == "Theirs"
    finally:
        _registry._installed.cache_clear()
