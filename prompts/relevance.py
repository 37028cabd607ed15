"""Prompts whose answer depends on a word that is known: planted, reworded, misled."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prompts.given import file_and_column, table_of

SHIPPED = Path(__file__).with_name("relevance.toml")

ROLES = ("key", "misleading")
"""Words of a prompt that are known."""

Kind = Literal["planted", "reworded", "misleading", "addition", "given"]


@dataclass(frozen=True)
class KeyedPrompt:
    """A prompt, and the word in it that decides its answer."""

    kind: Kind
    text: str
    key: str = ""
    """The word that decides, which is also the answer; empty where it is not known."""
    misleading: str = ""
    """A word that could be the answer and is not."""
    name: str = ""
    of: str = ""
    """Name of the prompt that this one rewords."""
    where: str = ""
    """The file and line of a prompt that a user brought."""

    def depends(self, answer: str) -> bool:
        """Whether an answer is known to depend on the key: it says it, or is that to a sum."""
        said = re.findall(r"\w+", answer)
        return self.kind == "addition" or self.key in said


def keyed_prompts() -> list[KeyedPrompt]:
    """The prompts of `relevance.toml`, in its order."""
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return [KeyedPrompt(**fields) for fields in shipped["prompt"]]


def keyed_prompts_in(path: Path) -> list[KeyedPrompt]:
    """The prompts of a table with the columns prompt, key and, where wanted, misleading.

    Raises ValueError, in one line, that names the file, line and column of a mistake.
    """
    file, _ = file_and_column(path)
    return [
        _keyed(f"{file}, line {line}", **row)
        for line, row in table_of(file, ("prompt", "key"), ("misleading",))
    ]


def _keyed(where: str, prompt: str, key: str, misleading: str) -> KeyedPrompt:
    for column, word in (("key", key), ("misleading", misleading)):
        if word and prompt.count(word) != 1:
            times = f"stands {prompt.count(word)} times in the prompt"
            raise ValueError(f"{where}, column {column!r}: {word!r} {times}; it takes exactly one")
    if misleading == key:
        raise ValueError(f"{where}, column 'misleading': {key!r} is the key; name another, or none")
    kind: Kind = "misleading" if misleading else "planted"
    return KeyedPrompt(kind, prompt, key, misleading, where=where)
