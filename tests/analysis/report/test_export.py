"""Every sample leaves as one row, refusals too; the terminal's rows say the same as the report."""

from __future__ import annotations

import errno
from pathlib import Path

import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.report.export import export
from analysis.report.summary import rows, values
from results.record import Header, Measurement, Record
from results.store import StoreError, Writer, read

HEADER = Header("120000-odd", "2026-01-01T12:00:00+00:00", 1, "m", {}, {})


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_no_sample_and_no_refusal_is_lost(run_file: Path, tmp_path: Path, suffix: str) -> None:
    path = export([run_file], tmp_path / "new" / f"all.{suffix}")
    table = pd.read_parquet(path) if suffix == "parquet" else pd.read_csv(path)
    records = read(run_file).records
    expected = [value for record in records for measured in record.measurements for value in measured.samples]
    assert table["value"].dropna().astype(float).tolist() == pytest.approx(expected, rel=1e-12)
    refused = table[table["status"] != "ok"]
    assert len(refused) == sum(record.status != "ok" for record in records) and refused["value"].isna().all()
    assert {"hidden_size", "batch", "replicate", "turn", "count_flops", "reason"} <= set(table)


def test_export_mistakes_say_what_to_do(run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"cannot export to all.xlsx as 'xlsx'; choose from parquet, csv"):
        export([run_file], tmp_path / "all.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another file"):
        export([run_file], tmp_path / "file" / "all.csv")


def test_rows_and_values_agree(run_file: Path) -> None:
    text, numbers = rows([run_file]), values([run_file])
    assert len(text) == len(numbers) and len({tuple(row) for row in text}) == 1
    assert all(set(number) == set(numbers[0]) for number in numbers)
    row = next(row for row in text if row["backend"] == "jax" and "step" in row["case"])
    assert row["measured"].endswith("µs") and row["ratio"].count(".") == 3
    failed = next(row for row in text if row["measured"] == "failed")
    assert failed["notes"] == "no answer within 60 s; choose smaller sizes"


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_mixed_columns_are_text_and_integers_stay_integers(tmp_path: Path, suffix: str) -> None:
    writer = Writer(tmp_path / "run.jsonl")
    writer.append(HEADER)
    for number, size in enumerate((1, "two", True, None, 2.5, 2**70)):
        measured = (Measurement("time", "s", (0.1, 0.2)),)
        parameters = {"size": size, "lag": number, "large": 2**60 + number if number else 0.5}
        writer.append(Record("s", f"c{number}", "torch", 0, "ok", parameters, measurements=measured))
    writer.close()
    table = read_table(export([writer.path], tmp_path / f"out.{suffix}"))
    sizes = ["1", "two", "true", "", "2.5", str(2**70)]
    assert table["size"].fillna("").tolist() == [size for size in sizes for _ in range(2)]
    assert table["lag"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] and table["sample"].tolist() == [0, 1] * 6
    assert table["large"].tolist()[:4] == [0.5, 0.5, 2.0**60, 2.0**60]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_run_without_records_is_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    writer = Writer(tmp_path / "run.jsonl")
    writer.append(HEADER)
    writer.close()
    table = read_table(export([writer.path], tmp_path / f"out.{suffix}"))
    assert len(table) == 0 and {"replicate_key", "value", "turn"} <= set(table)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_failed_export_leaves_what_was_there(
    run_file: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export([run_file], tmp_path / f"out.{suffix}")
    before = out.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("analysis.report.export._of_samples", full)
    with pytest.raises(StoreError, match="No space left"):
        export([run_file], out)
    assert out.read_bytes() == before and [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
