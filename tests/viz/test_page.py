"""Pages as files: what they say, what they need, and what is shipped."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viz import samples
from viz import Drawing, write_gallery, write_page
from viz.assets import STATIC
from viz.html import duration, number, probability
from viz.page import MOST_HEAVY


def test_every_vendored_file_is_what_its_registry_has():
    listed = json.loads((STATIC / "vendored.json").read_text())
    files = {}
    for package in listed.values():
        assert package["licence"] == "MIT"
        assert "MIT" in (STATIC / package["licence_file"]).read_text()
        files |= package["files"]
    for name, digest in files.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name
    own = {"page.css", "page.js", "gallery.js", "vendored.json"}
    present = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert present == own | files.keys()


def test_a_page_says_question_answer_and_how_to_repeat_it(runs):
    text = (runs / "head_contributions/full/index.html").read_text("utf-8")
    told = samples.manifest()
    assert re.search(r"<h1>How, and how much", text)
    assert text.index("<h1>") < text.index("The answer") < text.index(">Figures<")
    for claim in told["claims"][:3]:
        assert claim["sentence"] in text
    assert "3.2 × 10⁻⁷" in text
    assert "[0.142, 0.241]" in text
    assert "about 4,000 prompts" in text
    assert "4-bit weights" in text
    assert told["model"]["sha256"] in text
    assert "--prompts &#39;Better safe than&#39;" in text


def test_every_file_that_a_page_names_is_there(runs):
    for page in [*runs.glob("*/*/index.html"), runs / "index.html"]:
        named = re.findall(r'(?:src|href)="([^"#:]+)"', page.read_text("utf-8"))
        assert named
        for name in named:
            assert (page.parent / unquote(name)).exists(), name


def test_scripts_run_by_nonce_only(runs):
    nonces = set()
    for page in [*runs.glob("*/*/index.html"), runs / "index.html"]:
        text = page.read_text("utf-8")
        nonce = re.search(r"script-src &#39;nonce-([\w-]+)&#39;|script-src 'nonce-([\w-]+)'", text)
        value = nonce[1] or nonce[2]
        nonces.add(value)
        assert all(f'nonce="{value}"' in tag for tag in re.findall(r"<script[^>]*>", text))
        assert not re.search(r"<[a-z][^>]* on[a-z]+=", text.split("<body>")[1])
    assert len(nonces) == 3


def test_a_page_takes_only_the_libraries_it_needs(runs):
    def names(run):
        return {path.name for path in (runs / run / "assets").iterdir()}

    assert {"circuitsvis.js", "plotly.js"} <= names("head_contributions/full")
    assert not {"circuitsvis.js", "plotly.js"} & names("addition_accuracy/cells")


def test_assets_are_shared_where_the_file_system_can(runs):
    inside = runs / "head_contributions/full/assets/page.css"
    assert inside.samefile(runs / "assets/page.css")
    assert b"sourceMappingURL" not in (runs / "assets/circuitsvis.js").read_bytes()


def test_a_run_away_from_home_takes_copies(tmp_path, runs):
    folder = tmp_path / "mailed" / "run"
    shutil.copytree(runs / "addition_accuracy/cells", folder)
    write_page(folder, json.loads((folder / "manifest.json").read_text()))
    assert (folder / "assets/page.css").exists()
    assert not (tmp_path / "assets").exists()


def test_more_than_a_dozen_heavy_figures_are_shown_still(tmp_path, drawings):
    heavy = drawings["The text, coloured by cosine"]
    figures = {f"Number {i}": heavy for i in range(MOST_HEAVY + 1)}
    small = {name: _light(drawing) for name, drawing in figures.items()}
    page = write_page(*samples.write_run(tmp_path, "many", small, {}))
    text = page.read_text()
    assert text.count('class="widget') == MOST_HEAVY
    assert text.count("Shown still") == 1


def _light(drawing: Drawing) -> Drawing:
    """The same widget with an image that takes no time."""
    from matplotlib.figure import Figure

    return Drawing(drawing.caption, drawing.data, lambda: Figure(figsize=(1, 1)), drawing.widget)


@pytest.mark.parametrize("status", ["failed", "running", "interrupted"])
def test_a_page_says_that_a_run_is_not_finished(tmp_path, status):
    folder, told = samples.write_run(tmp_path, "broken", {}, {}, status=status, claims=[])
    for later in ("seconds", "peak_memory_bytes", "device", "finished"):
        told.pop(later)
    assert f"<strong>{status.capitalize()}.</strong>" in write_page(folder, told).read_text()


def test_the_gallery_of_nothing_says_what_to_do(tmp_path):
    assert "Nothing has been run yet" in write_gallery(tmp_path).read_text()


def test_the_gallery_does_not_link_to_pages_that_are_not_there(runs):
    text = (runs / "index.html").read_text()
    assert text.count('<li class="run"') == 5
    assert "running/index.html" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.19342, "0.193"), (1248, "1,248"), (-0.0412, "−0.0412"), (3.2e-7, "3.2 × 10⁻⁷"), (0, "0"),
     (2.0, "2"), (151.26, "151.3"), (2.5e7, "2.5 × 10⁷"), (1.0, "1")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, shown):
    assert number(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_can_be_written(value):
    assert number(value)


def test_p_values_and_durations():
    assert [probability(p) for p in (0.0002, 0.03, 1.0)] == ["< .001", ".030", "1"]
    assert [duration(s) for s in (8.31, 45, 151, 9000)] == ["8.3 s", "45 s", "3 min", "2.5 h"]


def test_templates_escape_and_refuse_unknown_names():
    templates = Path(STATIC).parent / "templates"
    for template in templates.iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape false" not in text
