"""A small finished run, whole and with a figure, to damage."""

import shutil
from pathlib import Path

import pytest

from experiments._runs.finding import find
from experiments._runs.run import run
from tests.experiments.conftest import COUNTING

DRAWING = COUNTING.replace(
    "        return {}\n",
    "        numbers = results.tables['numbers']\n"
    "        numbers = numbers.assign(index=numbers.index)\n"
    "        return {'Numbers': scatter(numbers, x='number', y='index', caption='Each.')}\n",
).replace("from experiments import", "from viz import scatter\nfrom experiments import")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with the file of an experiment and `runs/`, in which it has one finished run."""
    home = tmp_path_factory.mktemp("finished")
    (home / "counting.py").write_text(DRAWING)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run(find("counting.py")())
    return home


@pytest.fixture
def home(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it that may be damaged, as the current folder."""
    copy = tmp_path / "home"
    shutil.copytree(finished, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def folder(home) -> Path:
    """The run's folder."""
    return next(Path("runs/counting").iterdir())
