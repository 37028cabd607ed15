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
from viz.evidence import evidence
from viz.html import _unbroken, duration, number, probability
from viz.page import MOST_HEAVY, first_sentence


def test_every_vendored_file_is_what_its_registry_has():
    listed = json.loads((STATIC / "vendored.json").read_text())
    files = {}
    for package in listed.values():
        assert package["licence"] == "MIT"
        assert "MIT" in (STATIC / package["licence_file"]).read_text()
        files |= package["files"]
    for name, digest in files.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name
    own = {path.name for path in STATIC.glob("*.*")}
    present = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert present == own | files.keys()


def test_a_page_says_question_answer_and_how_to_repeat_it(runs):
    text = (runs / "head_contributions/full/index.html").read_text("utf-8")
    told = samples.manifest()
    assert re.search(r"<h1>How, and how much", text)
    assert text.index("<h1>") < text.index("The answer") < text.index('id="evidence"')
    assert text.index('id="evidence"') < text.index("Checks (1 of 1 pass)")
    assert text.index("Checks (1 of 1 pass)") < text.index('id="figures"')
    for claim in told["claims"][:3]:
        assert claim["sentence"] in text
    assert "3.2 × 10⁻⁷" in text
    assert "[0.142, 0.241]" in text
    assert "about 4,000 prompts" in text
    assert "4-bit weights" in text
    assert told["model"]["sha256"] in text
    assert "--prompts &#39;Better safe than&#39;" in text


def test_a_number_stays_on_the_line_of_its_percent_sign(tmp_path):
    said = "It is 67 % here. There it is 34 %."
    folder, told = samples.write_run(tmp_path, "heads", {}, {}, headline=said)
    text = write_page(folder, told).read_text("utf-8")
    assert "It is 67\N{NO-BREAK SPACE}% here." in text
    assert "There it is 34\N{NO-BREAK SPACE}%." in text


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
    assert len(nonces) == 4


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


def section(text: str, start: str, end: str) -> str:
    return text[text.index(start) : text.index(end)]


