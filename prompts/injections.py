"""Words that imply an answer, the questions that ask for it, and a prompt that repeats a word."""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SHIPPED = Path(__file__).with_name("injections.toml")
BLANK = "?"


@dataclass(frozen=True)
class Implied:
    """A word, a question with a blank for it, and the answer that it implies."""

    relation: str
    ask: str
    """A text with `?` in the place of the word, which breaks off where the answer comes."""
    word: str
    answer: str


@dataclass(frozen=True)
class Injections:
    """What `injections.toml` holds."""

    copy: str
    """A prompt that repeats what stands at its `?`."""
    frames: tuple[str, ...]
    """Texts that end in `?`."""
    random: tuple[str, ...]
    """Words that imply none of the answers."""
    known: tuple[Implied, ...]

    @cached_property
    def texts(self) -> list[str]:
        """Every text with its blanks, once."""
        return list(dict.fromkeys([self.copy, *self.frames, *(one.ask for one in self.known)]))

    @cached_property
    def words(self) -> list[str]:
        """Every word that can fill a blank, and every answer, once."""
        pairs = [word for one in self.known for word in (one.word, one.answer)]
        return list(dict.fromkeys([*pairs, *self.random]))


def shipped_injections() -> Injections:
    """The words and texts of `injections.toml`, in order."""
    told = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    known = tuple(
        Implied(relation["name"], relation["ask"], word, answer)
        for relation in told["relation"]
        for word, answer in relation["known"]
    )
    return Injections(told["copy"], tuple(told["frames"]), tuple(told["random"]), known)
