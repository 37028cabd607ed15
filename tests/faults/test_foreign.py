"""A run, suite or card of someone else is data: it never decides what runs or is written."""

import json
import os
import sys
from pathlib import Path

import pytest

from experiments import UsageError
from experiments._runs.finding import registered
from experiments._runs.manifest import manifest_of, verify
from experiments._runs.opened import open_run
from experiments._runs.run import find_run, redraw
from experiments._runs.store import write_manifest
from experiments._runs.suite import read_suite
from viz import write_gallery
from viz.files import remove

TRAP = 'from pathlib import Path\nPath("trap").write_text("it ran")\n'


@pytest.fixture
def trap(home) -> Path:
    """A file that leaves a trace where it is imported."""
    path = home / "trap.py"
    path.write_text(TRAP)
    return path


def refusal(act, *given) -> str:
    with pytest.raises(UsageError) as refused:
        act(*given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_manifest_does_not_decide_what_is_imported(folder, trap):
    told = manifest_of(folder)
    for source in (str(trap), "trap.py", "./trap.py", "../home/trap.py"):
        write_manifest(folder, told | {"source": source})
        assert "is not run because a file says so" in refusal(redraw, folder)
        assert "is not run because a file says so" in refusal(lambda: open_run(folder).figures)
    for source in ("os", "no_such_question"):
        write_manifest(folder, told | {"source": source})
        assert "no experiment" in refusal(redraw, folder)
    assert not Path("trap").exists()


def test_a_suite_does_not_decide_what_is_imported(trap):
    Path("suite.toml").write_text('[[run]]\nexperiment = "trap.py"\n')
    assert "--file trap.py" in refusal(read_suite, Path("suite.toml"))
    assert not Path("trap").exists()


def test_a_file_that_was_imported_by_name_may_be_named_by_a_run(folder):
    redraw(folder)
    assert verify(folder) == []


@pytest.mark.parametrize("name", ["figures", "assets", "tables", "index.html", "manifest.json",
                                  "figures/numbers/figure.svg", "tables/more", "more"])  # fmt: skip
def test_links_in_a_run_are_refused_and_never_written_through(name, folder, tmp_path):
    outside = tmp_path / "outside"
    inside = folder / name
    if inside.exists():
        inside.rename(outside)
    else:
        outside.write_text("mine")
    inside.symlink_to(outside)
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    refusal(redraw, folder)
    assert any(str(folder / name) in line for line in verify(folder))
    assert before == {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}


def test_a_hard_link_is_not_written_through(folder, tmp_path):
    kept = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for number, path in enumerate(kept):
        os.link(path, tmp_path / str(number))
    redraw(folder)
    assert [(tmp_path / str(n)).read_bytes() for n in range(len(kept))] == list(kept.values())


@pytest.mark.parametrize("changed", [
    {"figures": ["../../../secret"]}, {"figures": ["/etc"]}, {"experiment": "../up"},
    {"tables": [{"name": "x", "rows": 1, "columns": ["a"], "csv": None, "about": "",
                 "parquet": "tables/../../../secret.parquet"}]},
    {"tables": [{"name": "../x", "rows": 1, "columns": [], "csv": None, "parquet": "t"}]},
])  # fmt: skip
def test_paths_in_a_manifest_do_not_lead_out_of_its_folder(changed, folder):
    write_manifest(folder, manifest_of(folder) | changed)
    assert "manifest.json: damaged, or no manifest" in refusal(manifest_of, folder)


def test_links_in_place_of_the_gallery_are_replaced_not_followed(home, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("index.html", "assets"):
        path = home / "runs" / name
        remove(path)
        path.symlink_to(mine if name == "index.html" else tmp_path / "folder")
    write_gallery(Path("runs"))
    assert mine.read_text() == "mine"
    assert not any((tmp_path / "folder").iterdir())


def test_experiment_files_have_module_names_of_their_own(home):
    from experiments._runs.finding import find

    text = (home / "counting.py").read_text()
    kinds = []
    for name in ("torch.py", "json.py", "models.py", "one/counting.py", "two/counting.py"):
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        kinds.append(find(name))
        assert kinds[-1].name() == path.stem
        assert sys.modules[kinds[-1].__module__].__file__ == str(path)
    assert len({kind.__module__ for kind in kinds}) == len(kinds)
    assert json.loads("1") == 1


def test_a_run_with_links_is_not_gone_on_with(folder, finished, capsys):
    kind = registered(str(finished / "counting.py"), "test")
    told = manifest_of(folder)
    write_manifest(folder, told | {"status": "interrupted"})
    found = find_run(kind(), told["hash"], finished=False)
    assert found == folder
    (folder / "unfinished").symlink_to("/tmp")
    assert find_run(kind(), told["hash"], finished=False) is None
    assert "unfinished: is a link" in capsys.readouterr().err
