"""Requests that cannot be met, faults of the machine, and stops, told in one line."""


class UsageError(Exception):
    """A request that cannot be met, in one line: what, where, and the remedy."""

    code = 2
    """What the command line exits with."""


class MachineFault(UsageError):
    """A fault of the machine, in one line: what happened, what was kept, and what to do."""

    code = 3


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, by Ctrl-C (130) or by SIGTERM (143)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
