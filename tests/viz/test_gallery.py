"""The gallery, the matrix and the comparison in a real browser."""

import json
import time
from hashlib import sha256

import pandas as pd
import pytest
from playwright.sync_api import expect

from experiments._runs.run import run
from experiments.addition_accuracy import AdditionAccuracy
from experiments.attention_glimpse import AttentionGlimpse
from models import load
from tests.viz import samples
from viz import write_gallery
from viz.evidence import claim_key


def chip(page, name, value):
    return page.locator(f".chip-row[data-name={name}] .chip", has_text=value).first


def test_the_gallery_is_searched_and_filtered(tab, runs):
    page = tab().open(runs / "index.html").page
    visible = page.locator(".run:visible")

    def shown():
        return page.locator("#count").inner_text()

    page.locator(".unfinished > summary").click()
    assert visible.count() == 6
    chip(page, "verdict", "undecided").click()
    assert (visible.count(), shown()) == (2, "2 of 6 shown")
    chip(page, "verdict", "not tested").click()
    assert visible.count() == 1
    assert "three times as far" in visible.inner_text()
    chip(page, "verdict", "failed").click()
    assert "failed" in visible.inner_text()
    chip(page, "verdict", "failed").click()
    chip(page, "experiment", "addition_accuracy").click()
    assert page.locator("h2:visible").first.inner_text().startswith("Which additions")
    assert visible.count() == 1
    page.get_by_text("Clear all filters").click()
    assert shown() == "6 shown"
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("ADDITIONS columns")
    assert visible.count() == 1
    page.fill("#search", "nothing like it")
    assert (visible.count(), shown()) == (0, "0 of 6 shown")


def test_filters_stand_in_the_address_and_come_back(tab, runs):
    page = tab().open(runs / "index.html").page
    chip(page, "model", "adder_6d_1l").click()
    page.fill("#search", "additions")
    assert "model=adder_6d_1l" in page.url
    page.get_by_role("link", name="Which additions").first.click()
    expect(page.locator("h1")).to_have_text("Which additions does the model get right?")
    page.go_back()
    assert page.locator(".run:visible").count() == 1
    assert page.input_value("#search") == "additions"
    assert chip(page, "model", "adder_6d_1l").get_attribute("aria-pressed") == "true"
    expect(page.locator("#count")).to_have_text("1 of 6 shown")


def test_runs_are_sorted_within_their_question(tab, runs):
    page = tab().open(runs / "index.html").page
    assert page.locator(".question").first.get_attribute("data-experiment") == "digit_places"
    page.select_option("#sort", "started")
    assert page.locator(".question").first.get_attribute("data-experiment") == "head_contributions"


def test_from_the_gallery_to_a_run_and_back(tab, runs):
    shown = tab().open(runs / "index.html")
    shown.page.get_by_role("link", name="Which additions").first.click()
    expect(shown.page.locator("h1")).to_have_text("Which additions does the model get right?")
    shown.page.get_by_role("link", name="All runs").click()
    expect(shown.page.locator(".run")).to_have_count(6)