def test_the_answer_stands_before_everything_else(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    first = section(text, "<h1>", 'id="evidence"')
    assert "Heads L2H0 and L2H1 write three times as far" in first
    for count in ("1 claim holds", "2 claims fail", "1 claim undecided", "3 claims not tested"):
        assert count in first
    assert "smollm2 · claims on up to 1,248 cases · measured in 3 min" in first
    assert first.index("headline") < first.index("provenance") < first.index("drawing hero")


def test_claims_of_a_family_are_one_table_on_one_axis(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    family = section(text, "<h3>Which head writes the carry", "Half of it is the bias.")
    assert family.count("<details id=") == 4, "three places, and the claim after them"
    assert family.count("Measured as: share of pairs.") == 1
    places = re.findall(r'<circle cx="([\d.]+)%"', family)
    assert [float(place) for place in places[:3]] == pytest.approx(
        [100 * (0.06 + 0.88 * estimate) for estimate in (0.97, 0.52, 0.2)], abs=0.01
    )
    assert '0.97</strong> <span class="interval">[0.91, 1]' in family


def test_numbers_in_print_stand_beside_those_found_here(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    table = section(text, '<div class="reported">', "</table>")
    cells = re.findall(r"<td>(.*?)</td>", table)
    assert len(cells) == 3, "one row of claim, reported, here"
    assert "Late heads write longer vectors." in cells[0]
    assert "<small>2602.01442, one small task &lt;" in cells[0]
    assert cells[1] == "0.72"
    assert cells[2].startswith("<strong>−0.2</strong>")
    assert table.index(">reported<") < table.index(">here<")


def test_pages_without_numbers_in_print_have_no_table_of_them(tmp_path):
    folder, told = samples.write_run(tmp_path, "plain", {}, {}, claims=[samples.claim()])
    write_page(folder, told)
    assert 'class="reported"' not in (folder / "index.html").read_text("utf-8")


def test_checks_and_what_was_not_tested_stand_apart(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    assert "Checks (2 of 2 pass)" in text
    assert "2 claims need 2 prompts or more" in text
    assert 'Heads are many. <span class="need">Needs a model of 20 heads.</span>' in text
    claims = section(text, 'class="claims', "Not tested</h3>")
    assert "The planted head is found." not in claims
    assert "Prompts agree." not in claims


@pytest.mark.parametrize(("verdict", "said"), [("fails", "fails"), ("undecided", "undecided")])
def test_a_check_that_does_not_pass_is_said_at_the_top(tmp_path, verdict, said):
    broken = samples.claim(kind="identity", check=True, verdict=verdict, estimate=None, low=None,
                           high=None)  # fmt: skip
    folder, told = samples.write_run(tmp_path, "broken", {}, {}, claims=[broken])
    text = write_page(folder, told).read_text()
    assert f"1 check of the method {said}" in section(text, "<h1>", 'id="evidence"')
    assert 'id="checks" open' in text


def test_a_page_says_first_what_was_done(runs, tmp_path):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    done = '<p class="done">What a head writes is <em>measured</em> at <code>z</code>.</p>'
    assert text.index("</h1>") < text.index(done) < text.index("The answer")
    folder, told = samples.write_run(tmp_path, "heads", {}, {}, method="")
    assert 'class="done"' not in write_page(folder, told).read_text("utf-8")


def test_a_page_says_how_it_may_be_read_and_how_it_was_measured(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    for words in ("Is it causal?", "It assumes", "Put to the test here", "It does not show"):
        assert words in text
    assert "<em>measured</em> at <code>z</code>.</p>" in text
    assert "<p>Then it is &lt;b&gt;averaged&lt;/b&gt;.</p>" in text


def test_a_table_says_what_a_row_and_a_column_are(runs):
    text = (runs / "digit_places/redrawn/index.html").read_text("utf-8")
    assert "A row is a head &lt;\u2060b&gt;of" in text
    assert "<td>accuracy (share right)</td><td>what accuracy is</td>" in text
    preview = json.loads(re.search(r'id="table-1-data">(.*?)</script>', text)[1])
    assert preview["columns"][4] == {
        "name": "accuracy", "words": "accuracy (share right)", "about": "what accuracy is",
        "number": True, "float": True,
    }  # fmt: skip


def test_runs_of_before_have_pages(tmp_path):
    claims = [{k: v for k, v in claim.items() if k not in samples.OLD}
              for claim in samples.manifest()["claims"]]  # fmt: skip
    folder, told = samples.write_run(tmp_path, "old", {}, {"heads": samples.heads(2, 2)})
    told["claims"] = claims
    for table in told["tables"]:
        table.pop("about"), table.pop("dictionary")
    text = write_page(folder, told).read_text()
    assert "Checks (1 of 1 pass)" in text
    assert "What the columns are" not in text
    assert "How to read this" not in text
    assert write_gallery(tmp_path).exists()


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
    assert text.count('<li class="run"') == 6
    assert "running/index.html" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.19342, "0.193"), (1248, "1,248"), (-0.0412, "−0.0412"), (3.2e-7, "3.2 × 10⁻⁷"), (0, "0"),
     (2.0, "2"), (151.26, "151"), (0.99996, "0.999"), (2.5e7, "2.5 × 10⁷"), (1.0, "1"),
     (999.7, "1,000"), (-0.9997, "−0.999")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, shown):
    assert number(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_can_be_written(value):
    assert number(value)


def test_p_values_and_durations():
    assert [probability(p) for p in (0.0002, 0.03, 0.99995, 1)] == ["< .001", ".030", "> .999", "1"]
    assert [duration(s) for s in (8.31, 45, 151, 9000)] == ["8.3 s", "45 s", "3 min", "2.5 h"]


def test_templates_escape_and_refuse_unknown_names():
    templates = Path(STATIC).parent / "templates"
    for template in templates.iterdir():
        text = template.read_text()
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape false" not in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [("One.", ("One.", "")), ("", ("", "")),
     ("It is 0.5 nats. Then more. And so on.", ("It is 0.5 nats.", "Then more. And so on.")),
     ("Yes, L0H1 (p < .001). “So” it is.", ("Yes, L0H1 (p < .001).", "“So” it is."))],
)  # fmt: skip
def test_the_first_sentence_is_told_apart(text, parts):
    assert first_sentence(text) == parts


def test_the_first_screen_names_the_claims_of_a_verdict_in_about_a_line():
    """Labels where they fit, else how many; what is left out is counted, nothing is cut."""

    def named(*claims: dict) -> str:
        return evidence(samples.claim(**each) for each in claims)["named"][0][2]

    few = [{"family": "Places differ.", "label": label} for label in ("tens", "hundreds")]
    assert named(*few) == "Places differ (tens; hundreds)"
    many = [{"family": "Places differ.", "label": f"place number {n}"} for n in range(9)]
    others = [{"sentence": f"{n} {'long ' * 12}claim."} for n in range(3)]
    assert named(*many) == "Places differ (9 claims)"
    said = f"Places differ (9 claims); 0 {'long ' * 12}claim"
    assert named(*many, *others) == f"{said}; and 2 others"
    assert named(*many, *others[:2]) == f"{said}; and one other"
    single = {"family": f"Words {'long ' * 20}differ.", "label": "nouns"}
    assert named(single, *many).startswith(f"Words {'long ' * 20}differ (nouns); ")
    alone = "long " * 40 + "claim"
    assert named({"sentence": f"{alone}."}) == alone
    no = {"sentence": "A is more than B."}
    assert named(no | {"verdict": "fails"}) == "not so: “A is more than B”"
    assert named(no | {"verdict": "undecided"}) == "open: “A is more than B”"
    check = samples.claim(**no, verdict="undecided", check=True)
    said = "open: “A is more than B”"
    assert evidence([check])["unpassed"] == [("undecided", "1 check of the method undecided", said)]
    two = evidence([check, samples.claim(check=True, verdict="holds")])["unpassed"]
    assert two == [("undecided", "1 of 2 checks of the method undecided", said)]


def test_a_family_of_two_verdicts_is_not_said_to_hold_and_to_fail():
    """Where a line would say only how many of it there are, it names the first of them."""
    family = {"family": f"What {'really ' * 14}decides the answer is ranked first."}
    claims = [
        samples.claim(**family, label=f"by the measure {n}", verdict="fails" if n < 2 else "holds")
        for n in range(6)
    ]
    (_, _, holds), (_, _, fails) = evidence(claims)["named"]
    assert holds.endswith("first (by the measure 2; by the measure 3; and 2 others)")
    assert fails.endswith("first (by the measure 0; by the measure 1)”")


def test_no_line_ends_within_an_option_and_text_stays_text():
    filled = _unbroken("needs <b>--new-tokens 8</b>")
    option = '<span class="option">--new-tokens</span>'
    assert filled == f"needs &lt;b&gt;{option} 8&lt;/b&gt;"
    assert _unbroken("5 %") == "5\N{NO-BREAK SPACE}%"
