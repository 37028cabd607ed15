"""Passages long enough to be cut in two: what is read, and one way to go on that was written."""

import tomllib
from pathlib import Path

from prompts.texts import Text

SHIPPED = Path(__file__).with_name("passages.toml")


def passages() -> list[Text]:
    """The passages of `passages.toml`, in its order, in which any few are of several kinds."""
    shipped = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return [Text(**fields) for fields in shipped["passage"]]
