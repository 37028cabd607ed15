"""The dark picture is the light one in other inks: held against the one drawn in dark inks."""

import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from viz import Drawing, style
from viz.recolour import darkened

PICTURE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
INK = re.compile(r"#([0-9a-f]{6})(?=[;\"])")
NAMED = re.compile(r"\b(image|[phm]|C\d+_\d+_)[0-9a-f]{10}\b")
"""Matplotlib's names of what is used again, which depend on its inks."""


def steps(inks: Iterator[str]) -> np.ndarray:
    return np.array([[*bytes.fromhex(ink)] for ink in inks], dtype=int)


def pixels(svg: str) -> list[np.ndarray]:
    """Pictures within a picture; what is transparent has no colour."""
    found = [BytesIO(b64decode(part)) for part in PICTURE.findall(svg)]
    images = [np.array(Image.open(one).convert("RGBA"), dtype=int) for one in found]
    return [np.where(image[..., 3:] > 0, image, 0) for image in images]


def drawn_dark(drawing: Drawing) -> str:
    """The naive way: laid out and drawn in the dark theme."""
    out = BytesIO()
    with style.theme("dark"):
        drawing.static().savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue().decode()


def test_a_dark_picture_is_the_one_that_dark_inks_draw(drawings, saved):
    for title, drawing in drawings.items():
        found, expected = (saved / title / "figure-dark.svg").read_text(), drawn_dark(drawing)
        plain = [INK.sub("", NAMED.sub("", PICTURE.sub("", svg))) for svg in (found, expected)]
        assert plain[0] == plain[1], title
        off = np.abs(steps(INK.findall(found)) - steps(INK.findall(expected)))
        assert off.max() <= 2, title
        for one, other in zip(pixels(found), pixels(expected), strict=True):
            assert np.abs(one - other).max() <= 4, title


@pytest.mark.parametrize("is_still", [False, True])
def test_a_picture_is_laid_out_and_made_once(drawings, tmp_path, monkeypatch, is_still):
    """In both themes together; of one that is seen still on a phone, once more for the phone."""
    laid_out, made, drawing = [], [], drawings["Errors by cell"]
    execute = ConstrainedLayoutEngine.execute
    monkeypatch.setattr(
        ConstrainedLayoutEngine, "execute", lambda *a: (laid_out.append(1), execute(*a))
    )
    static, widget = lambda: (made.append(1), drawing.static())[1], drawing.widget
    counted = Drawing(drawing.caption, drawing.data, static, None if is_still else widget)
    counted.save(tmp_path, "Errors by cell")
    assert len(laid_out) == len(made) == (2 if is_still else 1)


def test_what_is_no_ink_of_the_theme_keeps_its_own():
    svg = '<path style="fill: #123456; stroke: #ffffff"/><!-- #ffffff -->'
    assert darkened(svg) == '<path style="fill: #123456; stroke: #13171f"/><!-- #ffffff -->'


@pytest.mark.parametrize("centred", [False, True])
def test_words_can_be_read_on_every_colour_in_both_themes(centred):
    for step in np.linspace(0, 1, 60):
        words = []
        for name in ("light", "dark"):
            with style.theme(name):
                colour = style.color_map(centred)(step)
                words.append(style.ink_on(colour, 0.2))
                assert contrast(words[-1], colour) > 3.5
        # One step of 255 apart from what the dark theme itself says, if at all.
        assert style.dark_inks()[words[0]] == words[1]


def contrast(one: str, other: tuple) -> float:
    low, high = sorted(style._luminance(colour) for colour in (to_rgb(one), other))
    return (high + 0.05) / (low + 0.05)


def test_inks_of_words_are_told_from_all_others():
    maps = [style._ramp("light", centred)(range(257)) for centred in (False, True)]
    known = {style.to_hex(colour) for colour in np.concatenate(maps)}
    known |= {*style.PALETTE, style.PAPER["light"], *style._INK.values(), *style._FAINT.values()}
    assert not known & set(style._WORDS.values())
    assert len(set(style._WORDS.values())) == 4


def test_a_heat_map_is_drawn_without_seaborn_scipy_and_torch():
    code = (
        "import sys, pandas; from viz import head_grid, as_drawing, write_page\n"
        "data = pandas.DataFrame({'layer': [0], 'head': [0], 'share': [0.5]})\n"
        "as_drawing('', head_grid(data, 'share', caption='')).figure(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"seaborn", "scipy", "torch", "plotly", "circuitsvis", "sklearn"}
    assert not heavy & set(done.stdout.split())
