"""The file that `new` writes runs, and its test passes, before a word of it is changed."""

import sys

import pytest

from experiments import UsageError
from experiments._new import write_experiment
from experiments._runs.finding import find


def test_what_new_writes_runs_and_its_test_passes(tmp_path, command, monkeypatch):
    experiment, test = write_experiment("longest_heads", tmp_path)
    code, out, err = command("run", experiment, "--model", "adder_6d_1l")
    assert code == 0, err
    assert (tmp_path / out.splitlines()[-1] / "index.html").exists()

    kind = find(str(experiment))
    monkeypatch.setitem(sys.modules, "experiments.longest_heads", sys.modules[kind.__module__])
    space = {}
    exec(test.read_text(), space)
    (only,) = (value for name, value in space.items() if name.startswith("test_"))
    only()


def test_new_overwrites_nothing(tmp_path):
    write_experiment("mine", tmp_path)
    with pytest.raises(UsageError, match=r"mine\.py: is there already"):
        write_experiment("mine", tmp_path)
