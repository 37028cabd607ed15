"""Texts that language models read by default: short, of many kinds, each with its kind."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).with_name("texts.toml")


@dataclass(frozen=True)
class Text:
    """A text to be read and continued."""

    kind: str
    text: str


def shipped_texts() -> list[Text]:
    """The texts of `texts.toml`, kinds taking turns: any few of them are of several kinds."""
    kinds = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    longest = max(map(len, kinds.values()))
    return [
        Text(kind, texts[turn])
        for turn in range(longest)
        for kind, texts in kinds.items()
        if turn < len(texts)
    ]


def texts_in(path: Path) -> list[Text]:
    """The lines of a text file, each a text of the kind "given"; empty lines are left out.

    Raises ValueError where there is none.
    """
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path}: no line has text in it")
    return [Text("given", line) for line in lines]
