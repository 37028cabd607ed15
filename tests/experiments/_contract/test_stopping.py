"""A stop that was asked for is a stop, whatever becomes of it on the way."""

import signal
import time

import pytest

from experiments._contract.errors import Stopped
from experiments._contract.stopping import SIGNS, stopped_by_signals


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell's background job ignores SIGINT, and what is ignored already stays so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("sign", SIGNS)
def test_an_error_that_a_stop_became_is_a_stop(sign):
    def parse():
        try:
            signal.raise_signal(sign)
        except Stopped:
            raise SystemError("as code in C says it") from None

    with pytest.raises(Stopped) as stop, stopped_by_signals():
        parse()
    assert stop.value.code == 128 + sign


def test_other_errors_stay_what_they_are():
    with pytest.raises(SystemError), stopped_by_signals():
        raise SystemError


def test_handlers_are_restored():
    before = [signal.getsignal(sign) for sign in SIGNS]
    with stopped_by_signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(sign) for sign in SIGNS] == before


def test_a_stop_in_a_finalizer_is_not_lost(capsys):
    class Closing:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work():
        Closing()
        time.sleep(5)

    with pytest.raises(Stopped) as stop, stopped_by_signals():
        work()
    assert stop.value.code == 143
    assert capsys.readouterr().err == ""
