"""A suite's lists stand for their product, and every point is validated before anything runs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import UsageError
from experiments._runs.suite import read_suite, run_by_processes
from viz.manifests import read_manifest, status_of

HOME = Path(__file__).parents[3]


def points(tmp_path, text: str) -> list:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return read_suite(path)


def test_lists_stand_for_their_product(tmp_path):
    found = points(
        tmp_path,
        """
        [[run]]
        experiment = ["head_contributions", "head_redundancy"]
        model = ["adder_6d_1l", "adder_6d_2l"]
        seed = [0, 1]
        [[run]]
        experiment = "attention_primer"
        """,
    )
    assert [(point.name(), point.model, point.seed) for point in found] == [
        ("head_contributions", "adder_6d_1l", 0),
        ("head_contributions", "adder_6d_1l", 1),
        ("head_redundancy", "adder_6d_1l", 0),
        ("head_redundancy", "adder_6d_1l", 1),
        ("head_contributions", "adder_6d_2l", 0),
        ("head_contributions", "adder_6d_2l", 1),
        ("head_redundancy", "adder_6d_2l", 0),
        ("head_redundancy", "adder_6d_2l", 1),
        ("attention_primer", "none", 0),
    ]


def test_a_list_for_a_field_of_several_values_is_its_value(tmp_path):
    (point,) = points(
        tmp_path, '[[run]]\nexperiment = "head_contributions"\nprompts = ["one", "two"]'
    )
    assert point.prompts == ("one", "two")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[run]]\nmodel = "x"', 'run 1: needs experiment = "NAME"'),
        ("[[run]]\nexperiment = []", 'run 1: needs experiment = "NAME"'),
        ('[[run]]\nexperiment = ["head_contributions", 3]', "run 1: needs experiment"),
        ('[[run]]\nexperiment = "head_contributions"\nmodel = ["adder_6d_1l", "addr_6d_2l"]',
         "run 1: no model 'addr_6d_2l': did you mean adder_6d_2l?"),
        ('[[run]]\nexperiment = "head_contributions"\nseed = [0, -1]', "run 1: .*field seed"),
        ('[[run]]\nexperiment = "head_contributions"\nseed = []', "run 1: .*field seed"),
        ('[[run]]\nexperiment = "head_contributions"\ndevice = "cuda:99"', "device cuda:99"),
        ('[[run]]\nexperiment = ["head_contributions", "attention_primer"]\nadditions = 3',
         "run 1: attention_primer has no field 'additions'"),
    ],
)  # fmt: skip
def test_a_wrong_point_is_told_before_anything_runs(text, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        points(tmp_path, text)


TWO = """
[[run]]
experiment = "addition_accuracy"
model = "adder_6d_1l"
per_cell = 2
uniform = 4
seed = [0, 1]
"""


def suite_by_two(folder: Path, jobs: str = "2") -> subprocess.Popen:
    """A suite of two runs in a folder of its own, by so many processes, or as many as runs."""
    (folder / "suite.toml").write_text(TWO)
    words = [sys.executable, "-m", "experiments", "suite", "suite.toml", "--jobs", jobs]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=folder, env=os.environ | {"PYTHONPATH": str(HOME)}, **pipes)


def manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/addition_accuracy/*/manifest.json"))


def test_two_processes_share_the_runs_and_do_each_once(tmp_path):
    out, err = (asked := suite_by_two(tmp_path, "1000")).communicate(timeout=300)
    assert asked.returncode == 0, err
    *folders, gallery = out.splitlines()[1:]
    told = [read_manifest(tmp_path / folder) for folder in folders]
    assert [one["seeds"] for one in told] == [[0], [1]]
    assert len(manifests(tmp_path)) == 2
    assert Path(gallery).exists()


@pytest.mark.slow
def test_a_stop_ends_both_and_the_next_goes_on(tmp_path):
    asked = suite_by_two(tmp_path)
    while not manifests(tmp_path) and asked.poll() is None:
        time.sleep(0.01)
    asked.terminate()
    asked.communicate(timeout=60)
    assert asked.returncode == 143
    stopped = [path.parent for path in manifests(tmp_path)]
    assert {status_of(one, read_manifest(one)) for one in stopped} <= {"interrupted", "finished"}
    out, _ = suite_by_two(tmp_path).communicate(timeout=300)
    assert len(out.splitlines()) == 4


def test_processes_that_fail_are_counted(tmp_path):
    with pytest.raises(UsageError, match="2 of 2 processes failed"):
        run_by_processes(2, tmp_path / "missing.toml", [])


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_a_process_at_least(count, tmp_path):
    with pytest.raises(UsageError, match=f"--jobs {count}: give 1 or more"):
        run_by_processes(count, tmp_path / "suite.toml", [])
