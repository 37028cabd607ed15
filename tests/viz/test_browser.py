"""Pages in a real browser, opened from disk with no network."""

import shutil

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from tests.viz import samples
from viz import write_page
from viz.labels import label

FULL = "head_contributions/full/index.html"
NEW = "digit_places/redrawn/index.html"
COMPARED = "compare.html#run=head_contributions/full&run=digit_places/redrawn"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "page", [FULL, "addition_accuracy/cells/index.html", NEW, "index.html", "matrix.html", COMPARED]
)
def test_pages_are_quiet_and_fit(tab, runs, page, width, scheme):
    file, mark, rest = page.partition("#")
    shown = tab(width, color_scheme=scheme).open(runs / file, mark + rest).scroll()
    assert shown.complaints() == []
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.page.locator("h1").is_visible()


def test_what_must_not_happen_is_noticed_when_it_does(tab, runs):
    shown = tab().open(runs / "index.html")
    shown.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "alert(1)";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src='http://127.0.0.1:9/x.png'>");
        }"""
    )
    shown.page.wait_for_timeout(300)
    told = " ".join(shown.complaints())
    assert "script-src" in told
    assert "img-src" in told
    assert "dialog" not in told


def test_every_widget_is_alive(tab, runs):
    page = tab().open(runs / FULL).scroll().page
    widgets = page.locator(".widget")
    assert widgets.count() == 10
    text = page.locator(".widget[data-component='ColoredTokens']")
    assert text.count() == 2
    assert "Better" in text.nth(0).inner_text()
    assert "nan" in text.nth(1).inner_text()
    assert page.locator(".widget[data-component='AttentionHeads'] canvas").count() >= 1
    assert page.locator(".widget .main-svg").first.is_visible()
    assert page.locator(".still:visible").count() == 4


def test_hostile_tokens_are_inert_and_visible(tab, runs):
    shown = tab().open(runs / FULL).scroll()
    page = shown.page
    box = page.locator("#hostile-tokens .widget")
    seen = box.inner_text().replace("\u00a0", " ")
    for token in samples.HOSTILE:
        assert label(token) in seen
    assert box.locator("svg, img, script").count() == 0
    table = page.locator("details.table").nth(1)
    table.locator("summary").first.click()
    table.locator(".tabulator-cell").first.wait_for()
    for token in ("</s>", "<svg/onload=alert(1)>", "nan", "万"):
        assert label(token) in table.inner_text()
    assert table.locator(".grid-table").locator("img, script").count() == 0
    assert "—" in table.inner_text()
    assert shown.complaints() == []


def test_tokens_span_the_scale_of_their_legend(tab, runs):
    figure = tab().open(runs / FULL).scroll().page.locator("#hostile-tokens")
    colours = figure.locator(".colored-tokens > span > span").evaluate_all(
        "tokens => tokens.map((token) => getComputedStyle(token).backgroundColor)"
    )
    assert (colours[0], colours[-1]) == ("rgb(255, 255, 255)", "rgb(22, 65, 149)")
    assert "0.1" in figure.locator(".legend").inner_text()
    figure.locator(".swap").click()
    assert not figure.locator(".legend").is_visible()


def test_a_claim_opens_to_what_it_rests_on(tab, runs):
    page = tab().open(runs / NEW).page
    row = page.locator("details.claim", has_text="Place 2")
    assert not row.get_by_text("more pairs").is_visible()
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    for words in ("Head L0H0 writes the carry into place 2.", "share of pairs", "more pairs",
                  "pairs with the same carry"):  # fmt: skip
        assert row.get_by_text(words).first.is_visible()


def test_the_first_screen_answers_the_question(tab, runs):
    page = tab(1280).open(runs / NEW).page
    for seen in ("h1", ".headline", ".answer .badge", ".provenance", ".hero h3"):
        assert page.locator(seen).first.bounding_box()["y"] < 844


def test_a_widget_can_be_swapped_for_its_still_twin(tab, runs):
    page = tab().open(runs / FULL).scroll().page
    figure = page.locator("figure", has=page.locator(".widget")).first
    figure.locator(".swap").click()
    assert figure.locator(".still").is_visible()
    assert not figure.locator(".widget").is_visible()
    figure.locator(".swap").click()
    assert figure.locator(".widget").is_visible()


def test_the_theme_changes_and_is_kept(tab, runs):
    page = tab(color_scheme="light").open(runs / FULL).page
    image = page.locator(".still img:visible").first
    assert image.get_attribute("src").endswith("figure.svg")
    page.locator("button.theme").focus()
    page.keyboard.press("Enter")
    assert image.get_attribute("src").endswith("figure-dark.svg")
    page.reload()
    assert page.locator(".still img:visible").first.get_attribute("src").endswith("-dark.svg")


def test_every_picture_that_is_seen_is_loaded(tab, runs):
    page = tab().open(runs / "addition_accuracy/cells/index.html").page
    page.locator(".swap").first.click()
    page.locator(".still img:visible").first.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.images].filter((i) => i.offsetParent).every((i) => i.naturalWidth > 0)"
    )


def test_tables_are_sorted_by_keyboard(tab, runs):
    page = tab().open(runs / FULL).page
    head = page.locator(".tabulator-col[tabulator-field='c3']").first
    head.focus()
    page.keyboard.press("Enter")
    cells = page.locator(".tabulator-cell[tabulator-field='c3']").all_inner_texts()
    values = [float(cell.replace("−", "-")) for cell in cells[:8]]
    assert values == sorted(values)
    smallest = samples.heads(30, 9)["l2_norm"].head(200).min()
    assert values[0] == pytest.approx(smallest, rel=5e-3)


def test_the_command_can_be_copied(tab, runs):
    shown = tab(permissions=["clipboard-read", "clipboard-write"]).open(runs / FULL)
    shown.page.locator(".copy").first.click()
    shown.page.get_by_text("Copied").wait_for()
    copied = shown.page.evaluate("navigator.clipboard.readText()")
    assert copied == samples.manifest()["command"]


def test_a_run_that_was_moved_is_whole(tab, runs, tmp_path):
    shutil.copytree(runs / "head_contributions/full", tmp_path / "elsewhere")
    shown = tab().open(tmp_path / "elsewhere/index.html").scroll()
    assert shown.complaints() == []
    assert shown.page.locator(".widget:visible").count() == 10


def test_without_scripts_everything_can_still_be_read(tab, runs):
    page = tab(java_script_enabled=False).open(runs / FULL).page
    page.locator("#more > summary").click()
    assert page.locator(".still:visible").count() == 14
    assert page.locator("details.claim").count() == 3


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A run with a table of more rows than a page holds, whose largest value comes late."""
    runs = tmp_path_factory.mktemp("long")
    table = pd.DataFrame(
        {"token": [f"<b>{n}" for n in range(1_000)], "l2_norm": np.arange(1_000.0)}
    )
    folder, told = samples.write_run(runs, "one", {}, {"tokens": table})
    write_page(folder, told)
    return folder


