"""Damage is named, never read silently, and never signed anew."""

import os
import random
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import UsageError
from experiments._contract.rows import Rows
from experiments._contract.stream import Session
from experiments._runs.finding import find
from experiments._runs.manifest import manifest_of, verify
from experiments._runs.opened import open_run
from experiments._runs.run import find_run, redraw
from experiments._runs.store import Tables, write_manifest
from tests.faults.trials import damaged_folders, damaged_tables
from viz import write_gallery


def test_every_kind_of_damage_is_named(folder):
    tried = list(damaged_folders(folder, count=60, seed=0))
    assert [what for what, named in tried if not named] == []


def test_no_damaged_table_is_read_silently(folder):
    tried = list(damaged_tables(folder, count=40, seed=1))
    assert [what for what, refused in tried if not refused] == []


def test_a_changed_table_is_neither_drawn_nor_signed(folder):
    path = folder / "tables/numbers.parquet"
    table = pd.read_parquet(path)
    table["number"] += 1
    table.to_parquet(path, index=False)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    tables = open_run(folder).tables
    for act in (
        lambda: redraw(folder), lambda: tables["numbers"], lambda: next(tables.pieces("numbers")),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=r"numbers\.parquet: damaged or changed"):
            act()
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert [line.rsplit("/", 1)[1] for line in verify(folder)] == ["numbers.parquet: changed"]


def test_a_table_that_the_manifest_does_not_list_is_not_read(folder):
    (folder / "tables/more.parquet").write_bytes((folder / "tables/total.parquet").read_bytes())
    assert "more" not in Tables(folder, manifest_of(folder)["files"])


@pytest.mark.parametrize("name", ["stream-0.safetensors", "rows/numbers/000000.parquet"])
def test_damaged_checkpoints_are_refused(name, tmp_path):
    def measured():
        session = Session(tmp_path)
        rows = session.rows("numbers")
        for number in session.stream(range(4), rows, "x"):
            rows.append(pd.DataFrame({"number": [number]}))
        return rows.frame()

    whole, rng = measured(), random.Random(0)
    pd.testing.assert_frame_equal(measured(), whole)
    content = (tmp_path / name).read_bytes()
    for _ in range(20):
        at = rng.randrange(len(content))
        wrong = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        (tmp_path / name).write_bytes(wrong)
        with pytest.raises(UsageError, match="damaged; nothing of it was used"):
            measured()
    (tmp_path / name).write_bytes(content)
    pd.testing.assert_frame_equal(measured(), whole)


def test_rows_without_a_part_have_a_state(tmp_path):
    rows = Rows("r", tmp_path)
    assert rows.state()["parts"].shape == (0, 32)
    rows.restore({"parts": np.zeros((0, 32), np.uint8)})
    assert rows.frame().empty


def strange(place: Path, kind: str) -> None:
    """A folder whose manifest is of another kind than a run's."""
    place.mkdir(parents=True)
    path = place / "manifest.json"
    texts = {
        "cut": '{"status": "fin', "list": "[1, 2]", "empty": "", "number": "7", "bytes": "\udcff",
        "shape": '{"status": "finished", "claims": 3}', "deep": "[" * 10**5}  # fmt: skip
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dead":
        path.symlink_to("nowhere")
    else:
        path.write_text(texts[kind], errors="surrogateescape")


STRANGE = ("cut", "list", "empty", "number", "shape", "deep", "bytes", "pipe", "link", "folder",
           "dead")  # fmt: skip


def test_one_bad_folder_never_disables_the_others(home, folder, capsys):
    digest = manifest_of(folder)["hash"]
    for kind in STRANGE:
        strange(folder.parent / f"z-{kind}-{digest}", kind)
    kind = find("counting.py")
    assert find_run(kind(), digest, finished=True) == folder
    told = capsys.readouterr().err
    write_gallery(Path("runs"))
    drawn = capsys.readouterr().err
    for name in STRANGE:
        if name != "dead":  # a link to nothing is no manifest
            assert f"z-{name}-" in told, name
            assert f"z-{name}-" in drawn, name
        (line,) = named(folder.parent / f"z-{name}-{digest}")
        assert "\n" not in line
        assert len(line) < 600
    text = Path("runs/index.html").read_text()
    assert folder.name in text
    assert "z-cut" not in text


def named(folder: Path) -> list[str]:
    try:
        return verify(folder)
    except UsageError as error:
        return [str(error)]


def additions(folder: Path) -> dict[str, object]:
    """What may be added to a run, by name."""
    return {
        "more.txt": lambda path: path.write_text("x"),
        ".hidden": lambda path: path.write_text("x"),
        ".lock": lambda path: path.write_text(""),
        "tables/more": lambda path: path.mkdir(),
        "unfinished": lambda path: path.mkdir(),
        "unfinished/x": lambda path: path.write_text("x"),
        "tables/unfinished/x": lambda path: path.write_text("x"),
        "tables/manifest.json": lambda path: path.write_text("{}"),
        "tables/.lock": lambda path: path.write_text(""),
        "figures/numbers/.x.1.tmp": lambda path: path.write_text(""),
        "assets/link": lambda path: path.symlink_to("page.js"),
        "dead": lambda path: path.symlink_to("nowhere"),
        "folder": lambda path: path.symlink_to("tables"),
        "pipe": lambda path: os.mkfifo(path),
        "tables/socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    }


def test_every_kind_of_addition_is_named(folder, monkeypatch):
    for name, add in additions(folder).items():
        path = folder / name
        made = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        add(Path(os.path.relpath(path)))
        assert any(name in line for line in verify(folder)), name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for parent in made:
            parent.rmdir()
    assert verify(folder) == []


def test_a_file_replaced_by_a_link_to_the_same_bytes_is_named(folder, tmp_path):
    path = folder / "tables/total.csv"
    (tmp_path / "same").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "same")
    assert any("total.csv: is a link" in line for line in verify(folder))


def test_a_damaged_finished_run_is_run_again(home, folder):
    (folder / "tables/total.csv").write_text("")
    kind = find("counting.py")
    from experiments._runs.opened import started

    assert started(kind()).folder != folder.resolve()
    assert started(kind(), fresh=True).folder.exists()


def test_temporary_files_of_killed_runs_are_swept(home, folder):
    for name in (".x.999999999.tmp", "tables/.y.parquet.999999999.tmp"):
        (folder / name).write_text("half")
    (folder.parent / f".{folder.name}.999999999.tmp").mkdir()
    redraw(folder)
    assert verify(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_manifest_without_a_hash_of_itself_is_named(folder):
    import json

    told = manifest_of(folder)
    told.pop("manifest_sha256")
    (folder / "manifest.json").write_text(json.dumps(told))
    assert verify(folder) == [f"{folder}/manifest.json: has no hash of itself"]


def test_a_failed_drawing_leaves_the_run_as_it_was(home, folder, monkeypatch):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr("experiments._runs.run.write_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        redraw(folder)
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_runs_is_checked(home):
    write_manifest(home, {"a": 1})
    with pytest.raises(UsageError, match="damaged, or no manifest: field status"):
        manifest_of(home)


def test_a_damaged_table_or_figure_does_not_disable_the_gallery(home, folder, capsys):
    for name in ("tables/total.parquet", "figures/numbers/figure.json"):
        path = folder / name
        kept = path.read_bytes()
        path.write_bytes(b"damaged")
        for old in Path("runs").glob("assets/runs/*.js"):
            old.unlink()
        assert folder.name in write_gallery(Path("runs")).read_text()
        path.write_bytes(kept)
    assert "not compared: " in capsys.readouterr().err
