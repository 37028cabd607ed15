"""What the README shows is what there is."""

import re
import tomllib
from pathlib import Path
from string import Template

from experiments import _commands
from experiments._new import TEMPLATES
from experiments._runs import registry

ROOT = Path(__file__).parent.parent
SUITES = ("arithmetic", "heads", "representations", "flow")
README = (ROOT / "README.md").read_text("utf-8")


def test_the_experiment_shown_is_the_one_that_new_writes():
    template = Template((TEMPLATES / "experiment.py.txt").read_text("utf-8"))
    assert template.substitute(name="my_question", kind="MyQuestion").strip() in README


def test_python_shown_in_the_docs_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
            exec(compile(block, str(page), "exec"), {})


def test_every_command_shown_exists():
    lines = [line for line in README.splitlines() if line.startswith("python -m experiments ")]
    assert len(lines) > 8
    for line in lines:
        name = line.split()[3]
        assert hasattr(_commands, name) or hasattr(_commands, f"{name}_"), line


def test_every_experiment_shown_exists():
    shown = [
        line.split()[4]
        for line in README.splitlines()
        if line.startswith("python -m experiments run ")
    ]
    assert set(shown) - {"NAME"} <= set(registry.names())


def test_every_experiment_is_told_of_and_is_in_a_suite():
    rows = [line.split("`")[1] for line in README.splitlines() if line.endswith("? |")]
    assert rows == registry.names()
    suites = (ROOT / "configs/suites" / f"{name}.toml" for name in SUITES)
    runs = [run for suite in suites for run in tomllib.loads(suite.read_text("utf-8"))["run"]]
    named = [run["experiment"] for run in runs]
    listed = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    assert set(listed) == set(registry.names())
