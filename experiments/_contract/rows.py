"""Tables that grow batch by batch and live on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


BUFFER_ROWS = 200_000


class Rows:
    """A table that grows batch by batch and lives on disk, as numbered Parquet parts."""

    def __init__(self, name: str, folder: Path, owner: object = None) -> None:
        self.name, self.folder = name, folder
        self._owner = owner  # a temporary folder lives as long as the tables in it
        self._buffer: list[pd.DataFrame] = []
        self._parts = 0

    def append(self, frame: pd.DataFrame) -> None:
        """Add a batch of rows; every batch has the same columns and types."""
        self._buffer.append(frame)
        if sum(map(len, self._buffer)) > BUFFER_ROWS:
            self._flush()

    def state(self) -> dict[str, np.ndarray]:
        """The number of parts written, after writing what was still in memory."""
        import numpy as np

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
        """The whole table, in memory."""
        import pandas as pd

        return pd.concat([pd.read_parquet(path) for path in self.parts()], ignore_index=True)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    def _flush(self) -> None:
        import pandas as pd

        if self._buffer:
            self.folder.mkdir(parents=True, exist_ok=True)
            frame = pd.concat(self._buffer, ignore_index=True)
            frame.to_parquet(self._part(self._parts), index=False)
            self._buffer, self._parts = [], self._parts + 1
