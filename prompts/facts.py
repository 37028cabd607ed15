"""Facts to be completed: small, shipped, each with what completes it and what a like fact has."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).with_name("facts.toml")


@dataclass(frozen=True)
class Fact:
    """A text that breaks off where one word makes it true."""

    text: str
    answer: str
    rival: str
    """A word of the same kind that does not."""


def shipped_facts() -> list[Fact]:
    """The facts of `facts.toml`, in order."""
    return [Fact(**fact) for fact in tomllib.loads(SHIPPED.read_text(encoding="utf-8"))["fact"]]
