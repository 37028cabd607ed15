"""Analogies: relations as ordered pairs of words, shipped, of one's own, or between digits."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).with_name("analogies.toml")


@dataclass(frozen=True)
class WordPairs:
    """A relation: it leads from the first word of each pair to the second."""

    name: str
    pairs: tuple[tuple[str, str], ...]


def word_pairs(file: Path | None = None) -> list[WordPairs]:
    """The relations of `analogies.toml`, or of a file of one's own that looks the same.

    Raises ValueError, in one line, for a file that cannot be read so.
    """
    file = file or SHIPPED
    try:
        stored = tomllib.loads(file.read_text(encoding="utf-8"))["relation"]
        return [
            WordPairs(str(one["name"]), tuple((str(a), str(b)) for a, b in one["pairs"]))
            for one in stored
        ]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: no relations can be read ({type(error).__name__}: {error}); write "
            '[[relation]], name = "capital", pairs = [["France", "Paris"], ...]'
        ) from error


def digit_pairs() -> list[WordPairs]:
    """Relations between the digits, all that an adder has words for."""
    steps = {"next digit": 1, "plus two": 2, "plus three": 3, "minus two": -2}
    return [
        WordPairs(name, tuple((str(n), str(n + by)) for n in range(10) if 0 <= n + by <= 9))
        for name, by in steps.items()
    ]
