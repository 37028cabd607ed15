"""The explorer of heads: what is packed is what was given, and a head that is chosen tells it."""

import base64

import numpy as np
import pytest
from playwright.sync_api import expect

from lenses.statistics.grid import grid
from tests.viz import samples
from viz import HeadText, as_drawing, head_explorer, write_page

TOKENS = ["<b>x", " two", "万", "\n"]
SHAPE = {"measure": ["l2_norm", "cosine"], "phase": ["prompt", "generated", "difference"],
         "layer": 3, "head": 2}  # fmt: skip
WRITTEN = np.arange(36.0).reshape(2, 3, 3, 2)
WRITTEN[:, 2] = WRITTEN[:, 0] - 4
WRITTEN[1, 0, 0, 1] = np.nan


@pytest.fixture(scope="module")
def drawing():
    rows = grid(SHAPE, estimate=WRITTEN)
    pattern = np.tril(np.ones((3, 2, 4, 4)))
    pattern /= pattern.sum(-1, keepdims=True)
    pattern[2, 1, 3] = [0, 0.2, 0.8, 0]
    along = np.arange(24.0).reshape(3, 2, 4)
    text = HeadText(TOKENS, pattern, {"l2_norm": along})
    return head_explorer(rows, caption="Heads.", facets=("phase",), text=text)


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed), "<f4")


def test_every_number_is_in_the_page(drawing):
    for number, measure in enumerate(drawing.widget.props["measures"]):
        np.testing.assert_allclose(unpacked(measure["values"]), WRITTEN[number].ravel(), rtol=1e-6)
    text = drawing.widget.props["text"]
    np.testing.assert_allclose(unpacked(text["values"]["l2_norm"]), np.arange(24))


def test_the_still_picture_is_of_the_first_measure(drawing):
    titles = [axis.get_title(loc="left") for axis in drawing.figure().axes]
    assert titles[:3] == ["prompt", "generated", "difference"]


def test_a_head_that_is_named_twice_or_never_is_a_hole_or_an_error():
    rows = grid(SHAPE, estimate=WRITTEN)[1:]
    drawn = head_explorer(rows, caption="Heads.", facets=("phase",))
    assert np.isnan(unpacked(drawn.widget.props["measures"][0]["values"])[0])
    with pytest.raises(ValueError, match="no column 'phase'"):
        head_explorer(rows.drop(columns="phase"), caption="Heads.", facets=("phase",))


@pytest.fixture(scope="module")
def page(drawing, tmp_path_factory):
    folder, told = samples.write_run(tmp_path_factory.mktemp("runs"), "heads",
                                     {"Heads": as_drawing("Heads", drawing)}, {})  # fmt: skip
    write_page(folder, told)
    return folder / "index.html"


def test_a_head_that_is_clicked_tells_its_numbers_and_stands_in_the_address(tab, page):
    shown = tab().open(page)
    heads = shown.page.locator(".head-grid td")
    heads.first.wait_for()
    heads.nth(5).click()  # layer 2, head 1
    panel = shown.page.locator(".head-panel")
    expect(panel.locator("h4")).to_have_text("L2H1")
    expect(panel.locator(".chosen td").nth(0)).to_have_text("5")
    expect(panel.locator(".chosen td").nth(1)).to_have_text("1 of 6")
    assert shown.page.url.endswith("#L2H1/l2_norm")
    assert "2 “万”" in panel.inner_text()
    assert "<b>x" in panel.locator(".head-text").inner_text().replace("\u2060", "")
    assert panel.locator("b").count() == 0
    shown.page.locator(".choices select").nth(1).select_option("difference")
    expect(panel.locator(".chosen td").nth(0)).to_have_text("1")
    assert shown.complaints() == []


def test_an_address_opens_a_head_under_a_measure(tab, page):
    shown = tab(390, color_scheme="dark").open(page, "#L0H1/cosine")
    panel = shown.page.locator(".head-panel")
    expect(panel.locator("h4")).to_have_text("L0H1")
    expect(panel.locator(".chosen td").nth(0)).to_have_text("—")
    assert shown.page.locator(".head-grid td.undefined").count() == 1
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_heads_are_reached_by_keyboard(tab, page):
    shown = tab().open(page).page
    shown.locator(".head-grid").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        shown.keyboard.press(key)
    expect(shown.locator(".head-panel h4")).to_have_text("L1H1")
