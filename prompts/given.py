"""Texts and tables that a user brings: .txt, .csv, .tsv, .jsonl; mistakes are named by line."""

import csv
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

NAMED = re.compile(r"(?P<file>.+\.(?:csv|tsv|jsonl)):(?P<column>.+)")
USUAL = ("text", "prompt")
"""Columns that hold the texts where none is named."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}

Row = tuple[int, dict[str, str]]
"""The line that a row begins in, and its words by column."""


def file_and_column(path: Path) -> tuple[Path, str]:
    """The file, and the column that `file.csv:column` names; empty where none is named."""
    named = NAMED.fullmatch(path.name)
    if named is None or path.is_file():
        return path, ""
    return path.with_name(named["file"]), named["column"]


def lines_of(path: Path) -> list[tuple[int, str]]:
    r"""The lines of a text file that are not empty, with their numbers, counted from 1.

    Only \n and \r\n end a line, and a byte order mark in front is no text. Raises ValueError, in
    one line, for a file that cannot be read, is not UTF-8 or has no text in it.
    """
    lines = enumerate((line.removesuffix("\r") for line in _read(path).split("\n")), start=1)
    found = [(number, line) for number, line in lines if line.strip()]
    if not found:
        raise ValueError(f"{path}: no line has text in it")
    return found


def column_of(path: Path, column: str) -> list[tuple[int, str]]:
    """The words in one column of a .csv, .tsv or .jsonl file, with the line of each.

    Without a name it is the only column, or the one called text or prompt. Raises ValueError, in
    one line, that names the file, the line and the column of a mistake.
    """
    rows = list(rows_of(path))
    known = list(dict.fromkeys(name for _, row in rows for name in row))
    usual = [name for name in USUAL if name in known]
    name = column or (known[0] if len(known) == 1 else (usual or [""])[0])
    if name not in known:
        asked = f"no column {name!r}" if name else "which column holds the texts?"
        some = f"{', '.join(known)} ({path.name}:{known[0]})"
        raise ValueError(f"{path}: {asked}; name one of {some}")
    return [(line, _words(path, line, row, name)) for line, row in rows]


def table_of(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a .csv, .tsv or .jsonl file that has these columns, with the line of each.

    Optional columns may be missing, or empty in some rows. Raises ValueError, in one line, for
    any other column and for an empty cell that is needed.
    """
    found = []
    for line, row in rows_of(path):
        if other := sorted(row.keys() - {*needed, *optional}):
            listed = ", ".join([*needed, *(f"{name} (may be left out)" for name in optional)])
            raise ValueError(f"{path}, line {line}: column {other[0]!r} is none of {listed}")
        own = {name: _words(path, line, row, name) for name in needed}
        found.append((line, own | {name: row.get(name) or "" for name in optional}))
    return found


def rows_of(path: Path) -> Iterator[Row]:
    """Every row of a .csv, .tsv or .jsonl file; raises ValueError for a mistake, with its line."""
    text = _read(path)
    read = _json_rows if path.suffix == ".jsonl" else _csv_rows
    if path.suffix not in (*SEPARATORS, ".jsonl"):
        raise ValueError(f"{path}: is no table; give a .csv, .tsv or .jsonl file")
    rows = list(read(path, text))
    if not rows:
        raise ValueError(f"{path}: holds no rows; write one a line below the names of columns")
    return iter(rows)


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    lines = StringIO(text, newline="\n")  # which a carriage return alone does not end
    reader = csv.reader(lines, strict=True, delimiter=SEPARATORS[path.suffix])
    header: list[str] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if not header:
                header = _header(path, line, cells)
            elif len(cells) != len(header):
                says = f"{len(cells)} cells, but the first line names {len(header)} columns"
                raise ValueError(f"{path}, line {line}: {says}; put quotes around commas in a text")
            else:
                yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        alone = "new-line" in str(error)
        why = "a carriage return alone ends no line; put quotes around the text" if alone else error
        raise ValueError(f"{path}, line {reader.line_num}: {why}; mend the line") from error


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    for number, name in enumerate(names, start=1):
        if not name or names.count(name) > 1:
            says = f"is named {name!r} twice" if name else "has no name"
            raise ValueError(f"{path}, line {line}: column {number} {says}; name every column once")
    return names


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            at = f"{path}, line {line}, column {error.colno}"
            raise ValueError(f"{at}: no JSON ({error.msg}); mend the line") from error
        except (RecursionError, ValueError) as error:  # too deep, or a number of 5,000 digits
            raise ValueError(f"{path}, line {line}: no JSON ({error}); mend the line") from error
        row = {"text": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            kind = type(row).__name__
            raise ValueError(f'{path}, line {line}: a {kind}; write {{"text": "..."}} or "..."')
        yield line, row


def _words(path: Path, line: int, row: dict[str, str], name: str) -> str:
    """The words of a cell; raises ValueError where there are none."""
    words = row.get(name)
    if not isinstance(words, str) or not words.strip():
        kind = "is missing" if name not in row else "is empty" if not words else "is no text"
        raise ValueError(f"{path}, line {line}, column {name!r}: {kind}; give it a text")
    return words


def _read(path: Path) -> str:
    """The text of a file in UTF-8, without byte order marks (joined files have some inside)."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    text = text.removeprefix(BOM_UTF8)
    if (at := text.find(0)) >= 0:
        raise ValueError(f"{path}: not UTF-8 text ({_place(text, at)}); save it as UTF-8")
    try:
        return re.sub(r"(?m)^\ufeff+", "", text.decode("utf-8"))
    except UnicodeDecodeError as error:
        place = _place(text, error.start)
        raise ValueError(f"{path}: not UTF-8 ({place}); save it as UTF-8") from error


def _place(text: bytes, at: int) -> str:
    """Which byte it is, and where it stands."""
    line, start = text[:at].count(b"\n") + 1, text.rfind(b"\n", 0, at) + 1
    return f"byte 0x{text[at]:02X} in line {line}, byte {at - start + 1} of it"
