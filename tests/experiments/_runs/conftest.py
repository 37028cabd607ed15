"""A small experiment in a file of its own, and commands given in this process."""

import shutil
from functools import cache
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments._contract import progress
from experiments._runs import run as runs
from experiments._runs.arguments import build
from experiments._runs.finding import find
from models import load
from viz.drawing import Drawing

ASKING = '''"""How large are the weights?"""

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Experiment, Reading, Results, Table, UsageError


class Asking(Experiment):
    """Weights are counted."""

    count: int = Field(2, ge=1, le=9)
    """Rows."""
    refused: bool = False
    """Refuse to measure."""

    tables = {"rows": Table("A row.", key="row", columns={"row": "its number", "size": "a size"})}
    reading = Reading("No.", "Nothing.", "Nothing.", "Nothing.")

    def measure(self, model):
        if self.refused:
            raise UsageError("asking: this is refused")
        size = float(model.W_E.norm()) + self.seed
        rows = pd.DataFrame({"row": range(self.count), "size": size})
        return Results({"rows": rows}, {"sizes": np.full(3, size)})

    def headline(self, results):
        return f"The size is {results.tables['rows']['size'][0]:.3f}."

    def claims(self, results):
        found = Estimate(self.count, self.count - 1, self.count + 1, 7)
        said = Claim.descriptive(f"There are {self.count} rows.", found)
        more = "more rows (--count)"
        return [said, Claim.learned("There are more than two.", found, above=2, decide=more)]

    def figures(self, results):
        return {"The rows": results.tables["rows"]}
'''


loaded = cache(load)


@pytest.fixture(scope="session")
def asked(tmp_path_factory):
    """The file of the experiment, and a folder in which it ran once, on an adder."""
    home = tmp_path_factory.mktemp("asked")
    path = home / "asking.py"
    path.write_text(ASKING)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["run", str(path), "--model", "adder_6d_1l", "--label", "first"]) == 0
    return path


@pytest.fixture(scope="session")
def asking_kind(asked):
    return find(str(asked))


@pytest.fixture
def asking(asked, asking_kind, tmp_path, monkeypatch):
    """The class of the experiment; the current folder has a copy of its run.

    Further runs load their model once and save no images, which would take most of their time.
    """
    monkeypatch.setattr(runs, "load", loaded)
    shutil.copytree(asked.parent / "runs", tmp_path / "runs")
    monkeypatch.setattr(Drawing, "_save_images", lambda *_: (1, 1))
    monkeypatch.chdir(tmp_path)
    return asking_kind


@pytest.fixture
def first(asking) -> Path:
    """The folder of the run that is there."""
    (folder,) = Path("runs/asking").iterdir()
    return folder


@pytest.fixture
def tell(monkeypatch, capsys):
    """Carries out a command in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(progress, "_silent", False)

    def carry_out(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return carry_out


STUDY = '''"""What do random numbers average to?"""

import time

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table
from lenses.kept import Moments, PerPrompt


class Study(Experiment):
    """Random numbers are averaged, twice a batch, and again around their first mean."""

    needs_model = False
    count: int = Field(9, ge=1)
    """Batches."""
    pause: float = 0.0
    """Seconds for each."""
    leak: bool = False
    """Whether a batch looks at what came before it."""

    tables = {
        "numbers": Table("A number.", columns={"number": "it", "word": "its sign"}),
        "moments": Table(
            "A power.", key="cell", columns={"cell": "it", "mean": "m", "variance": "v"}, more="n"
        ),
    }
    reading = Reading("No.", "Nothing.", "Nothing.", "Nothing.")

    def measure(self, model):
        rows, first, kept = self.rows("numbers"), Moments(), PerPrompt()
        for batch in self.stream(range(self.count), (rows, first, kept), "first"):
            rng = np.random.default_rng(batch)
            time.sleep(self.pause)
            for size in (3, 5):
                seen = self.leak and len(kept._parts.get("last", []))
                numbers = rng.normal(size=size) / 3 + seen
                first.update(numbers[:, None] ** [1, 2, 3])
                words = np.where(numbers > 0, "plus", None)
                rows.append(pd.DataFrame({"number": numbers, "word": words}))
            kept.update(last=numbers[-1:])
        second, centre = Moments(), first.table("cell")["mean"][0]
        for batch in self.stream(kept["last"], second, "second"):
            time.sleep(self.pause)
            second.update(np.array([[batch - centre]]))
        moments = pd.concat([first.table("cell"), second.table("cell").assign(cell=9)])
        return Results({"numbers": rows, "moments": moments}, {"last": kept["last"]})

    def headline(self, results):
        return "They do."

    def claims(self, results):
        return [Claim.descriptive("They average.")]

    def figures(self, results):
        return {}
'''


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of random numbers, with fields, in a folder of its own."""
    path = tmp_path / "study.py"
    path.write_text(STUDY)
    kind = find(str(path))
    monkeypatch.chdir(tmp_path)
    return lambda **fields: build(kind, fields, "test")
