"""Sentences with an adjective and its noun, and ones where it describes something else."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SHIPPED = Path(__file__).with_name("adjectives.toml")


class Wording(NamedTuple):
    """A sentence, and the characters at which its adjective and its noun begin and end."""

    text: str
    adjective: tuple[int, int]
    noun: tuple[int, int]


@dataclass(frozen=True)
class Described:
    """An adjective before a noun: its own in one sentence, not in the other (the control)."""

    frame: str
    """Sentences of one frame share their other words."""
    own_frame: str
    """With `{adjective}` and, after it, `{noun}`."""
    control_frame: str
    adjective: str
    noun: str
    instead: tuple[str, ...]
    """Adjectives it may be exchanged for."""

    @property
    def own(self) -> Wording:
        """The sentence in which the adjective describes the noun."""
        return _worded(self.own_frame, self.adjective, self.noun)

    @property
    def control(self) -> Wording:
        """The sentence in which it describes something else."""
        return _worded(self.control_frame, self.adjective, self.noun)

    def changed(self, instead: str) -> tuple[Wording, Wording]:
        """Both sentences with another adjective."""
        return (
            _worded(self.own_frame, instead, self.noun),
            _worded(self.control_frame, instead, self.noun),
        )


def _worded(frame: str, adjective: str, noun: str) -> Wording:
    before, rest = frame.split("{adjective}")
    between, after = rest.split("{noun}")
    start = len(before)
    end = start + len(adjective)
    noun_at = (end + len(between), end + len(between) + len(noun))
    return Wording(before + adjective + between + noun + after, (start, end), noun_at)


def described_nouns() -> list[Described]:
    """The sentences of `adjectives.toml`, in its order."""
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return [
        Described(
            frame["name"],
            frame["own"].replace("{between}", words.get("own", "")),
            frame["control"].replace("{between}", words.get("control", "")),
            words["adjective"],
            words["noun"],
            tuple(words["instead"]),
        )
        for frame in shipped["frame"]
        for words in frame["words"]
    ]
