"""A command says at once that it has begun, and starts without waste."""

import gc
import os
import subprocess
import sys

import pytest
import torch

from experiments._runs.starting import loading, threads_for
from models import load

WATCHED = """
import gc, os, sys
from experiments.__main__ import main

class Watch:
    def find_spec(self, name, *_):
        if name in ("torch", "numpy"):
            print(name, os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)

sys.meta_path.insert(0, Watch())
main(sys.argv[1:])
searches = sum(one["collections"] for one in gc.get_stats())
print(gc.isenabled(), gc.get_freeze_count(), searches, gc.get_stats()[2]["collections"])
"""


def test_a_run_says_first_that_it_has_begun_and_imports_without_collecting(counting, tmp_path):
    words = ["run", str(counting), "--count", "0"]
    how = {"env": {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}}
    how |= {"capture_output": True, "text": True, "cwd": tmp_path}
    done = subprocess.run([sys.executable, "-c", WATCHED, *words], **how)
    *imported, refused = done.stderr.splitlines()
    first, *counts = done.stdout.splitlines()
    assert first == f"{counting}: importing libraries"
    assert sorted(set(imported)) == ["numpy PASSIVE", "torch PASSIVE"]
    assert refused.startswith("error: ")
    enabled, frozen, searches, whole = " ".join(counts).split()
    assert enabled == "True"
    assert int(frozen) > 100_000
    assert (int(searches) < 200, int(whole)) == (True, 0)


def test_what_is_loaded_stays_until_another_is_loaded():
    try:
        with loading():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count()
        with loading():
            assert not gc.get_freeze_count()
    finally:
        gc.unfreeze()


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("set_by_user", "expected"), [(None, 1), ("2", 2)])
@pytest.mark.usefixtures("two_threads")
def test_a_small_model_has_one_thread_unless_the_user_says_otherwise(
    set_by_user, expected, adder, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    for model in (None, adder):
        with threads_for(model):
            assert torch.get_num_threads() == expected
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_large_model_keeps_its_threads(adder, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("experiments._runs.starting.FEW_WEIGHTS", 1_000)
    with threads_for(adder):
        assert torch.get_num_threads() == 2