def test_a_table_is_sorted_and_filtered_over_all_its_rows(tab, long):
    shown = tab().open(long / "index.html")
    page = shown.page
    head = page.locator(".tabulator-col[tabulator-field='c1']")
    head.locator(".tabulator-col-title").click()
    expect(page.locator(".rows-note")).to_have_text("All 1,000 rows.")
    head.locator(".tabulator-col-title").click()
    expect(page.locator(".tabulator-cell[tabulator-field='c1']").first).to_have_text("999")
    head.locator("input").press_sequentially("<= 20.5")
    cells = page.locator(".tabulator-cell[tabulator-field='c1']")
    expect(cells.first).to_have_text("20")
    assert shown.complaints() == []


def test_an_address_opens_what_it_points_at(tab, runs):
    page = tab().open(runs / NEW, "#claim-1").page
    assert page.locator("#checks").get_attribute("open") is not None
    assert page.locator("#claim-1").get_attribute("open") is not None
    assert page.locator("#claim-1").is_visible()


def test_a_figure_is_enlarged_and_put_back_by_keyboard(tab, runs):
    page = tab().open(runs / "addition_accuracy/cells/index.html").page
    figure = page.locator("figure").first
    figure.locator(".enlarge").focus()
    page.keyboard.press("Enter")
    assert figure.bounding_box()["width"] == 1280
    page.keyboard.press("Escape")
    assert figure.bounding_box()["width"] < 1280


