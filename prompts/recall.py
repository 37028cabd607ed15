"""Facts to be recalled, each with its subject and a rival of the answer: shipped or one's own."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prompts.given import rows_of

SHIPPED = Path(__file__).with_name("recall.toml")
BLANK = "{subject}"
NEEDED = ("relation", "prompt", "subject", "answer", "rival")


@dataclass(frozen=True)
class Recalled:
    """A fact that a prompt about its subject asks for."""

    relation: str
    """What it tells of its subject: "capital"."""
    prompt: str
    """With `{subject}`; it breaks off where the answer begins."""
    subject: str
    answer: str
    rival: str
    """A word of the same kind that is wrong here."""
    others: tuple[str, ...] = ()
    """Subjects with another answer that stand in for this one, where no other fact's does."""

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, for what cannot be asked."""
        told = [(name, getattr(self, name)) for name in NEEDED]
        for name, value in (*told, *(("others", other) for other in self.others)):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"field {name!r} is {value!r}, not a text")
        if self.prompt.count(BLANK) != 1:
            raise ValueError(f"field 'prompt' needs {BLANK} once: {self.prompt!r}")
        if self.answer == self.rival:
            raise ValueError(f"field 'rival' is the answer itself: {self.rival!r}")

    @property
    def text(self) -> str:
        """The prompt about its subject."""
        return self.prompt.replace(BLANK, self.subject)

    @property
    def span(self) -> tuple[int, int]:
        """The characters of the text at which the subject begins and ends."""
        start = self.prompt.index(BLANK)
        return start, start + len(self.subject)


def recalled_facts(file: Path | None = None) -> list[Recalled]:
    """The facts of `recall.toml`, or of a file of one's own: like it, or a .csv.

    A .csv has a line for each fact and the columns relation, prompt, subject, answer, rival.
    Raises ValueError, in one line, for a file that cannot be read so.
    """
    path = file or SHIPPED
    rows = _lines if path.suffix.lower() == ".csv" else _relations
    found = [_fact(where, row) for where, row in rows(path)]
    if not found:
        raise ValueError(f"{path}: has no fact; write one as prompts/recall.toml does")
    return found


def _fact(where: str, row: Mapping[str, object]) -> Recalled:
    if missing := [name for name in NEEDED if name not in row]:
        raise ValueError(f"{where}: no field {missing[0]!r}; it needs {', '.join(NEEDED)}")
    try:
        return Recalled(*(row[name] for name in NEEDED), others=tuple(row.get("others", ())))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    return ((f"{path}, line {line}", row) for line, row in rows_of(path))


def _relations(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each fact of each `[[relation]]`, by the relation's number and its own, from 1."""
    try:
        relations = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("relation")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(relations, list):
        wanted = 'name, prompt and facts = [["France", "Paris", ...'
        raise ValueError(f"{path}, no [[relation]]; write {wanted}")
    for number, relation in enumerate(relations, 1):
        told = {"relation": relation.get("name"), "prompt": relation.get("prompt")}
        told["others"] = relation.get("others", [])
        facts = relation.get("facts")
        if not isinstance(facts, list):
            raise ValueError(f"{path}, relation {number}: no field 'facts', a list of lists")
        if not isinstance(told["others"], list):
            raise ValueError(f"{path}, relation {number}: field 'others' is no list of subjects")
        for place, fact in enumerate(facts, 1):
            where = f"{path}, relation {number}, fact {place}"
            if not isinstance(fact, list) or len(fact) != 3:
                raise ValueError(f"{where}: {fact!r} is not [subject, answer, rival]")
            yield where, told | dict(zip(("subject", "answer", "rival"), fact, strict=True))
