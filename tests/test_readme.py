"""What the README shows is what there is."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from string import Template

import pytest

from experiments import _commands
from experiments.__main__ import _parser
from experiments._new import TEMPLATES
from experiments._runs import registry
from experiments._runs.words import leading, split
from models import cards

ROOT = Path(__file__).parent.parent
SUITES = ("arithmetic", "heads", "representations", "flow")
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\S+)\n(.*?)^```$", re.S | re.M)


def parser():
    """The parser of the command line."""
    return _parser()[0]


def written_by_new() -> str:
    """The file that `new my_question` writes."""
    template = Template((TEMPLATES / "experiment.py.txt").read_text("utf-8"))
    return template.substitute(name="my_question", kind="MyQuestion").strip()


def test_the_experiment_shown_is_the_one_that_new_writes():
    assert written_by_new() in (ROOT / "docs" / "extending.md").read_text("utf-8")


def blocks(language: str) -> list[tuple[Path, str]]:
    """Every code block of a language in the README and the docs, with its page."""
    return [
        (page, block)
        for page in PAGES
        for of, block in BLOCK.findall(page.read_text("utf-8"))
        if of == language
    ]


def test_every_block_is_of_a_kind_that_a_test_runs_or_is_output():
    told = {of for page in PAGES for of, _ in BLOCK.findall(page.read_text("utf-8"))}
    assert told <= {"python", "sh", "toml", "text", "{toctree}", "{eval-rst}"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_shown_in_the_docs_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for of, block in blocks("python"):
        # The file that `new` writes is run by its own test: here it would not be in a file.
        if of == page and block.strip() != written_by_new():
            exec(compile(block, str(page), "exec"), {"__name__": "shown"})


def test_toml_shown_in_the_docs_is_toml():
    assert all(tomllib.loads(block) for _, block in blocks("toml"))


def test_every_command_shown_would_be_understood():
    lines = [
        (page, line.partition("   #")[0])
        for page, block in blocks("sh")
        for line in block.splitlines()
        if "-m experiments " in line
    ]
    assert len(lines) > 25
    for page, line in lines:
        words = shlex.split(line.partition("-m experiments ")[2])
        arguments, rest = parser().parse_known_args(words)
        assert not rest or arguments.act is _commands.run, (page, line)
        for name in [*getattr(arguments, "names", ())]:
            if name in registry.names():
                registry.refuse_unknown_fields(name, split(leading(rest)[1]), line)
            else:
                assert name == "my_question" or "/" in name, (page, line)


def test_every_target_shown_is_made():
    made = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for page, block in blocks("sh"):
        assert {*re.findall(r"^make ([a-z0-9-]+)", block, re.M)} <= {*made}, page


def test_every_experiment_shown_exists():
    shown = [
        line.split()[4]
        for line in README.splitlines()
        if line.startswith("python -m experiments run ")
    ]
    assert set(shown) - {"NAME"} <= set(registry.names())


def test_the_table_of_answers_is_that_of_the_kept_answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import answers

    kept = json.loads(answers.KEPT.read_text("utf-8"))
    assert answers.with_table(README, kept) == README
    shipped = {card.name for card in cards()} | {""}
    for answer in kept:
        assert answer["model"] in shipped, answer
        assert answer["headline"], answer
        words = shlex.split(answer["command"].partition("-m experiments run ")[2])
        registry.refuse_unknown_fields(words[0], split(words[1:]), answer["command"])
    assert {answer["experiment"] for answer in kept} == set(registry.names())


def test_every_experiment_is_in_a_suite():
    suites = (ROOT / "configs/suites" / f"{name}.toml" for name in SUITES)
    runs = [run for suite in suites for run in tomllib.loads(suite.read_text("utf-8"))["run"]]
    named = [run["experiment"] for run in runs]
    listed = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    assert set(listed) == set(registry.names())