def test_a_phone_scrolls_a_figure_and_does_not_shrink_it_below_reading(tab, runs):
    page = tab(390).open(runs / "addition_accuracy/cells/index.html").page
    page.locator(".swap").first.click()
    assert page.locator(".still img:visible").first.bounding_box()["width"] >= 300
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("run", [FULL, NEW])
def test_a_phone_leads_to_every_part_and_says_which_claims_hold(tab, runs, run):
    page = tab(390).open(runs / run).page
    boxes = [link.bounding_box() for link in page.locator(".bar nav a:visible").all()]
    theme = page.locator(".bar .theme").bounding_box()["x"]
    assert len(boxes) >= 5
    assert max(box["x"] + box["width"] for box in boxes) <= theme
    told = page.locator(".answer .verdicts li > span + span")
    assert all(words.is_visible() for words in told.all())
    assert told.count() == page.locator(".answer .verdicts .badge").count()


def test_print_shows_light_stills_only(tab, runs):
    page = tab(color_scheme="dark").open(runs / FULL).scroll().page
    page.emulate_media(media="print")
    assert page.locator(".widget:visible").count() == 0
    assert page.locator(".dark-only:visible").count() == 0
    assert page.locator(".still:visible").count() == page.locator("figure:visible").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [FULL, NEW, "index.html", "matrix.html", COMPARED])
def test_pages_are_accessible(tab, runs, page, scheme):
    """No serious finding of axe-core in what is ours."""
    file, mark, rest = page.partition("#")
    shown = tab(color_scheme=scheme, bypass_csp=True).open(runs / file, mark + rest)
    page = shown.page
    page.evaluate("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    page.wait_for_timeout(300)
    assert shown.serious() == []


def test_a_table_without_columns_is_said_to_be_empty_and_is_accessible(tab, tmp_path):
    tables = {"heads": samples.heads(2, 2), "forms": pd.DataFrame()}
    page = write_page(*samples.write_run(tmp_path, "empty", {}, tables))
    shown = tab(bypass_csp=True).open(page)
    shown.page.evaluate(
        "document.querySelectorAll('details').forEach((box) => { box.open = true; })"
    )
    shown.page.wait_for_timeout(300)
    assert shown.page.locator(".tabulator").count() == 1
    assert "nothing of this kind was measured" in shown.page.locator("#table-forms").inner_text()
    assert shown.complaints() == []
    assert shown.serious() == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", [FULL, "addition_accuracy/cells/index.html", "index.html"])
def test_what_is_read_stays_where_it_is(tab, runs, page, width):
    assert tab(width).open(runs / page).wheel().shifted() < 0.1


def test_a_shift_is_measured(tab, runs):
    shown = tab().open(runs / "addition_accuracy/cells/index.html")
    shown.page.evaluate("document.querySelector('main').style.paddingTop = '400px'")
    shown.page.wait_for_timeout(200)
    assert shown.shifted() > 0.1


SWITCH = """async (name) => {
  const took = [], lists = [...document.querySelectorAll(".choices label")];
  const list = lists.find((one) => one.firstChild.textContent === name).querySelector("select");
  for (let round = 0; round < 3; round += 1) {
    for (const option of list.options) {
      const from = performance.now();
      list.value = option.value;
      list.dispatchEvent(new Event("change"));
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      took.push(performance.now() - from);
    }
  }
  return took.sort((one, other) => one - other)[Math.floor(took.length / 2)];
}"""
"""Milliseconds from a choice to the picture that shows it; the median of three rounds."""


def test_decoder_and_norm_switch_in_a_fifth_of_a_second(tab, tmp_path):
    """On 64 tokens x 6 layers, as the page of `token_decoding` shows them."""
    states = {"states": samples.decoded_states(64, 6)}
    write_page(*samples.write_run(tmp_path / "runs", "boxes", states, {}))
    (file,) = (tmp_path / "runs").rglob("index.html")
    page = tab().open(file).scroll().page
    assert page.locator(".boxes td").count() == 64 * 6
    for name in ("Decoder", "Norm"):
        assert page.evaluate(SWITCH, name) < 200
