"""A run on disk: tables, arrays and a manifest, written so that a reader never sees half of one."""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

from experiments._contract.errors import UsageError
from experiments._contract.files import write_safetensors
from experiments._contract.memory import give_back
from experiments._contract.rows import Rows, as_arrow
from experiments._contract.tables import Table
from viz.files import write_atomically, written_aside
from viz.manifests import ManifestError, checked_bytes, refuse_changed, sealed

Files = Mapping[str, Mapping[str, Any]]
CSV_ROWS = 50_000
GROUP_ROWS = 2**14


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace a run's manifest, with a hash of itself."""
    write_atomically(folder / "manifest.json", sealed(manifest).encode())


class Stored(Mapping[str, Any]):
    """Numbers of a run by name, each read when first asked for, and only as they were written.

    `files` is what the manifest says of the files; bytes with another hash are refused.
    """

    kind, end = "", ""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder, self._files, self._read = folder, files, {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            if name not in set(self):
                raise KeyError(f"no {self.kind[:-1]} {name!r} among {sorted(self)}")
            path = f"{self.kind}/{name}{self.end}"
            self._read[name] = self._of(name, checked(self._folder, path, self._files))
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        start = f"{self.kind}/"
        ours = (n for n in self._files if n.startswith(start) and n.endswith(self.end))
        return iter(sorted(n.removeprefix(start).removesuffix(self.end) for n in ours))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<{self.kind}: {', '.join(self)}>"


class Tables(Stored):
    """A run's tables by name, as DataFrames."""

    kind, end = "tables", ".parquet"

    def _of(self, name: str, content: bytes) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(content))

    def pieces(self, name: str, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
        """See `Results.pieces`; the file's hash is compared before anything is read."""
        path, start = f"{self.kind}/{name}{self.end}", 0
        refuse_changed_file(self._folder, path, self._files)
        with pq.ParquetFile(self._folder / path, page_checksum_verification=True) as file:
            # Group by group: iter_batches would read ahead, up to the whole file.
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number, columns).to_pandas()
                yield rows.set_axis(range(start, start + len(rows)))
                start += len(rows)


class Arrays(Stored):
    """A run's arrays by name."""

    kind, end = "arrays", ".safetensors"

    def _of(self, name: str, content: bytes) -> np.ndarray:
        return load(content)[name]


def checked(folder: Path, name: str, files: Files) -> bytes:
    """The bytes of a file of a run.

    Raises:
        UsageError: they are not those of which the manifest has the hash.
    """
    try:
        return checked_bytes(folder, name, files)
    except ManifestError as error:
        raise UsageError(str(error)) from None


def refuse_changed_file(folder: Path, name: str, files: Files) -> None:
    """Compare a file of a run with the manifest, without holding all of it.

    Raises:
        UsageError: its bytes are not those of which the manifest has the hash.
    """
    try:
        refuse_changed(folder, name, files)
    except ManifestError as error:
        raise UsageError(str(error)) from None


def write_tables(
    folder: Path, tables: Mapping[str, pd.DataFrame | Rows], declared: Mapping[str, Table]
) -> list[dict[str, Any]]:
    """Write each table as Parquet, and as CSV where it is short; say what was written.

    Raises:
        UsageError: a table is not as the experiment declares it.
    """
    for name, table in tables.items():
        if isinstance(table, pd.DataFrame):  # those that stream were checked batch by batch
            declared[name].check(name, table)
    return [_write_table(folder, name, table, declared[name]) for name, table in tables.items()]


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write each array as a safetensors file of its own (raises UsageError for no numbers)."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "biuf":
            raise UsageError(f"array {name!r}: holds {np.asarray(array).dtype}; give numbers")
        write_safetensors(folder / "arrays" / f"{name}.safetensors", {name: array})


def _write_table(
    folder: Path, name: str, table: pd.DataFrame | Rows, declared: Table
) -> dict[str, Any]:
    path, rows = folder / "tables" / f"{name}.parquet", 0
    batches = _row_groups(name, table)
    first = next(batches)
    settings = {"compression": "zstd", "write_page_checksum": True}
    with written_aside(path) as aside, pq.ParquetWriter(aside, first.schema, **settings) as writer:
        for group in _chain(first, batches):
            writer.write_table(group.cast(first.schema), row_group_size=GROUP_ROWS)
            rows += len(group)
            give_back()
    csv = f"tables/{name}.csv" if rows <= CSV_ROWS else None
    if csv:
        frame = pq.read_table(path, page_checksum_verification=True).to_pandas()
        with written_aside(folder / csv) as aside:
            frame.to_csv(aside, index=False)
    meanings = declared.meanings()
    columns = first.schema.names
    return {
        "name": name,
        "about": declared.about,
        "rows": rows,
        "columns": columns,
        "key": [name for name in declared.keys if name in columns],
        "dictionary": {column: meanings[column] for column in columns},
        "parquet": f"tables/{name}.parquet",
        "csv": csv,
    }


def _row_groups(name: str, table: pd.DataFrame | Rows) -> Iterator[pa.Table]:
    """The table in groups of equal size, whatever the parts it was written in."""
    if isinstance(table, pd.DataFrame):
        yield _plain(as_arrow(name, table))
        return
    held: pa.Table | None = None
    for path in table.parts():
        part = _plain(pq.read_table(path))
        held = part if held is None else pa.concat_tables([held, _cast(name, part, held.schema)])
        while len(held) >= GROUP_ROWS:
            yield held.slice(0, GROUP_ROWS)
            held = held.slice(GROUP_ROWS)
    yield held if held is not None else pa.table({})


def _cast(name: str, part: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part with the types of the first one."""
    try:
        return part.cast(schema)
    except (pa.ArrowInvalid, ValueError) as error:
        line = str(error).splitlines()[0]
        raise UsageError(f"table {name!r}: batches differ in their columns: {line}") from error


def _plain(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata()


def _chain(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
