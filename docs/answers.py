"""What was found: answers of finished runs, kept in `answers.json` and shown in the README.

    python docs/answers.py RUNS

keeps the newest answer of each experiment on each shipped model in the folder RUNS, beside those
that are kept already, and writes the table of the README anew. Give it runs at full size.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from experiments._runs import registry  # noqa: E402  from this tree
from experiments._runs.finding import find  # noqa: E402
from models import cards  # noqa: E402
from viz.manifests import ManifestError, read_manifest  # noqa: E402
from viz.page import first_sentence  # noqa: E402

KEPT = HERE / "answers.json"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- answers: made by docs/answers.py -->", "<!-- end of answers -->"
ADDS = "qwen2.5_coder_0.5b"
"""The language model that adds: what it answers stands beside the default model's."""

Answer = dict[str, Any]


def answers(runs: Path) -> list[Answer]:
    """Answers that are kept and those of the finished runs in a folder, the newest of each model.

    In the order of experiments, then of models' names.
    """
    told = [*json.loads(KEPT.read_text("utf-8")), *map(_answer, finished(runs))]
    newest = {(a["experiment"], a["model"]): a for a in sorted(told, key=lambda a: a["finished"])}
    return [newest[key] for key in sorted(newest)]


def finished(runs: Path) -> Iterator[dict[str, Any]]:
    """Manifests of finished runs of shipped models, the newest first."""
    shipped = {card.name for card in cards()} | {"", "none"}
    for path in sorted(runs.glob("[!.]*/*/manifest.json"), reverse=True):
        try:
            told = read_manifest(path.parent)
        except ManifestError:
            continue  # `verify` tells what is damaged
        if told["status"] == "finished" and told["model"]["name"] in shipped:
            yield told


def _answer(told: dict[str, Any]) -> Answer:
    judged = [claim for claim in told["claims"] if claim["verdict"] and not claim["check"]]
    verdicts = Counter(claim["verdict"] for claim in judged)
    told_of = ("experiment", "headline", "command", "hash", "finished")
    model = {"model": told["model"]["name"], "verdicts": dict(sorted(verdicts.items()))}
    return {name: told[name] for name in told_of} | model


def readme_table(kept: list[Answer]) -> str:
    """A row for each experiment: its question, and what it found on its default model."""
    lines = ["| experiment | question | found |", "|---|---|---|"]
    for name in registry.names():
        default = find(name).model_fields["model"].default if find(name).needs_model else ""
        found = [a for a in kept if a["experiment"] == name and a["model"] in (default, "none", "")]
        found += [a for a in kept if a["experiment"] == name and a["model"] == ADDS != default]
        said = "<br>".join(map(_in_short, found))
        lines.append(f"| `{name}` | {registry.question(name)} | {said} |")
    return "\n".join(lines)


def _in_short(answer: Answer) -> str:
    model = f"`{answer['model']}`: " if answer["model"] not in ("", "none") else ""
    return model + escaped(first_sentence(answer["headline"])[0])


def escaped(text: str) -> str:
    """Text for a cell of a Markdown table: what a model says may hold Markdown's signs."""
    shown = "".join(f"\\{sign}" if sign in r"\`*_<>[]#$|" else sign for sign in text)
    return " ".join(shown.split())


def with_table(text: str, kept: list[Answer]) -> str:
    """The README with its table of answers made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{readme_table(kept)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    kept = answers(Path(sys.argv[1]))
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    README.write_text(with_table(README.read_text("utf-8"), kept), "utf-8")
