"""Whatever is typed or lies in a file that a command reads: one line, exit code 2, nothing run."""

import os
from pathlib import Path

import pytest

from experiments.__main__ import main

FILES = {
    "noclass.py": '"""What?"""\nx = 1\n',
    "syntax.py": "def (\n",
    "exits.py": '"""What?"""\nimport sys\nsys.exit(0)\n',
    "raises.py": '"""What?"""\nraise BaseException("no")\n',
    "nul.py": '"""What?"""\n\0',
    "one.toml": "run = [1]",
    "names_text.toml": '[[run]]\nexperiment = "./names.txt"',
    "names.txt": "no Python",
    "passwd.toml": '[[run]]\nexperiment = "/etc/passwd"',
    "number.toml": "[[run]]\nexperiment = 3",
    "deep.toml": "a = " + "[" * 5_000,
    "digits.toml": '[[run]]\nexperiment = "addition_accuracy"\nuniform = ' + "9" * 5_000,
    "nul.toml": '[[run]]\nexperiment = "addition_accuracy"\nmodel = "a\\u0000b"',
    "config/config.json": '{"a": ',
    "list/config.json": "[1]",
}
LONG = "x" * 5_000
COMMANDS = [
    ["run", LONG], ["run", f"{LONG}.py"], ["run", "a\0b.py"], ["run", "~nosuchuser/x.py"],
    ["verify", "~nosuchuser/x"], ["verify", "syntax.py"], ["verify", LONG], ["draw", "a\0b"],
    ["suite", "one.toml"], ["suite", "names_text.toml"], ["suite", "passwd.toml"],
    ["suite", "number.toml"], ["suite", "deep.toml"], ["suite", "digits.toml"],
    ["suite", "nul.toml"], ["suite", LONG], ["new", "a" * 300], ["check", LONG],
    ["check", "a\0b"], ["check", "~nosuchuser/x"], ["check", "deep.toml"], ["check", "config"],
    ["check", "list"], ["check", f"{LONG}.gguf"],
    ["run", "addition_accuracy", "--uniform", "9" * 5_000],
    ["run", "addition_accuracy", "--model", "\udcff"],
    ["run", "addition_accuracy", "--preset", "deep.toml"],
    ["run", "noclass.py"], ["run", "syntax.py"], ["run", "exits.py"], ["run", "raises.py"],
    ["run", "nul.py"], ["run", "./names.txt"], ["run", "."], ["run", "/dev/null"],
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:30])
def test_it_is_refused_in_one_line(words, here, capsys):
    before = sorted(here.rglob("*"))
    code = main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, line[:7]) == (2, "error: ")
    assert len(line) <= 1_000
    assert sorted(p for p in here.rglob("*") if "__pycache__" not in p.parts) == before


def test_a_folder_of_runs_that_is_a_file_is_a_fault_of_the_machine(here, capsys):
    Path("runs").write_text("mine")
    assert main(["run", "addition_accuracy", "--model", "adder_6d_1l"]) == 3
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert "is a file, or a link to nothing, where a folder is needed" in line
    os.unlink("runs")
    Path("runs").symlink_to("nowhere")
    assert main(["run", "addition_accuracy", "--model", "adder_6d_1l"]) == 3
