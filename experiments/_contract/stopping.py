"""What Ctrl-C and SIGTERM do to what runs."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from experiments._contract.errors import Stopped

SIGNS = (signal.SIGINT, signal.SIGTERM)
AGAIN_SECONDS = 0.01


def _stop(code: int) -> None:
    raise Stopped(code)


@contextmanager
def stopped_by_signals(asked: Callable[[int], None] = _stop) -> Iterator[None]:
    """`asked(130)` at Ctrl-C and `asked(143)` at SIGTERM; the Stopped it raises ends what runs.

    Once a stop was raised, an error that arrives here is that stop: code in C may have put an
    error of its own in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    stops: list[Stopped] = []

    def handle(number: int, _: FrameType | None) -> None:
        try:
            asked(128 + number)
        except Stopped as stop:
            stops.append(stop)
            raise

    try:
        with _handled_by(handle), _not_swallowed():
            yield
    except Exception as error:
        if stops:
            raise stops[-1] from error
        raise


@contextmanager
def _handled_by(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals that are not ignored already come to `handle` meanwhile."""
    before = {sign: signal.getsignal(sign) for sign in SIGNS}
    for sign, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(sign, handle)
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


@contextmanager
def _not_swallowed() -> Iterator[None]:
    """A stop that was raised in a finalizer, where Python drops it, is sent again."""
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, Stopped):
            before(dropped)
        else:
            sign = dropped.exc_value.code - 128
            threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), sign)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
