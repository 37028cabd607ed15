"""Numbers of old and of new code never stand in one run."""

import json
import os
from pathlib import Path

import pytest

from experiments import UsageError
from experiments._contract.errors import Stopped
from experiments._contract.stream import current_session
from experiments._runs import sources
from experiments._runs.finding import find
from experiments._runs.manifest import manifest_of
from experiments._runs.run import run
from experiments._runs.store import write_manifest


@pytest.fixture
def lens(home) -> Path:
    """A file beside the experiment that it measures with; a batch stops when `stop` is there."""
    path = home / "lens_of_test.py"
    path.write_text("def seen(number):\n    return number\n")
    text = (home / "counting.py").read_text()
    text = text.replace("import numpy as np", "import numpy as np\nimport lens_of_test")
    text = text.replace("[number] * 3", "[lens_of_test.seen(number)] * 3")
    (home / "counting.py").write_text(text)
    return path


@pytest.fixture
def interrupted(lens, monkeypatch):
    """A run that stopped after its second batch, and its experiment."""
    monkeypatch.syspath_prepend(str(lens.parent))
    monkeypatch.delitem(__import__("sys").modules, "lens_of_test", raising=False)
    kind = find("counting.py")
    real = kind.stream

    def stream(self, *given, **how):
        for number, item in enumerate(real(self, *given, **how)):
            if number == 1:
                current_session().stopping = 130
            yield item

    monkeypatch.setattr(kind, "stream", stream)
    with pytest.raises(Stopped):
        run(kind())
    monkeypatch.setattr(kind, "stream", real)
    (folder,) = (p for p in Path("runs/counting").iterdir() if is_stopped(p))
    return kind, folder


def is_stopped(folder: Path) -> bool:
    return manifest_of(folder)["status"] == "interrupted"


def test_the_same_code_goes_on(interrupted):
    kind, folder = interrupted
    assert run(kind()) == folder
    assert manifest_of(folder)["status"] == "finished"


def test_code_that_changed_begins_anew_and_the_old_run_is_left_and_named(
    interrupted, lens, monkeypatch, capsys
):
    kind, folder = interrupted
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    lens.write_text("def seen(number):\n    return -number\n")
    with pytest.raises(UsageError, match=r"lens_of_test\.py: changed while this process"):
        run(kind())
    monkeypatch.delitem(__import__("sys").modules, "lens_of_test")
    monkeypatch.setattr(sources, "_imported_as", {})  # as a new process has it
    new = run(find("counting.py")())
    assert new != folder
    assert f"left: {folder} was begun with other code" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    numbers = (new / "tables/numbers.csv").read_text().split()[1:]
    assert numbers == [str(-n) for n in range(5) for _ in range(3)]


def test_other_versions_of_libraries_begin_anew(interrupted):
    kind, folder = interrupted
    told = manifest_of(folder)
    write_manifest(folder, told | {"versions": told["versions"] | {"torch": "1.0"}})
    assert run(kind()) != folder


def test_seconds_add_up_and_the_start_stays(interrupted):
    kind, folder = interrupted
    told = manifest_of(folder)
    assert told["seconds"] >= 0
    early = told | {"seconds": 1000.0, "started": "2020-01-01T00:00:00+00:00"}
    write_manifest(folder, early)
    run(kind())
    after = manifest_of(folder)
    assert 1000 < after["seconds"] < 1100
    assert after["started"] == early["started"]


def test_seconds_of_a_killed_run_count_up_to_what_was_kept(interrupted):
    kind, folder = interrupted
    told = manifest_of(folder)
    write_manifest(folder, told | {"status": "running", "seconds": 5, "resumed": told["started"]})
    from datetime import datetime

    began = datetime.fromisoformat(told["started"]).timestamp()
    for path in (folder / "unfinished").rglob("*"):
        os.utime(path, (began + 500, began + 500))
    run(kind())
    assert 505 <= manifest_of(folder)["seconds"] < 600
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"