def test_without_scripts_the_gallery_can_still_be_read(tab, runs):
    page = tab(java_script_enabled=False).open(runs / "index.html").page
    assert page.locator(".question .run:visible").count() == 3
    assert page.locator(".run").count() == 6


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """An experiment on two adders, and one that trains its own models."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("real")
        patch.chdir(folder)
        for model in ("adder_6d_1l", "adder_6d_2l"):
            adder = load(model)
            run(AdditionAccuracy(model=model, per_cell=20), loader=lambda _, adder=adder: adder)
        run(AttentionGlimpse(**AttentionGlimpse.quick))
        write_gallery(folder / "runs")
    return folder / "runs"


def test_two_adders_are_compared(tab, real):
    shown = tab().open(real / "index.html")
    page = shown.page
    boxes = page.locator(".question[data-experiment=addition_accuracy] .choose input")
    boxes.nth(0).check()
    assert not page.locator("#compare").is_visible()
    boxes.nth(1).check()
    page.locator("#compare").click()
    expect(page.locator(".side")).to_have_count(2)
    assert page.locator("#differs tbody tr").count() == 1
    assert {"adder_6d_1l", "adder_6d_2l"} <= set(page.locator("#differs td").all_inner_texts())
    sentences = page.locator(".forest .row").all_inner_texts()
    carries = next(text for text in sentences if "Carries cross nines" in text)
    assert "holds" in carries
    assert "fails" in carries
    assert page.locator(".forest .row.apart").count() >= 1
    assert page.locator(".difference td.more, .difference td.less").count() > 10
    page.wait_for_function("[...document.images].filter((i) => i.offsetParent).length > 1")
    page.locator(".forest .badge").first.click()
    assert page.locator("details.claim:target").get_attribute("open") is not None
    assert shown.complaints() == []


def test_a_difference_is_that_of_the_tables(tab, real):
    wheres = [path.parent for path in sorted(real.glob("addition_accuracy/*/manifest.json"))]
    hash_ = "&".join(f"run={path.relative_to(real).as_posix()}" for path in wheres)
    page = tab().open(real / "compare.html", f"#{hash_}").page
    page.locator("#maps select").nth(1).select_option("right (count)")
    one, other = (pd.read_parquet(path / "tables/cells.parquet") for path in wheres)
    change = (other["correct"] - one["correct"]).max()
    titles = page.locator(".difference td.more").evaluate_all(
        "all => all.map((c) => c.textContent)"
    )
    assert max(float(text.replace("−", "-")) for text in titles) == pytest.approx(change, rel=0.01)


def test_the_matrix_has_a_column_for_each_model(tab, real):
    shown = tab().open(real / "matrix.html")
    table = shown.page.locator("#addition_accuracy table")
    assert table.locator("thead a").all_inner_texts() == ["adder_6d_1l", "adder_6d_2l"]
    row = table.locator("tr", has_text="Carries cross nines")
    assert ["fails" in text for text in row.locator("td").all_inner_texts()] == [True, False]
    row.locator("td a").first.click()
    assert shown.page.locator("details.claim:target").get_attribute("open") is not None
    assert shown.complaints() == []


def test_a_claim_of_endless_words_is_cut_in_the_matrix(tmp_path):
    """A browser takes half a minute to lay out a table with a name of 100,000 letters."""
    long = samples.claim(sentence="<b>" * 40_000)
    samples.write_run(tmp_path, "long", {}, {}, claims=[long])
    write_gallery(tmp_path)
    text = (tmp_path / "matrix.html").read_text("utf-8")
    assert 300 < text.count("&lt;") * 3 <= 402
    assert "…" in text


def test_the_same_claim_is_found_whatever_came_out():
    one, other = (samples.claim(sentence=f"It looks {n} of 1,{n}00 columns ahead.") for n in (6, 2))
    assert claim_key(one) == claim_key(other)
    assert claim_key(one) != claim_key(samples.claim(sentence="It looks back 6 columns."))
    place = samples.claim(family="Places", label="Place 2", sentence="Head L0H0 writes place 2.")
    assert claim_key(place) == "Places: Place 2"


def test_a_script_that_came_with_someones_runs_is_never_run(tab, tmp_path):
    """Whoever made the runs cannot know what the gallery will call its data of them."""
    for name in ("one", "two"):
        folder, told = samples.write_run(tmp_path, name, {}, {})
        about = json.dumps([folder.name, told.get("finished"), told.get("files", {})])
        planted = tmp_path / "assets/runs" / f"{sha256(about.encode()).hexdigest()[:20]}.js"
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text("document.title = 'taken over'")
    write_gallery(tmp_path)
    assert not planted.exists()
    hash_ = "#run=head_contributions/one&run=head_contributions/two"
    shown = tab().open(tmp_path / "compare.html", hash_)
    expect(shown.page.locator(".side")).to_have_count(2)
    assert shown.page.title() == "Compare · carrylens"


def test_of_many_runs_a_hundred_are_shown_and_more_when_asked(tab, tmp_path):
    for number in range(130):
        samples.write_run(tmp_path, f"run{number:03}", {}, {}, label=f"number {number:03}")
    write_gallery(tmp_path)
    page = tab().open(tmp_path / "index.html").page
    visible, more = page.locator(".run:visible"), page.locator("button.more:visible")
    expect(visible).to_have_count(100)
    expect(page.locator("#count")).to_have_text("130 shown")
    expect(more).to_have_text("Show more: 100 of 130 runs are shown")
    page.locator("#search").fill("number 12")  # also those that were not among the first hundred
    expect(visible).to_have_count(12)
    expect(more).to_have_count(0)
    page.locator("#search").fill("")
    more.click()
    expect(visible).to_have_count(130)
    expect(more).to_have_count(0)


@pytest.mark.slow
def test_two_thousand_runs_stay_quick(tab, tmp_path):
    for number in range(2_000):
        about = {"model": samples.manifest()["model"] | {"name": f"model {number % 40}"}}
        samples.write_run(tmp_path, f"run{number:04}", {}, {}, hash=f"{number:08x}", **about)
    started = time.monotonic()
    write_gallery(tmp_path)
    print(f"written in {time.monotonic() - started:.1f} s")
    page = tab().open(tmp_path / "index.html").page
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    took = page.evaluate(
        """() => { const box = document.getElementById("search"); const times = [];
        for (const text of ["m", "mo", "mod", "model 7"]) { const from = performance.now();
          box.value = text; box.dispatchEvent(new Event("input", { bubbles: true }));
          document.body.getBoundingClientRect(); times.push(performance.now() - from); }
        return Math.max(...times); }"""
    )
    print(f"first cards after {first:.0f} ms, a key takes {took:.0f} ms")
    assert first < 1_000
    assert took < 100


def test_a_page_leads_to_its_neighbours_and_to_the_newest_run_of_another_question(tab, runs):
    page = tab().open(runs / "addition_accuracy/cells/index.html").page
    page.get_by_role("link", name="Next run").click()
    expect(page.locator("h1")).to_have_text("How, and how much, does each head contribute to what "
                                            "its block writes?")  # fmt: skip
    page.get_by_role("link", name="Previous run").click()
    expect(page.locator("h1")).to_have_text("Which additions does the model get right?")
    page.get_by_role("link", name="Same question").click()
    expect(page.locator("#count")).to_have_text("1 of 6 shown")
    page = tab().open(runs / "index.html", "#experiment=digit_places&newest=1").page
    page.wait_for_url("**/digit_places/redrawn/index.html")
    page = tab().open(runs / "index.html", "#experiment=nothing&newest=1").page
    expect(page.locator("#count")).to_contain_text("no run of nothing here yet")
