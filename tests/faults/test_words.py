"""Whatever is typed or lies in a file that a command reads: one line, exit code 2, nothing run."""

import os
from pathlib import Path

import pytest

from experiments.__main__ import main

CLASS = '"""What?"""\nimport experiments\nclass Mine(experiments.Experiment):\n    pass\n'
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
    "recurses.py": CLASS + "def again():\n    again()\nagain()\n",
    "lacks.py": CLASS + "import no_such_module_here\n",
    "stops.py": CLASS + 'raise SystemExit("no")\n',
    "leaves.py": CLASS + "import sys\nsys.exit(0)\n",
    "throws.py": CLASS + 'raise BaseException("no")\n',
    "twice.py": CLASS + CLASS.replace("Mine", "Other"),
    "minus.py": "x = " + "-" * 100_000 + "1\n",
    "half.py": CLASS,
    "indented.py": '"""What?"""\n  x = 1\n',
    "table.toml": "[run]",
    "text.toml": 'run = "addition_accuracy"',
    "nested.toml": '[[run]]\nexperiment = [["addition_accuracy"]]',
    "names_folder.toml": '[[run]]\nexperiment = "./config"',
    "names_toml.toml": '[[run]]\nexperiment = "one.toml"',
    "inline.toml": "a = " + "{a = " * 5_000,
    "deep/config.json": '{"a": ' * 5_000,
    "deep.jsonl": '{"text": ' * 5_000,
    "minus.toml": '[[run]]\nexperiment = "addition_accuracy"\nseed = -' + "9" * 5_000,
    "digits.jsonl": "9" * 5_000,
    "digits/config.json": '{"hidden_size": ' + "9" * 5_000 + "}",
    "wide.toml": '[[run]]\nexperiment = "addition_accuracy"\n' + "k" * 3_000 + " = 1",
    "text/config.json": '"llama"',
    "empty/config.json": "",
}
BYTES = {
    "latin.txt": b"caf\xe9\n",
    "latin.toml": b'[[run]]\nexperiment = "caf\xe9"\n',
    "latin.py": b'"""Caf\xe9?"""\n',
    "latin/config.json": b'{"model_type": "\xe9"}',
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
    # Two more of each kind.
    ["draw", LONG], ["show", LONG], ["rm", LONG], ["merge", LONG], ["compare", LONG, LONG],
    ["run", "head_contributions", "--prompts-file", f"{LONG}.txt"],
    ["suite", "a\0b"], ["new", "a\0b"], ["export", "a\0b"],
    ["run", "head_contributions", "--prompts-file", "~nosuchuser/x.txt"],
    ["run", "head_contributions", "--model", "~nosuchuser/x"], ["suite", "~nosuchuser/x.toml"],
    ["draw", "syntax.py"], ["rm", "syntax.py"], ["export", "syntax.py"], ["show", "syntax.py"],
    ["suite", "table.toml"], ["suite", "text.toml"], ["suite", "nested.toml"],
    ["suite", "names_folder.toml"], ["suite", "names_toml.toml"], ["suite", "."],
    ["new", "é" * 200], ["new", ""], ["new", "a/" * 200], ["new", "1" * 300],
    ["suite", "inline.toml"], ["check", "deep"], ["check", "inline.toml"],
    ["run", "head_contributions", "--prompts-file", "deep.jsonl:text"],
    ["run", "head_contributions", "--prompts-file", "digits.jsonl:text"],
    ["suite", "minus.toml"], ["check", "digits"],
    ["run", "addition_accuracy", "--seed", "-" + "9" * 5_000],
    ["run", "addition_accuracy", "--shard", "1/" + "9" * 5_000],
    ["run", "leaves.py"], ["run", "throws.py"], ["run", "twice.py"], ["run", "minus.py"],
    ["run", "recurses.py"], ["run", "lacks.py"], ["run", "stops.py"],
    ["run", "half.py"], ["run", "indented.py"],
    ["run", "\udcff.py"], ["verify", "\udcff"], ["suite", "latin.toml"], ["run", "latin.py"],
    ["check", "latin"], ["run", "head_contributions", "--prompts-file", "latin.txt"],
    ["check", "text"], ["check", "empty"],
    ["suite", "wide.toml"], ["run", "addition_accuracy", "--" + LONG, "1"],
    ["run", "head_contributions", "--prompts", LONG],
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, content in BYTES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:30])
def test_it_is_refused_in_one_line(words, here, capsys):
    before = sorted(here.rglob("*"))
    code = main(words)
    *told, line = capsys.readouterr().err.splitlines()
    assert (code, line[:7]) == (2, "error: ")
    assert all(said.startswith(f"{words[1]}: ") for said in told), "but for progress of a run"
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
