"""Processes that are killed, stopped, doubled or short of something lose nothing."""

import resource
import signal

import pytest

from tests.faults import trials
from tests.faults.conftest import DRAWING


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """An experiment of about a second, half of it measuring, that runs in forked processes."""
    home = tmp_path_factory.mktemp("stops")
    (home / "counting.py").write_text(DRAWING)
    return trials.place(home, "run", "counting.py", "--count", "20", "--pause", "0.02")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_and_ends_the_same(sign, here):
    assert [what for what, right in trials.stopped(here, sign, 2, sign) if not right] == []


def test_processes_on_one_command_run_it_once(here):
    assert all(right for _, right in trials.together(here, 3))


def test_processes_on_one_suite_run_each_point_once(here):
    text = "".join(f'[[run]]\nexperiment = "counting.py"\ncount = {n}\n' for n in (2, 3))
    (here.home / "suite.toml").write_text(text)
    words = ("suite", "suite.toml", "--file", "counting.py")
    assert trials.together_on_a_suite(here.home, words, 2, 2)[1]


@pytest.mark.parametrize("most", [20_000])
def test_a_file_limit_is_one_line(most, here):
    what, right = trials.limited(here, "file", trials.no_more_than(resource.RLIMIT_FSIZE, most))
    assert right, what


def test_too_few_open_files_are_one_line(here):
    what, right = trials.limited(here, "open", trials.no_more_than(resource.RLIMIT_NOFILE, 6))
    assert right, what
