"""Tables that grow batch by batch and live on disk."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from experiments._contract.tables import Table

BUFFER_ROWS = 200_000


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
        self._parts = 0

    def append(self, frame: pd.DataFrame) -> None:
        """Add a batch of rows; every batch has the same columns and types."""
        if self._declared is not None:
            self._declared.check(self.name, frame)
        self._buffer.append(frame)
        if sum(map(len, self._buffer)) > BUFFER_ROWS:
            self._flush()

    def state(self) -> dict[str, np.ndarray]:
        """The number of parts written, after writing what was still in memory."""
        self._flush()
        return {"parts": np.array(self._parts)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Forget the parts written after `state` was taken."""
        self._buffer, self._parts = [], int(state["parts"])

    def parts(self) -> list[Path]:
        """The Parquet files that hold the table, in order."""
        self._flush()
        return [self._part(number) for number in range(self._parts)]

    def frame(self) -> pd.DataFrame:
        """The whole table, in memory; without rows or columns where nothing was added."""
        parts = [pd.read_parquet(path) for path in self.parts()]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _flush(self) -> None:
        if self._buffer:
            self.folder.mkdir(parents=True, exist_ok=True)
            frame = pd.concat(self._buffer, ignore_index=True)
            frame.to_parquet(self._part(self._parts), index=False)
            self._buffer, self._parts = [], self._parts + 1
