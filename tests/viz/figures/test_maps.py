"""Heat maps to play with: what is packed, what a cell tells, and that a component lights up."""

import base64

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from lenses.statistics.grid import grid
from tests.viz import samples
from viz import as_drawing, head_explorer, heat_map, write_page
from viz.figures.maps import MOST_CELLS, part

VALUES = np.array([[0.1, np.nan], [0.25, 7.0], [0.0, 0.5]])


@pytest.fixture(scope="module")
def drawing():
    rows = grid({"component": ["carry L0H1", "L1H0", "mlp"], "place": [0, 1]}, flip=VALUES)
    return heat_map(rows, "component", "place", "flip", low=0, high=1, caption="Flips.")


def test_every_cell_is_in_the_page_in_the_order_of_the_picture(drawing):
    props = drawing.widget.props
    found = np.frombuffer(base64.b64decode(props["panels"][0]["values"]), "<f4").reshape(3, 2)
    np.testing.assert_allclose(found, VALUES[:, ::-1])  # decimal places as digits are written
    assert props["across"]["names"] == ["1", "0"]
    assert props["down"]["parts"] == [{"layer": 0, "head": 1}, {"layer": 1, "head": 0}, {}]


@pytest.mark.parametrize(("column", "value", "said"), [
    ("head", 3, {"head": 3}), ("layer", "layer 2", {"layer": 2}), ("pos", 4.0, {"pos": 4}),
    ("pair", "L0H2 + L1H3", {"layer": 0, "head": 2}), ("place", 3, {}), ("head", "copying", {}),
])  # fmt: skip
def test_a_component_is_known_by_its_column_or_its_name(column, value, said):
    assert part(column, value) == said


def test_a_map_of_very_many_cells_is_still():
    rows = grid({"row": range(MOST_CELLS // 100 + 1), "column": range(100)}, x=np.zeros((201, 100)))
    assert heat_map(rows, "row", "column", "x", caption="").widget is None


@pytest.fixture(scope="module")
def page(drawing, tmp_path_factory):
    heads = grid({"measure": ["cosine"], "layer": 2, "head": 2}, estimate=np.eye(2)[None])
    explorer = head_explorer(heads, caption="Heads.")
    table = pd.DataFrame({"layer": [0, 1], "head": [1, 0], "cosine": [0.5, 0.25]})
    folder, told = samples.write_run(tmp_path_factory.mktemp("runs"), "maps",
        {"Flips": drawing, "Heads": as_drawing("Heads", explorer)}, {"heads": table})  # fmt: skip
    write_page(folder, told)
    return folder / "index.html"


def test_a_cell_tells_its_number_and_lights_its_head_in_every_figure(tab, page):
    shown = tab().open(page)
    cell = shown.page.locator(".map tr", has_text="carry L0H1").locator("td").nth(1)
    cell.hover()
    told = shown.page.locator("#flips .told")
    expect(told).to_contain_text("carry L0H1 · decimal place (0 = units): 0 → 0.1")
    expect(shown.page.locator(".head-grid td.lit")).to_have_attribute("data-head", "1")
    expect(shown.page.locator(".map td.lit")).to_have_count(2)
    expect(shown.page.locator(".tabulator-row.lit")).to_have_count(1)
    expect(shown.page.locator(".map tr.crossed th")).to_have_text("carry L0H1")
    cell.click()
    expect(shown.page.locator(".head-panel h4")).to_have_text("L0H1")
    assert shown.page.locator(".map td.beyond").count() == 1
    assert "beyond this scale" in shown.page.locator("#flips .scale").inner_text()
    assert shown.complaints() == []


def test_cells_are_reached_by_keyboard(tab, page):
    shown = tab(390).open(page).page
    shown.locator(".map").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        shown.keyboard.press(key)
    expect(shown.locator("#flips .told")).to_contain_text("L1H0 · decimal place (0 = units): 0")
