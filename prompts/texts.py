"""Texts that language models read by default: short, of many kinds, each with its kind."""

import tomllib
from codecs import BOM_UTF8
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
    r"""The lines of a text file, each a text of the kind "given"; empty lines are left out.

    Only \n and \r\n end a line, and a byte order mark in front is no text. Raises ValueError, in
    one line, for a file that cannot be read, is not UTF-8 or has no text in it.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    lines = [line.removesuffix("\r") for line in _decoded(path, whole).split("\n")]
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path}: no line has text in it")
    return [Text("given", line) for line in lines if line.strip()]


def _decoded(path: Path, whole: bytes) -> str:
    """The text of a file in UTF-8, without a byte order mark."""
    text = whole.removeprefix(BOM_UTF8)
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        place = f"byte 0x{text[error.start]:02X} in line {line}, byte {column} of it"
        raise ValueError(f"{path}: not UTF-8 ({place}); save it as UTF-8") from error
