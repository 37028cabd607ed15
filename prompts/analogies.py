"""Analogies: relations as ordered pairs of words, shipped, of one's own, or between digits."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from prompts.given import table_of

SHIPPED = Path(__file__).with_name("analogies.toml")
COLUMNS = ("relation", "source", "target")
LIKE_THIS = 'write [[relation]], name = "capital", pairs = [["France", "Paris"], ...]'


@dataclass(frozen=True)
class WordPairs:
    """A relation: it leads from the first word of each pair to the second."""

    name: str
    pairs: tuple[tuple[str, str], ...]


def word_pairs(file: Path | None = None) -> list[WordPairs]:
    """The relations of `analogies.toml`, or of a file of one's own: like it, or a table.

    A table (.csv, .tsv, .jsonl) has a line for each pair and the columns relation, source, target.
    Raises ValueError, in one line that names the place of a mistake, for a file that cannot be
    read so.
    """
    path = file or SHIPPED
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        return _of_table(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no TOML that can be read ({error}); {LIKE_THIS}") from error
    listed = content.get("relation")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{path}: has no [[relation]]; {LIKE_THIS}")
    return [_relation(f"{path}, relation {number}", one) for number, one in enumerate(listed, 1)]


def _of_table(path: Path) -> list[WordPairs]:
    """Relations in the order in which the table names them."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for _, row in table_of(path, COLUMNS):
        name, source, target = (row[column].strip() for column in COLUMNS)
        pairs.setdefault(name, []).append((source, target))
    return [WordPairs(name, tuple(found)) for name, found in pairs.items()]


def _relation(where: str, stated: object) -> WordPairs:
    stated = stated if isinstance(stated, dict) else {}
    for field, kind in (("name", str), ("pairs", list)):
        if not stated.get(field) or not isinstance(stated[field], kind):
            raise ValueError(f"{where}: field {field!r} is missing or empty; {LIKE_THIS}")
    for number, pair in enumerate(stated["pairs"], start=1):
        words = pair if isinstance(pair, list) else []
        if len(words) != 2 or not all(isinstance(w, str) and w.strip() for w in words):
            raise ValueError(f"{where}, pair {number}: {pair!r} is not two words; {LIKE_THIS}")
    return WordPairs(stated["name"], tuple((one, two) for one, two in stated["pairs"]))


def digit_pairs() -> list[WordPairs]:
    """Relations between the digits, all that an adder has words for."""
    steps = {"next digit": 1, "plus two": 2, "plus three": 3, "minus two": -2}
    return [
        WordPairs(name, tuple((str(n), str(n + by)) for n in range(10) if 0 <= n + by <= 9))
        for name, by in steps.items()
    ]
