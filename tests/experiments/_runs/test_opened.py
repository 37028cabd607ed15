"""Runs from Python: started, found again, and shown in a notebook without a network."""

import shutil
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from experiments import Experiment, Run, UsageError, open_run, run
from experiments._runs.manifest import first_manifest, run_hash
from experiments._runs.run import load_model
from models import load, untrained
from viz import Drawing


class Nowhere(Experiment):
    def measure(self, model): ...

    def headline(self, results): ...

    def figures(self, results): ...

    def claims(self, results): ...


class Sources(HTMLParser):
    """What a piece of HTML would load or run."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.found += [value for name, value in attributes if name in ("src", "href")]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def test_a_run_is_found_by_folder_page_hash_and_label(asking, first):
    digest = first.name.rpartition("-")[2]
    for name in (first, str(first), first / "index.html", digest, digest[:3], "first"):
        assert open_run(name).folder == first.resolve()


def test_a_run_is_a_run_of_numbers_claims_and_figures(asking, first):
    found = open_run(first)
    assert found.headline.startswith("The size is ")
    assert [claim.verdict for claim in found.claims] == [None, "undecided"]
    assert isinstance(found.tables["rows"], pd.DataFrame)
    assert found.arrays["sizes"].shape == (3,)
    assert found.page.read_text().startswith("<!")
    drawing = found.figures["The rows"]
    assert isinstance(drawing, Drawing)
    assert isinstance(drawing.figure(), Figure)
    assert drawing.data.equals(found.tables["rows"])
    assert repr(drawing).endswith(f" of 2 rows: {drawing.caption}>")
    assert "asking on adder_6d_1l" in repr(found)


def test_arrays_and_tables_are_read_when_they_are_asked_for(asking, first):
    found = open_run(first)
    for path in first.glob("*/*.parquet"):
        path.unlink()
    assert list(found.tables) == ["rows"]
    assert repr(found.tables) == "<tables: rows>"
    assert found.arrays["sizes"].shape == (3,)
    with pytest.raises(UsageError, match=r"rows\.parquet: damaged"):
        found.tables["rows"]
    with pytest.raises(KeyError, match="no array 'other' among"):
        found.arrays["other"]


def test_a_notebook_shows_it_offline(asking, first):
    html = open_run(first)._repr_html_()
    seen = Sources()
    seen.feed(html)
    assert "script" not in seen.tags
    assert len(seen.found) == 1
    assert seen.found[0].startswith("data:image/png;base64,")
    for said in ("How large are the weights?", "The size is ", "There are 2 rows.", "undecided"):
        assert said in html


def test_a_notebook_shows_hostile_words_harmlessly(asking, first, monkeypatch):
    found = open_run(first)
    monkeypatch.setitem(found.manifest, "headline", "<img src=x onerror=alert(1)>")
    seen = Sources()
    seen.feed(found._repr_html_())
    assert [source[:10] for source in seen.found] == ["data:image"]


def test_the_same_again_opens_the_run_that_is_there(asking, first, capsys):
    again = run(asking(model="adder_6d_1l"))
    assert again.folder == first.resolve()
    assert f"exists: {first}" in capsys.readouterr().err
    fresh = run(asking(), model="adder_6d_1l", fresh=True)
    assert fresh.folder != first.resolve()
    assert fresh.manifest["hash"] == again.manifest["hash"]


def test_a_damaged_run_is_not_given_for_another(asking, first, capsys):
    (first / "tables" / "rows.csv").write_text("row,size\n")
    assert run(asking(model="adder_6d_1l")).folder != first.resolve()
    assert "rows.csv: changed; running again" in capsys.readouterr().err


def test_a_label_is_given_also_to_a_run_that_is_there(asking, first):
    assert run(asking(model="adder_6d_1l"), label="second").folder == first.resolve()
    assert open_run("second").folder == first.resolve()


def test_a_model_in_memory_is_told_by_its_weights(asking, adder):
    found = run(asking(), model=adder)
    assert (found.manifest["model"]["source"], found.manifest["model"]["name"]) == (
        "memory",
        "adder_6d_1l",
    )
    assert found.manifest["command"].endswith("run(Asking(), model=model)")
    assert run(asking(), model=adder).folder == found.folder
    twin = run(asking(), model=untrained(adder, 0))
    assert twin.manifest["hash"] != found.manifest["hash"]
    assert twin.headline != found.headline


def test_a_model_that_was_changed_gives_another_run(asking):
    own = load("adder_6d_1l")
    before = run(asking(), model=own)
    with torch.no_grad():
        own.W_E.mul_(2) if own.W_E.is_leaf else next(iter(own.parameters())).mul_(2)
    assert run(asking(), model=own).folder != before.folder


def test_fields_say_what_the_model_in_memory_computes_in(asking):
    found = run(asking(), model=load("adder_6d_1l", dtype="bfloat16"))
    assert found.manifest["fields"]["dtype"] == "bfloat16"


@pytest.mark.parametrize("given", ["addition_accuracy", Nowhere])
def test_only_an_experiment_is_run(given):
    with pytest.raises(UsageError, match="run: takes an experiment, not "):
        run(given)


def test_an_experiment_that_is_in_no_file_is_refused(asking, monkeypatch):
    monkeypatch.delattr(sys.modules[Nowhere.__module__], "__file__")
    with pytest.raises(UsageError, match="Nowhere is in no file"):
        run(Nowhere())


@pytest.mark.parametrize("name", ["ffffffff", "", "no label"])
def test_a_run_that_is_not_there_is_refused_in_one_line(asking, name):
    with pytest.raises(UsageError) as refused:
        Run(open_run(name).folder)
    assert "\n" not in str(refused.value)


def test_a_prefix_of_several_hashes_is_refused(asking, first):
    digest = first.name.rpartition("-")[2]
    shutil.copytree(first, first.with_name(f"20990101T000000000000Z-{digest[:3]}zzzzz"))
    with pytest.raises(UsageError, match="begins several hashes"):
        open_run(digest[:3])
    assert open_run(digest).folder == first.resolve()


@pytest.mark.parametrize(
    ("takes", "name", "is_loaded"),
    [(True, "adder_6d_1l", True), (True, "none", False), (False, "adder_6d_1l", False)],
)
def test_a_model_that_is_not_needed_is_read_where_one_may_be_named(
    asking, monkeypatch, takes, name, is_loaded
):
    monkeypatch.setattr(asking, "needs_model", False)
    monkeypatch.setattr(asking, "takes_model", takes)
    experiment = asking(model=name)
    assert (load_model(experiment) is not None) == is_loaded
    told = first_manifest(experiment, run_hash(experiment))
    assert told["model"]["name"] == (name if is_loaded else "")
