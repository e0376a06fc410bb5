"""Every sample leaves as one row, refusals too; the terminal's rows say the same as the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.export import export
from analysis.show import rows, values
from results.store import StoreError, read


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
