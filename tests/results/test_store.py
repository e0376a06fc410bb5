"""Runs on disk: append-only, readable after any interruption, across schema versions, with clear errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from results import store
from results.record import SCHEMA, Footer, Header, InvalidRecord, Measurement, Record, decode, encode
from results.store import DamagedLine, StoreError

HEADER = Header("120000-smoke", "2026-01-02T12:00:00+00:00", 1, "machine-abc", {"os": "x"}, {"suite": "smoke"})
RECORD = Record(
    "throughput", "case", "numpy", 0, "ok", {"batch": 1},
    measurements=(Measurement("time", "s", (1.0, 2.0), (2,), ("host_bound",)),), counts={"tokens": 1},
)  # fmt: skip
FOOTER = Footer("2026-01-02T12:01:00+00:00", True, 60.0, 30.0)


def written(root: Path, *lines) -> Path:
    path = store.new_path(root, HEADER)
    writer = store.Writer(path)
    for line in lines:
        writer.append(line)
    writer.close()
    return path


def test_what_is_written_is_read_back(tmp_path):
    path = written(tmp_path, HEADER, RECORD, FOOTER)
    assert path == tmp_path / "2026-01-02" / "machine-abc" / "120000-smoke.jsonl"
    run = store.read(path)
    assert (run.header, run.records, run.footer) == (HEADER, (RECORD,), FOOTER)
    assert run.finished
    assert store.find(tmp_path) == [path]


def test_a_half_written_last_line_is_skipped_with_a_warning_and_appending_goes_on(tmp_path):
    path = written(tmp_path, HEADER, RECORD)
    with path.open("a") as file:
        file.write(encode(FOOTER)[:20])
    with pytest.warns(DamagedLine, match="line 3 skipped"):
        assert store.read(path).records == (RECORD,)
    written(tmp_path, FOOTER)
    with pytest.warns(DamagedLine):
        run = store.read(path)
    assert run.finished and run.records == (RECORD,)


def test_a_newer_schema_is_read_as_far_as_it_is_known(tmp_path):
    newer = json.loads(encode(HEADER)) | {"schema": SCHEMA + 1, "flavour": "mint"}
    path = written(tmp_path)
    path.write_text(json.dumps(newer) + "\n" + encode(RECORD) + "\n")
    with pytest.warns(DamagedLine, match=f"schema {SCHEMA + 1}, newer than {SCHEMA}"):
        assert store.read(path).records == (RECORD,)


def test_an_older_line_without_later_fields_is_read():
    values = json.loads(encode(RECORD))
    for name in ("conditions", "started", "seconds", "provenance"):
        del values[name]
    del values["measurements"][0]["notes"]
    record = decode(json.dumps(values))
    assert isinstance(record, Record) and record.measurements[0].samples == (1.0, 2.0)


def test_a_file_that_is_no_run_is_refused(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text(encode(RECORD) + "\n")
    with pytest.raises(StoreError, match="its first line, the run header, is missing or damaged"):
        store.read(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write results to .*choose a folder with --out"):
        store.Writer(tmp_path / "file" / "run.jsonl")


def test_a_missing_folder_says_how_to_fill_it(tmp_path):
    with pytest.raises(StoreError, match="measure first with: lstm-bench run quick"):
        store.find(tmp_path / "nowhere")


@pytest.mark.parametrize(("change", "message"), [
    ({"status": "fine"}, "status must be one of ok, skipped, failed"),
    ({"status": "failed", "kind": None, "reason": "x"}, "a failed record needs a kind"),
    ({"status": "skipped"}, "a skipped record needs a reason"),
])  # fmt: skip
def test_outcomes_are_a_closed_set(change, message):
    with pytest.raises(InvalidRecord, match=message):
        Record("s", "c", "b", 0, **({"parameters": {}} | change))


def test_not_a_number_is_never_written():
    with pytest.raises(InvalidRecord, match="Out of range float"):
        encode(Record("s", "c", "b", 0, "ok", {}, measurements=(Measurement("time", "s", (math.nan,)),)))
