"""Hostile tokens as visible text, the same way in every renderer.

A vocabulary holds whatever was on the web: markup, formulas, line breaks, marks that reorder
the text around them, halves of characters. A label shows each of them as something that can
be read and does nothing.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Literal

from matplotlib.font_manager import FontProperties, findfont, get_font

from viz.style import font_families

Renderer = Literal["html", "plotly", "matplotlib"]

WORD_JOINER = "\u2060"

# Signs that stand for white space where it would otherwise be lost or break a line.
_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}

_LOST_SPACES = re.compile(r"\A +| +\Z| {2,}")

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# Letters and marks by category, yet drawn as nothing (Unicode's Default_Ignorable_Code_Point).
_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_BLANK |= {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


@lru_cache(2**16)  # a table of tokens says few of them again and again
def label(token: str | bytes, renderer: Renderer = "html") -> str:
    """The text that shows a token, or any text, harmlessly in a renderer.

    Spaces at either end and doubled ones become `␣`, line breaks `⏎`, what cannot be seen its
    code point in angle brackets, bytes that are no UTF-8 their value. For HTML (`html`,
    `plotly`) a word joiner after each `<` and `&` keeps them from being read as markup; a page
    still escapes them. For `matplotlib` a character that no installed font has becomes its code
    point. Labels are for the eye: data and downloads keep the raw text.
    """
    text = token if isinstance(token, str) else token.decode("utf-8", "surrogateescape")
    shown = "".join(map(_visible, _marked_spaces(text)))
    if shown and unicodedata.category(shown[0])[0] == "M":  # would sit on what is before it
        shown = "◌" + shown
    if renderer == "matplotlib":
        return "".join(char if ord(char) in _drawable() else _code(char) for char in shown)
    return shown.replace("<", "<" + WORD_JOINER).replace("&", "&" + WORD_JOINER)


def head_name(row: Mapping[str, Any]) -> str:
    """What a head is called: `L0H3` for a row whose `layer` is 0 and whose `head` is 3."""
    return f"L{int(row['layer'])}H{int(row['head'])}"


def script_json(value: Any) -> str:
    """JSON that can stand inside a `<script>`: no character of it is read as markup.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def shorten(text: str, most: int) -> str:
    """A label cut to at most `most` characters, with an ellipsis where something was cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def number(value: float) -> str:
    """Three significant digits, thousands apart, a true minus; powers of ten when tiny or huge.

    What lies just below 1 is rounded down: only what has no error at all is written as 1.
    """
    size = abs(value)
    if isinstance(value, int) or (value == round(value) and size < 1e6):
        text = f"{size:,.0f}"
    elif 0.9995 <= size < 1:
        text = "0.999"
    elif 1e-3 <= size < 1e4:
        text = f"{size:.3g}" if size < 999.5 else f"{size:,.0f}"
    else:
        digits, _, power = f"{size:.1e}".partition("e")
        text = f"{digits} × 10{str(int(power)).translate(_RAISED)}"
    return f"−{text}" if value < 0 else text


def probability(p: float) -> str:
    """A p value: three digits, or that it is below .001 or above .999."""
    if p < 0.001:
        return "< .001"
    if p > 0.9995:
        return "1" if p >= 1 else "> .999"
    return f"{p:.3f}".lstrip("0")


def _marked_spaces(text: str) -> str:
    return _LOST_SPACES.sub(lambda spaces: "␣" * len(spaces[0]), text)


def _visible(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # a byte that was kept by surrogateescape
        return f"⟨0x{point - 0xDC00:02X}⟩"
    hidden = unicodedata.category(char)[0] in "CZ" and char != " "
    return _code(char) if hidden or point in _BLANK else char


def _code(char: str) -> str:
    return f"⟨U+{ord(char):04X}⟩"


@cache
def _drawable() -> frozenset[int]:
    """Code points that the fonts of the figures hold."""

    files = [findfont(FontProperties(family=family)) for family in font_families()]
    return frozenset(point for file in files for point in get_font(file).get_charmap())
