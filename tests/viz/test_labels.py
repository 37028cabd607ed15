"""Labels: whatever a token holds, what is shown can be read and does nothing."""

import json
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viz.labels import WORD_JOINER, head_name, label, script_json, shorten

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
MARKUP = st.text(st.sampled_from("<>&;/! svgbscript=\"'#x6c"), max_size=30)


class Reader(HTMLParser):
    """Notes every piece of markup that a browser would act on."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    handle_endtag = handle_comment = handle_decl = handle_pi = unknown_decl = handle_entityref = (
        handle_charref
    ) = lambda self, what: self.found.append(what)


def markup_in(text: str) -> list[str]:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader.found


def test_the_reader_of_markup_sees_markup():
    assert markup_in("<b>&lt;</b>") == ["b", "lt", "b"]


@given(ANY_TEXT | MARKUP)
def test_html_labels_hold_no_markup(text):
    assert markup_in(label(text, "html") + " ") == []
    assert label(text, "plotly") == label(text, "html")


@given(ANY_TEXT)
def test_every_character_of_a_label_can_be_seen(text):
    for renderer in ("html", "matplotlib"):
        shown = label(text, renderer).replace(WORD_JOINER, "")
        shown.encode("utf-8")
        assert all(char == " " or unicodedata.category(char)[0] not in "CZ" for char in shown)
        assert shown == shown.strip(" ")
        assert bool(shown) == bool(text)


@given(st.binary(max_size=20))
def test_bytes_have_a_label(token):
    assert bool(label(token)) == bool(token)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("</s>", "</s>"),
        (" the", "␣the"),
        ("two words", "two words"),
        ("   ", "␣␣␣"),
        ("a  b", "a␣␣b"),
        ("a\n", "a⏎"),
        (" \n", "␣⏎"),
        ("\t", "⇥"),
        ("\u200b", "⟨U+200B⟩"),
        ("\u202e", "⟨U+202E⟩"),
        ("\ud83d", "⟨U+D83D⟩"),
        ("\ufe0f", "⟨U+FE0F⟩"),
        ("\u3164", "⟨U+3164⟩"),
        ("\u0301", "◌\u0301"),
        ("\xa0", "⟨U+00A0⟩"),
        (b"\xe4\xb8", "⟨0xE4⟩⟨0xB8⟩"),
        ("万", "万"),
        ("nan", "nan"),
        (r"$\frac$", r"$\frac$"),
    ],
)
def test_what_a_token_looks_like(token, shown):
    assert label(token).replace(WORD_JOINER, "") == shown


def test_a_character_without_a_glyph_becomes_its_code_point(monkeypatch):
    from viz import labels

    monkeypatch.setattr(labels, "_drawable", lambda: frozenset(map(ord, "⟨⟩U+E470")))
    assert label.__wrapped__("万", "matplotlib") == "⟨U+4E07⟩"


@given(st.recursive(ANY_TEXT | st.integers(), lambda inner: st.lists(inner, max_size=4)))
def test_json_in_a_script_is_the_same_json_without_markup(value):
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_json_in_a_script_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_long_labels_are_cut():
    assert shorten("abcdef", 4) == "abc…"
    assert shorten("abcd", 4) == "abcd"


def test_a_head_is_named_by_layer_and_number_also_where_they_came_as_floats():
    assert head_name({"layer": 1.0, "head": 3}) == "L1H3"


def test_importing_viz_imports_no_drawing_library():
    heavy = ("torch", "scipy", "pandas", "matplotlib", "seaborn", "plotly", "circuitsvis")
    code = f"import sys, viz, viz.glossary; print([n for n in {heavy} if n in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_figures_without_widgets_import_no_torch():
    code = (
        "import sys, viz, pandas as pd\n"
        "viz.bars(pd.DataFrame({'a': ['x'], 'b': [1.0]}), 'a', 'b', caption='').figure()\n"
        "print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
