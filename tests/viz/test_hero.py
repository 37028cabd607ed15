"""The first picture of a page: where it leaves room, its caption and the claims stand beside it."""

import pytest

from lenses.statistics.grid import grid
from tests.viz import samples
from viz import bars, heat_map, texts_of, write_page

LONG = "gradient x activation, each piece by itself"


@pytest.fixture(scope="module")
def rows():
    return grid({"rule": ["norms", LONG], "layer": range(9)}, share=[[0.0012] * 9, [-0.18] * 9])


@pytest.fixture(scope="module")
def pages(rows, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    narrow = bars(rows[rows["layer"] == 0], "rule", "share", caption="Bars.")
    wide = heat_map(rows, "rule", "layer", "share", caption="A map.")
    return {
        name: write_page(*samples.write_run(runs, name, {name: figure}, {}, **samples.redrawn()))
        for name, figure in (("narrow", narrow), ("wide", wide))
    }


def test_a_narrow_picture_has_caption_and_claims_beside_it(tab, pages):
    page = tab(1280).open(pages["narrow"]).page
    picture, caption, claims = (
        page.locator(f".hero {part}").first.bounding_box()
        for part in (".still", "figcaption", ".beside")
    )
    end = picture["x"] + picture["width"]
    assert end < caption["x"] == claims["x"] < end + 60
    assert caption["y"] < picture["y"] + picture["height"]
    assert caption["y"] + caption["height"] <= claims["y"]
    assert claims["x"] + claims["width"] > 1200
    assert page.locator(".beside .badge").count() == 5
    page.locator(".beside a").first.click()
    assert page.locator("details.claim[open]").count() == 1


def test_on_a_phone_the_claims_stand_below_only(tab, pages):
    page = tab(390).open(pages["narrow"]).page
    assert not page.locator(".beside").is_visible()
    picture, caption = (
        page.locator(f".hero {part}").bounding_box() for part in (".still", "figcaption")
    )
    assert picture["y"] + picture["height"] <= caption["y"]


def test_a_wide_picture_has_its_caption_below(tab, pages):
    page = tab(1280).open(pages["wide"]).page
    assert page.locator(".beside").count() == 0
    picture, caption = (
        page.locator(f".hero {part}").bounding_box() for part in (".widget", "figcaption")
    )
    assert picture["y"] + picture["height"] <= caption["y"]


@pytest.mark.parametrize("width", [1280, 390])
def test_names_and_numbers_of_a_map_are_whole(tab, pages, width):
    page = tab(width).open(pages["wide"]).page
    name = page.locator(".map th[scope=row]", has_text=LONG)
    assert name.evaluate("(th) => th.scrollWidth <= th.clientWidth")
    assert page.locator(".map td").first.inner_text() == "0"
    assert page.locator(".map td").last.inner_text() == "−0.18"
    lines = page.locator(".map td").evaluate_all(
        "(cells) => cells.map((td) => { const r = document.createRange(); r.selectNodeContents(td);"
        " return r.getClientRects().length; })"
    )
    assert set(lines) == {1}


@pytest.mark.parametrize("draw", [
    lambda rows: heat_map(rows, "rule", "layer", "share", caption=""),
    lambda rows: bars(rows[rows["layer"] == 0], "rule", "share", caption=""),
])  # fmt: skip
def test_names_beside_a_still_take_two_lines(rows, draw):
    rows = rows.replace(LONG, "gradient x activation norm")
    assert "gradient x activation norm" in [
        text.replace("\n", " ") for text in texts_of(draw(rows))
    ]
