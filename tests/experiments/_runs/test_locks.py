"""Locks of a folder, by this process; other processes are tried in test_two_processes."""

import threading

import pytest

from experiments._runs.locks import Busy, locked


def test_a_thread_does_not_wait_for_itself(tmp_path):
    path = tmp_path / ".lock"
    with locked(path):
        with pytest.raises(Busy, match="this program already runs it; if"), locked(path, wait=True):
            pass
        assert path.exists(), "the first still holds it"
    with locked(path):
        pass
    assert not path.exists()


def test_another_thread_waits(tmp_path):
    path, order = tmp_path / ".lock", []

    def second() -> None:
        with locked(path, wait=True):
            order.append("second")

    with locked(path):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
