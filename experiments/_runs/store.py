"""A run on disk: tables, arrays and a manifest, written so that a reader never sees half of one."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from experiments._contract.files import write_atomically, write_safetensors
from experiments._contract.rows import Rows
from experiments._contract.tables import Table

CSV_ROWS = 50_000
GROUP_ROWS = 65_536


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a run says of itself."""
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace a run's manifest."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "manifest.json", text.encode())


class Tables(Mapping[str, pd.DataFrame]):
    """A run's tables by name, each read from its Parquet file when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._read = folder, {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._read:
            path = self._folder / f"{name}.parquet"
            if not path.exists():
                raise KeyError(f"no table {name!r} among {sorted(self)}")
            self._read[name] = pd.read_parquet(path)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self._folder.glob("*.parquet")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
    """Write each array as a safetensors file of its own."""
    for name, array in arrays.items():
        write_safetensors(folder / "arrays" / f"{name}.safetensors", {name: array})


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """A run's arrays by name."""
    files = sorted((folder / "arrays").glob("*.safetensors"))
    return {path.stem: load_file(path)[path.stem] for path in files}


def _write_table(
    folder: Path, name: str, table: pd.DataFrame | Rows, declared: Table
) -> dict[str, Any]:
    path = folder / "tables" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, rows = path.with_name(f".{name}.tmp"), 0
    batches = _row_groups(table)
    first = next(batches)
    settings = {"compression": "zstd", "write_page_checksum": True}
    with pq.ParquetWriter(temporary, first.schema, **settings) as writer:
        for group in _chain(first, batches):
            writer.write_table(group.cast(first.schema), row_group_size=GROUP_ROWS)
            rows += len(group)
    os.replace(temporary, path)
    csv = f"tables/{name}.csv" if rows <= CSV_ROWS else None
    if csv:
        pq.read_table(path).to_pandas().to_csv(folder / csv, index=False)
    meanings = declared.meanings()
    columns = first.schema.names
    return {
        "name": name,
        "about": declared.about,
        "rows": rows,
        "columns": columns,
        "dictionary": {column: meanings[column] for column in columns},
        "parquet": f"tables/{name}.parquet",
        "csv": csv,
    }


def _row_groups(table: pd.DataFrame | Rows) -> Iterator[pa.Table]:
    """The table in groups of equal size, whatever the parts it was written in."""
    if isinstance(table, pd.DataFrame):
        yield _plain(pa.Table.from_pandas(table, preserve_index=False))
        return
    held: pa.Table | None = None
    for path in table.parts():
        part = _plain(pq.read_table(path))
        held = part if held is None else pa.concat_tables([held, part.cast(held.schema)])
        while len(held) >= GROUP_ROWS:
            yield held.slice(0, GROUP_ROWS)
            held = held.slice(GROUP_ROWS)
    yield held if held is not None else pa.table({})


def _plain(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata()


def _chain(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
