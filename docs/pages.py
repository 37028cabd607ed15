"""Pages of the documentation that are made when it is built: one for each experiment, and answers.

Nothing is copied by hand: the text is the experiment's own docstring, fields, tables and reading,
and the example is a finished run in `runs/`, if there is one.
"""

import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from answers import Answer, answers, escaped, finished  # beside this file

from experiments._runs import registry
from experiments._runs.finding import find

HERE = Path(__file__).parent
ROOT = HERE.parent
MADE = HERE / "experiments"
Manifests = list[dict[str, Any]]


def write_pages(runs: Path = ROOT / "runs") -> None:
    """Write `docs/experiments/*.md` and `docs/questions.md` anew."""
    MADE.mkdir(exist_ok=True)
    known, told = registry.names(), list(finished(runs))
    for old in MADE.glob("*.md"):
        old.unlink()
    for name in known:
        _write(MADE / f"{name}.md", "\n".join(experiment_page(name, _of(name, told))))
    _write(MADE / "index.md", "\n".join(index_page(known)))
    _write(HERE / "questions.md", "\n".join(questions_page(answers(runs))))


def experiment_page(name: str, runs: Manifests) -> Iterator[str]:
    """The question, how it is answered, fields, tables, how to read it, and an example."""
    kind = find(name)
    yield f"# {name}\n\n**{registry.question(name)}**\n"
    yield inspect.cleandoc(kind.__doc__ or "").replace("\n   ", "\n") + "\n"
    yield f"```sh\npython -m experiments run {name}\n```\n"
    if kind.runs_on:
        yield f"Runs on: {kind.runs_on}.\n"
    yield "## How to read it\n"
    for title, text in kind.reading.lines().items():
        yield f"- **{title.replace('_', ' ').capitalize()}**: {text}"
    yield "\n## Fields\n\n| field | default | what it is |\n|---|---|---|"
    for field in registry.field_help(name):
        about = f"{field.help}{f' ({field.bounds})' if field.bounds else ''}"
        yield f"| `{field.name}` | `{_cell(field.default)}` | {_cell(about)} |"
    yield "\n## Tables\n"
    for table, declared in kind.tables.items():
        yield f"### {table}\n\n{declared.about}\n\n| column | what it is |\n|---|---|"
        for column, meaning in declared.meanings().items():
            key = " (key)" if column in declared.keys else ""
            yield f"| `{column}`{key} | {_cell(meaning)} |"
        yield ""
    yield from _example(runs)


def _example(runs: Manifests) -> Iterator[str]:
    """The newest run of a shipped model: its command, its answer, its evidence."""
    if not runs:
        return
    told = runs[0]
    yield f"## An example\n\n```text\n{told['command']}\n```\n\n{escaped(told['headline'])}\n"
    yield "| verdict | claim | estimate | 95 % interval | n |\n|---|---|---|---|---|"
    for claim in told["claims"]:
        if claim["check"]:
            continue
        ends = "" if claim["low"] is None else f"{claim['low']:.3g} to {claim['high']:.3g}"
        value = "" if claim["estimate"] is None else f"{claim['estimate']:.3g}"
        about = f"{claim['label']}: " if claim["label"] else ""
        said = escaped(about + claim["sentence"])
        yield f"| {claim['verdict'] or 'found'} | {said} | {value} | {ends} | {claim['n']:,} |"


def _of(name: str, told: Manifests) -> Manifests:
    return [one for one in told if one["experiment"] == name]


def index_page(names: list[str]) -> Iterator[str]:
    """Every experiment with its question."""
    yield "# Experiments\n\nEach page is made from the experiment's own file.\n"
    yield "| experiment | question |\n|---|---|"
    yield from (f"| [{name}]({name}.md) | {registry.question(name)} |" for name in names)
    listed = "\n".join(names)
    yield f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```"


def questions_page(kept: list[Answer]) -> Iterator[str]:
    """Questions of the research notes, the experiments for them, and what was found."""
    yield "# Questions and answers\n"
    yield (
        "The questions that this project began with, the experiment that asks each of them, and "
        "its answer on models that have a card here. Answers are kept in `docs/answers.json`; "
        "those of finished runs in `runs/` take their place when this page is built.\n"
    )
    yield "| question | experiment | model | answer | claims |\n|---|---|---|---|---|"
    for asked in tomllib.loads((HERE / "questions.toml").read_text("utf-8"))["question"]:
        name = asked["experiment"]
        start = f"| {asked['words']} | [{name}](experiments/{name}.md) |"
        rows = [_found(answer) for answer in kept if answer["experiment"] == name]
        yield from (f"{start} {row} |" for row in rows or [" | | "])


def _found(answer: Answer) -> str:
    """Model, headline, and how many claims hold, fail or stay open."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in answer["verdicts"].items())
    return f"{answer['model']} | {escaped(answer['headline'])} | {counts}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", "utf-8")
