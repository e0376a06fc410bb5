"""Every sample of some runs in one flat table, for tools that are not ours: one row a sample, Parquet or CSV.

Runs are read twice, line by line: first for the columns and their types, then for the rows, so that memory does not grow with
the file.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from analysis import AnalysisError
from analysis.report.load import RECORD_COLUMNS, choose, row
from analysis.statistics.ratios import turns
from results import output, store
from results.output import in_csv
from results.store import ROOT, DamagedLine, StoreError

FORMATS = ("parquet", "csv")
ROWS_AT_ONCE = 1 << 15
OF_A_MEASUREMENT = ("metric", "unit", "notes")
OF_A_SAMPLE = {"turn": pa.int64(), "sample": pa.int64(), "value": pa.float64()}
LARGEST_INT = 2**63 - 1  # of a column of whole numbers
Row = dict[str, Any]


def export(paths: Sequence[Path], out: Path, format: str | None = None, root: Path = ROOT) -> Path:
    """Write every sample of runs as one flat table.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        out: the file to write.
        format: parquet or csv; without it, that of the suffix of `out`.
        root: folder of results.

    Returns:
        `out`. One row per sample: the columns of a record, then metric, unit, notes, turn, sample (its place) and value. What
        was skipped or failed has one row with its status and reason, and no value. A column with values of several types is
        text.

    Raises:
        AnalysisError: a format that is neither parquet nor csv.
        StoreError: nothing to read, or nowhere to write.
    """
    chosen = format or out.suffix.removeprefix(".")
    if chosen not in FORMATS:
        raise AnalysisError(
            f"cannot export to {out.name} as {chosen or 'a file without suffix'!r}; choose from {', '.join(FORMATS)}"
        )
    runs = choose(paths, root)
    schema = _schema(runs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with output.replacing(out) as part, _writer(chosen, part, schema) as writer:
            for table in _tables(runs, schema, guarded=chosen == "csv"):
                writer.write_table(table)
    except OSError as error:
        raise StoreError(f"cannot export to {out}: {error.strerror or error}; choose another file") from error
    return out


def samples(runs: Sequence[Path]) -> pd.DataFrame:
    """The same table in memory, with pandas' nullable types."""
    schema = _schema(runs)
    return pa.concat_tables([schema.empty_table(), *_tables(runs, schema)]).to_pandas().convert_dtypes()


def _writer(format: str, path: Path, schema: pa.Schema) -> pq.ParquetWriter | pa_csv.CSVWriter:
    return pa_csv.CSVWriter(path, schema) if format == "csv" else pq.ParquetWriter(path, schema)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that differ in turn, place and value only: samples of one measurement. One row without them where turns is None."""

    columns: Row
    turns: np.ndarray | None = None
    first: int = 0
    values: np.ndarray | None = None

    @property
    def count(self) -> int:
        return 1 if self.values is None else len(self.values)


def _rows(path: Path) -> Iterator[Rows]:
    for header, record in store.stream(path):
        own = row(header, record)
        if record.status != "ok":
            yield Rows(own)
            continue
        for measured in record.measurements:
            columns = own | {"metric": measured.metric, "unit": measured.unit, "notes": " ".join(measured.notes)}
            values = np.asarray(measured.samples, dtype=float)
            parts = turns(values, measured.blocks)
            turn = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            for first in range(0, len(values), ROWS_AT_ONCE):
                some = slice(first, first + ROWS_AT_ONCE)
                yield Rows(columns, turn[some], first, values[some])


def _groups(each: Iterable[Rows]) -> Iterator[list[Rows]]:
    """At least ROWS_AT_ONCE rows together, but for the last."""
    group: list[Rows] = []
    size = 0
    for rows in each:
        group.append(rows)
        size += rows.count
        if size >= ROWS_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group


def _schema(runs: Sequence[Path]) -> pa.Schema:
    """Columns in the order in which they first appear, those of every record first."""
    types: dict[str, set[type]] = {name: set() for name in (*RECORD_COLUMNS, *OF_A_MEASUREMENT)}
    for path in runs:
        for header, record in store.stream(path):
            for name, value in row(header, record).items():
                types.setdefault(name, set()).add(str if isinstance(value, int) and abs(value) > LARGEST_INT else type(value))
    return pa.schema([*((name, _type(found - {type(None)})) for name, found in types.items()), *OF_A_SAMPLE.items()])


def _type(types: set[type]) -> pa.DataType:
    for several, column in (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64())):
        if types and types <= several:
            return column
    return pa.string()


def _tables(runs: Sequence[Path], schema: pa.Schema, guarded: bool = False) -> Iterator[pa.Table]:
    """All rows, some at once. guarded: as `_cell`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedLine)  # they were shown when the columns were read
        for group in _groups(rows for path in runs for rows in _rows(path)):
            yield _table(group, schema, guarded)


def _table(group: Sequence[Rows], schema: pa.Schema, guarded: bool) -> pa.Table:
    counts = [rows.count for rows in group]
    repeated = pa.array(np.repeat(np.arange(len(group)), counts))
    columns = {
        field.name: pa.array([_cell(rows.columns.get(field.name), field.type, guarded) for rows in group], field.type).take(
            repeated
        )
        for field in schema
        if field.name not in OF_A_SAMPLE
    }
    empty = np.repeat([rows.values is None for rows in group], counts)
    for name, type in OF_A_SAMPLE.items():
        columns[name] = pa.array(np.concatenate([_of_samples(rows)[name] for rows in group]), type, mask=empty)
    return pa.table(columns, schema=schema)


def _of_samples(rows: Rows) -> dict[str, np.ndarray]:
    if rows.values is None or rows.turns is None:
        return dict.fromkeys(OF_A_SAMPLE, np.zeros(1))
    return {"turn": rows.turns, "sample": rows.first + np.arange(rows.count), "value": rows.values}


def _cell(value: Any, column: pa.DataType, guarded: bool) -> Any:
    """guarded: text that a spreadsheet would take for a formula begins with an apostrophe."""
    if value is None or column != pa.string():
        return float(value) if column == pa.float64() and value is not None else value
    text = value if isinstance(value, str) else json.dumps(value)
    return in_csv(text) if guarded else text
