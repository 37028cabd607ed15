"""Files and folders appear and go in one step."""

import shutil

import pytest

from viz.files import remove, sweep


class Killed(Exception):
    """Stands for the end of a process."""


def test_a_process_killed_while_a_folder_is_removed_leaves_no_half_of_it(tmp_path, monkeypatch):
    folder = tmp_path / "unfinished"
    for name in ("rows/0.parquet", "rows/1.parquet", "state"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("kept")

    def killed(path):
        next(path.rglob("*.parquet")).unlink()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(Killed):
            remove(folder)
    assert not folder.exists()
    (left,) = tmp_path.iterdir()
    left.rename(left.with_name(".unfinished.gone.999999999.tmp"))  # its process is gone
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_is_removed_already_and_a_link_by_itself(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("nothing", "link"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
