"""Checkpoints and exact resume of a stream of batches, and tables that live on disk."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from experiments._contract.errors import Stopped
from experiments._contract.files import read_checkpoint, write_checkpoint
from experiments._contract.memory import give_back
from experiments._contract.progress import progress, say
from experiments._contract.rows import Rows
from experiments._contract.stopping import stopped_by_signals
from experiments._contract.tables import Table

Batch = TypeVar("Batch")
CHECKPOINT_SECONDS = 2.0


@runtime_checkable
class Keep(Protocol):
    """What a stream accumulates: its whole state as arrays, and back."""

    def state(self) -> dict[str, np.ndarray]:
        """Everything needed to go on from here."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Become what `state` was taken from."""


@runtime_checkable
class Pieced(Keep, Protocol):
    """What a stream accumulates in pieces that different processes may make, one a batch."""

    def begin_piece(self) -> None:
        """Set aside what it holds: what comes until `end_piece` is one piece."""

    def end_piece(self) -> dict[str, np.ndarray]:
        """What came since `begin_piece`, by itself."""

    def merge(self, piece: dict[str, np.ndarray]) -> None:
        """Take in a piece; in the order of the batches it ends as if it had seen them all."""


class Shared(Protocol):
    """The pieces of a run that several processes make."""

    def stream(
        self, session: "Session", batches: Sequence[Any], kept: list[Keep], label: str
    ) -> Iterator[Any]:
        """The batches that this process works on."""


class Session:
    """Where a running experiment keeps what it has measured so far."""

    def __init__(
        self, folder: Path | None = None, label: str = "", shared: Shared | None = None
    ) -> None:
        self._shared = shared
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="carrylens-")
        self.folder = folder or Path(self._temporary.name)
        self.label, self.stopping = label, 0
        """The exit code with which it is to end after this batch; 0 while it goes on."""
        self.within = False
        """Whether a batch is being worked on."""
        self._streams = 0

    def rows(self, name: str, declared: Table | None = None) -> Rows:
        """An empty table `name`, whose parts lie beside the checkpoints."""
        return Rows(name, self.folder / "rows" / name, self._temporary, declared)

    def stream(
        self, batches: Iterable[Batch], keep: Keep | Iterable[Keep], label: str
    ) -> Iterator[Batch]:
        """See `Experiment.stream`."""
        kept = [keep] if isinstance(keep, Keep) else list(keep)
        if self._shared is not None and kept:
            listed = batches if isinstance(batches, Sequence) else list(batches)
            return self._shared.stream(self, listed, kept, f"{self.label} {label}".strip())
        path = self.folder / f"stream-{self._streams}.safetensors"
        self._streams += 1
        return self._stream(batches, _Checkpoint(path, kept), f"{self.label} {label}".strip())

    def _stream(
        self, batches: Iterable[Batch], checkpoint: "_Checkpoint", label: str
    ) -> Iterator[Batch]:
        done, total = checkpoint.load(), len(batches) if isinstance(batches, Sized) else None
        with progress(label, total, done) as tell:
            for batch in islice(iter(batches), done, None):
                self.within = True
                yield batch  # control comes back when the batch has been used to the full
                done += 1
                checkpoint.save(done, now=bool(self.stopping))
                self.within = False
                if self.stopping:
                    raise Stopped(self.stopping)
                tell(done)
        checkpoint.save(done, now=True)


class _Checkpoint:
    """The state of what a stream keeps, after a number of batches."""

    def __init__(self, path: Path, kept: list[Keep]) -> None:
        self.path, self.kept, self._saved = path, kept, time.monotonic()

    def load(self) -> int:
        """The number of batches done before, whose state is restored; 0 at a first start."""
        if not self.path.exists():
            return 0
        stored = read_checkpoint(self.path)
        for i, keep in enumerate(self.kept):
            mine = {k.removeprefix(f"{i}."): v for k, v in stored.items() if k.startswith(f"{i}.")}
            keep.restore(mine)
        return int(stored["done"])

    def save(self, done: int, now: bool) -> None:
        """Write the state after `done` batches: `now`, or if the last is long enough ago."""
        if not now and time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        state = {f"{i}.{k}": v for i, keep in enumerate(self.kept) for k, v in keep.state().items()}
        write_checkpoint(self.path, {"done": np.array(done), **state})
        del state
        give_back()
        self._saved = time.monotonic()


_current: ContextVar[Session | None] = ContextVar("session", default=None)
_shared: ContextVar[Shared | None] = ContextVar("shared", default=None)


@contextmanager
def in_pieces(shared: Shared) -> Iterator[None]:
    """Have the streams of runs that begin inside make and merge `shared` pieces."""
    token = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(token)


def current_session() -> Session:
    """The session of the run that is going on, or a throwaway one (in a notebook, say)."""
    return _current.get() or Session()


@contextmanager
def session(folder: Path, label: str) -> Iterator["Session"]:
    """Make `folder` the place of checkpoints."""
    running = Session(folder, label, _shared.get())
    token = _current.set(running)
    try:
        yield running
    finally:
        _current.reset(token)


def stoppable() -> AbstractContextManager[None]:
    """Ctrl-C and SIGTERM wait for the batch that is being worked on; a second one does not."""
    return stopped_by_signals(_stop)


def _stop(code: int) -> None:
    running = _current.get()
    if running is None or running.stopping or not running.within:
        raise Stopped(code)
    running.stopping = code
    say("Stopping after this batch, to keep it; once more stops at once.")
