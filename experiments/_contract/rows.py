"""Tables that grow batch by batch and live on disk."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments._contract.errors import UsageError
from experiments._contract.files import DIGEST, damaged, sha256
from viz.files import written_aside

if TYPE_CHECKING:
    from experiments._contract.tables import Table

BUFFER_ROWS = 20_000
"""That are held before they are written: few, so that memory does not grow with a table."""


def as_arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """A table as it goes to disk.

    Raises:
        UsageError: a column holds values of several types, or of one that is not stored.
    """
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        for column in frame.columns:
            try:
                pa.Array.from_pandas(frame[column])
            except pa.ArrowException:
                kinds = " and ".join(sorted({type(value).__name__ for value in frame[column]}))
                raise UsageError(
                    f"table {name!r}, column {column!r}: holds {kinds}; give numbers, words or "
                    "truth values, of one type"
                ) from error
        raise


def _as_it_was(table: pa.Table) -> pd.DataFrame:
    """The frame that a table was made of: pandas alone would read objects as other types."""
    frame, said = table.to_pandas(), table.schema.pandas_metadata["columns"]
    objects = [column["name"] for column in said if column["numpy_type"] == "object"]
    return frame.assign(
        **{name: pd.Series(table[name].to_pylist(), dtype=object) for name in objects}
    )


class Rows:
    """A table that grows batch by batch and lives on disk, as numbered Parquet parts.

    `declared` is what its experiment says of it: the first batch that is otherwise is refused.
    """

    def __init__(
        self, name: str, folder: Path, owner: object = None, declared: "Table | None" = None
    ) -> None:
        self.name, self.folder, self._declared = name, folder, declared
        self._owner = owner  # a temporary folder lives as long as the tables in it
        self._buffer: list[pd.DataFrame] = []
        self._parts: list[str] = []  # the hash of each
        self._apart = False  # whether a piece is being made, which stays in memory

    def append(self, frame: pd.DataFrame) -> None:
        """Add a batch of rows; every batch has the same columns and types."""
        if self._declared is not None:
            self._declared.check(self.name, frame)
        self._buffer.append(frame)
        if not self._apart and sum(map(len, self._buffer)) > BUFFER_ROWS:
            self._flush()

    def begin_piece(self) -> None:
        """Forget the rows, whose `state` was taken: those that come now are a piece."""
        self._buffer, self._parts, self._apart = [], [], True

    def end_piece(self) -> dict[str, np.ndarray]:
        """The rows since `begin_piece`, as the bytes of a Parquet file; nothing where none came."""
        self._apart, frames, self._buffer = False, self._buffer, []
        if not frames:
            return {}
        file = io.BytesIO()
        pq.write_table(as_arrow(self.name, pd.concat(frames, ignore_index=True)), file)
        return {"rows": np.frombuffer(file.getvalue(), dtype=np.uint8)}

    def merge(self, piece: dict[str, np.ndarray]) -> None:
        """Add the rows of a piece."""
        if piece:
            self.append(_as_it_was(pq.read_table(io.BytesIO(piece["rows"].tobytes()))))

    def state(self) -> dict[str, np.ndarray]:
        """The hashes of the parts written, after writing what was still in memory."""
        self._flush()
        digests = bytes.fromhex("".join(self._parts))
        return {"parts": np.frombuffer(digests, dtype=np.uint8).reshape(-1, DIGEST)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Forget the parts written after `state` was taken."""
        self._buffer, self._parts = [], [row.tobytes().hex() for row in state["parts"]]

    def parts(self) -> list[Path]:
        """The Parquet files that hold the table, in order.

        Raises:
            UsageError: one of them is not as it was written.
        """
        self._flush()
        paths = [self._part(number) for number in range(len(self._parts))]
        for path, digest in zip(paths, self._parts, strict=True):
            if not path.is_file() or sha256(path) != digest:
                raise damaged(path)
        return paths

    def pieces(self, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """The table as it was written, part by part; rows are numbered as in the whole."""
        start = 0
        for path in self.parts():
            rows = pd.read_parquet(path, columns=columns)
            yield rows.set_axis(range(start, start + len(rows)))
            start += len(rows)

    def frame(self) -> pd.DataFrame:
        """The whole table, in memory; without rows or columns where nothing was added."""
        parts = list(self.pieces())
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _flush(self) -> None:
        if self._buffer:
            self.folder.mkdir(parents=True, exist_ok=True)
            table = as_arrow(self.name, pd.concat(self._buffer, ignore_index=True))
            path = self._part(len(self._parts))
            with written_aside(path) as aside:
                pq.write_table(table, aside)
                digest = sha256(aside)
            self._buffer, self._parts = [], [*self._parts, digest]
