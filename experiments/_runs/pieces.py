"""A run as pure pieces: what each batch of a stream adds to what is kept, named by its content."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from experiments._contract.errors import Stopped, UsageError
from experiments._contract.progress import progress
from experiments._contract.stream import Keep, Pieced, Session
from experiments._runs.locks import Busy, locked
from viz.files import write_atomically

WAIT_SECONDS = 0.2
"""Between two looks at pieces that others are making."""
END = ".safetensors"

Arrays = dict[str, np.ndarray]


class Pieces:
    """The pieces of a run, in a folder that all who work on it share.

    Worker `turn` of `of` makes the pieces of its turn first, then those that nobody is at, so one
    that is killed or comes late holds up nobody. When all pieces of a stream are there, every
    worker merges them in the order of the batches: all go on with the same numbers, bit for bit,
    as one process that read the batches one after the other.
    """

    def __init__(self, folder: Path, turn: int = 0, of: int = 1) -> None:
        self.folder, self.turn, self.of = folder, turn, of
        self.made, self.all = 0, 0
        """Pieces that this process made, and pieces there are."""
        self._before = ""  # a hash of all that came before the next stream

    def stream(
        self, session: Session, batches: Sequence[Any], kept: list[Keep], label: str
    ) -> Iterator[Any]:
        """The batches that this process works on; then `kept` is what all of them gave."""
        _refuse_what_cannot_be_cut(kept, label)
        there = _Stream(self._folder_of(label, len(batches)), label, len(batches))
        self.all += len(batches)
        start = [keep.state() for keep in kept]
        with progress(label, len(batches), 0) as tell:
            while missing := there.missing():
                made = self.made
                for number in sorted(missing, key=lambda n: ((n - self.turn) % self.of, n)):
                    with there.claimed(number) as mine:
                        if mine:
                            yield from self._made(session, batches[number], kept, there, number)
                tell(len(batches) - len(missing) + self.made - made)
                if self.made == made:
                    time.sleep(WAIT_SECONDS)  # others are at what is missing
        for keep, state in zip(kept, start, strict=True):
            keep.restore(state)
        there.merge_into(kept)
        self._before = hashlib.sha256("".join([self._before, *there.names()]).encode()).hexdigest()

    def _made(
        self, session: Session, batch: Any, kept: list[Keep], there: "_Stream", number: int
    ) -> Iterator[Any]:
        """Make one piece while its batch is worked on."""
        for keep in kept:
            keep.begin_piece()
        session.within = True
        yield batch
        there.write(number, [keep.end_piece() for keep in kept])
        self.made += 1
        session.within = False
        if session.stopping:
            raise Stopped(session.stopping)

    def _folder_of(self, label: str, count: int) -> Path:
        """Where a stream's pieces lie: named by all that decides what they are."""
        what = json.dumps([self._before, label, count]).encode()
        return self.folder / hashlib.sha256(what).hexdigest()[:16]


class _Stream:
    """The pieces of one stream: NUMBER-CONTENT.safetensors, whose content has that hash."""

    def __init__(self, folder: Path, label: str, count: int) -> None:
        self.folder, self.label, self.count = folder, label, count
        folder.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """The files of the pieces that are there, in order (raises UsageError for two of one)."""
        names = sorted(path.name for path in self.folder.glob(f"[0-9]*-*{END}"))
        for one, two in pairwise(names):
            if one.partition("-")[0] == two.partition("-")[0]:
                raise UsageError(
                    f"{self.folder}: {one} and {two} are one batch of {self.label!r} and differ: "
                    "the machines that made them do not calculate alike; use machines of one kind"
                )
        return names

    def missing(self) -> list[int]:
        """The batches of which there is no piece."""
        there = {int(name.partition("-")[0]) for name in self.names()}
        return [number for number in range(self.count) if number not in there]

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Whether a piece is ours to make: nobody else is at it, and it is not there."""
        try:
            with locked(self.folder / f"{number:06d}.lock"):
                yield not list(self.folder.glob(f"{number:06d}-*{END}"))
        except Busy:
            yield False

    def write(self, number: int, parts: list[Arrays]) -> None:
        """Write what a batch added to each of what is kept."""
        held = {f"{i}.{name}": np.asarray(value, order="C") for i, part in enumerate(parts)
                for name, value in part.items()}  # fmt: skip
        content = save(held)
        digest = hashlib.sha256(content).hexdigest()[:32]
        write_atomically(self.folder / f"{number:06d}-{digest}{END}", content)

    def merge_into(self, kept: list[Keep]) -> None:
        """Give what is kept all pieces, in order (raises UsageError for a damaged one)."""
        for name in self.names():
            content = (self.folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest()[:32] != name.partition("-")[2].removesuffix(END):
                raise UsageError(f"{self.folder / name}: damaged; delete it, then the same again")
            held = load(content)
            for i, keep in enumerate(kept):
                start = f"{i}."
                mine = {k.removeprefix(start): v for k, v in held.items() if k.startswith(start)}
                keep.merge(mine)


def _refuse_what_cannot_be_cut(kept: list[Keep], label: str) -> None:
    for keep in kept:
        if not isinstance(keep, Pieced):
            raise UsageError(
                f"{label!r} cannot be cut into pieces: {type(keep).__name__} goes on from batch to "
                "batch; run it without --shard"
            )
