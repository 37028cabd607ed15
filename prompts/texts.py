"""Texts that language models read by default: short, of many kinds, each with its kind."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from prompts.given import column_of, file_and_column, lines_of

SHIPPED = Path(__file__).with_name("texts.toml")


@dataclass(frozen=True)
class Text:
    """A text to be read and continued."""

    kind: str
    text: str
    where: str = ""
    """The file and line of a text that a user brought."""


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
    """The texts of a file, of the kind "given": the lines of a text file, or a column of a table.

    `file.csv:column` names the column of a .csv, .tsv or .jsonl file. Raises ValueError, in one
    line, that names the file and the place of a mistake.
    """
    file, column = file_and_column(path)
    is_table = file.suffix in (".csv", ".tsv", ".jsonl")
    found = column_of(file, column) if is_table else lines_of(file)
    return [Text("given", text, f"{file}, line {line}") for line, text in found]
