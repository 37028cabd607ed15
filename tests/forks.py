"""Commands as processes that do not import every library again: forks of one that has done so.

A command takes three seconds, most of which are the imports of torch, pandas and matplotlib. Here
they are imported once, in a process that forks for each command; what is of the project is imported
anew in every fork. Commands that are interrupted are started as processes of their own.
"""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
LIBRARIES = (
    "einops", "jaxtyping", "matplotlib.figure", "numpy", "pandas", "plotly.graph_objects",
    "pyarrow.parquet", "pydantic", "safetensors.torch", "scipy.stats", "torch",
)  # fmt: skip
PATIENCE = 300
"""Seconds after which a command is killed."""
MESSAGE = 1 << 20
"""Bytes that a command and its environment take at most."""


class Ended(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


class Forks:
    """The process that forks, and the end of the channel on which commands are sent to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-m", "tests.forks", str(theirs.fileno())]
        self._process = subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()])
        theirs.close()

    def command(self, words: Sequence[object], folder: Path) -> Ended:
        """Run a command of `python -m experiments` in a folder to its end.

        Raises:
            TimeoutError: it had not ended after PATIENCE seconds.
        """
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        asked = {"words": [*map(str, words)], "folder": str(folder), "environment": environment}
        told, telling = os.pipe()
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err, open(told) as status:
            given = [out.fileno(), err.fileno(), telling]
            socket.send_fds(self._channel, [json.dumps(asked).encode()], given)
            os.close(telling)
            code = _awaited(int(status.readline()), status)
            for stream in (out, err):
                stream.seek(0)
            return Ended(code, out.read(), err.read())

    def close(self) -> None:
        """End the process that forks."""
        self._channel.close()
        self._process.wait()


def _awaited(pid: int, status: Any) -> int:
    if not select.select([status], [], [], PATIENCE)[0]:
        os.kill(pid, signal.SIGKILL)
        raise TimeoutError(f"a command had not ended after {PATIENCE} seconds")
    return int(status.readline())


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each command, and return it in the fork; nothing once the channel is closed."""
    while True:
        message, given, _, _ = socket.recv_fds(channel, MESSAGE, 3)
        if not message:
            return None
        if os.fork() == 0:
            channel.close()
            return _begun(json.loads(message), *given)
        for each in given:
            os.close(each)


def _begun(asked: dict[str, Any], out: int, err: int, telling: int) -> dict[str, Any]:
    """Fork once more: the one is the command, the other tells its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        os.write(telling, f"{pid}\n".encode())
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(telling, f"{ended}\n".encode())
        os._exit(0)
    os.close(telling)
    os.dup2(out, 1)
    os.dup2(err, 2)
    return asked


def main(number: int) -> None:
    """Import the libraries, then be each command that is asked for."""
    for name in LIBRARIES:
        import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even where a shell ignored it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork stays a zombie
    if (asked := _serve(socket.socket(fileno=number))) is None:
        return
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[0] = asked["folder"]
    sys.argv[1:] = asked["words"]
    runpy.run_module("experiments", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
