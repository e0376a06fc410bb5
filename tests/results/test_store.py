"""Runs on disk: append-only, readable after any interruption, across schema versions, with clear errors."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from results import store
from results.record import SCHEMA, Footer, Header, InvalidRecord, Measurement, Record, decode, encode
from results.store import Corrupt, DamagedLine, NameTaken, StoreError, WriteFailed

ROOT = Path(__file__).parent.parent.parent

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


def test_a_half_written_last_line_is_skipped_with_a_warning(tmp_path):
    path = written(tmp_path, HEADER, RECORD)
    with path.open("a") as file:
        file.write(encode(FOOTER)[:20])
    with pytest.warns(DamagedLine, match="line 3 skipped"):
        assert store.read(path).records == (RECORD,)
    written(tmp_path, FOOTER)
    with pytest.warns(DamagedLine):
        run = store.read(path)
    assert run.finished and run.records == (RECORD,)


def test_a_damaged_line_is_told_from_one_cut_off(tmp_path):
    path = written(tmp_path, HEADER, RECORD, FOOTER)
    head, record, foot = path.read_text().splitlines()
    for cut in (5, 30, len(record) - 40, len(record) - 1):
        path.write_text("\n".join([head, record[:cut], foot]) + "\n")
        with pytest.warns(DamagedLine, match="line 2 skipped: it was half-written"):
            assert store.read(path).damaged == ()
    for spoilt in (record.replace(":", ";", 3), "no JSON", "{}", record[40:]):
        path.write_text("\n".join([head, spoilt, foot]) + "\n")
        with pytest.warns(DamagedLine, match=r"line 2 skipped: it is damaged .*; restore the file from a copy"):
            assert store.read(path).damaged == (2,)


def test_a_run_is_born_with_its_first_line_and_a_name_of_its_own(tmp_path):
    writers = [store.create(tmp_path, HEADER) for _ in range(3)]
    paths = [writer.path for writer in writers]
    assert [path.stem for path in paths] == ["120000-smoke", "120000-smoke-2", "120000-smoke-3"] and store.find(
        tmp_path
    ) == paths
    for writer in writers:
        writer.append(FOOTER)
        writer.close()
    assert [store.read(path).header.run for path in paths] == [path.stem for path in paths], "records name their own run"
    assert all(store.read(path).finished for path in paths)
    with pytest.raises(NameTaken, match="is there already"):
        store.create(tmp_path, HEADER, numbered=False)
    assert not list(tmp_path.rglob("*.part"))


def test_two_processes_that_create_at_once_never_share_a_file(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.results.test_store import HEADER; from results import store\n"
        "for _ in range(20): store.create(Path(sys.argv[1]), HEADER).close()"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, tmp_path], cwd=ROOT) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    found = store.find(tmp_path)
    assert len(found) == 40 and len({store.read(path).header.run for path in found}) == 40
    assert all(path.read_text().count("\n") == 1 for path in found)


def test_a_failed_first_line_leaves_nothing(tmp_path, monkeypatch):
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "write", full)
    with pytest.raises(WriteFailed, match="No space left on device"):
        store.create(tmp_path, HEADER)
    monkeypatch.undo()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_header_is_read_without_the_rest(tmp_path):
    path = written(tmp_path, HEADER)
    path.write_text(path.read_text() + "rubbish\n")
    assert store.header_of(path) == HEADER
    for text in ("", "rubbish\n", encode(RECORD) + "\n"):
        path.write_text(text)
        for read in (store.read, store.header_of):
            with pytest.raises(Corrupt, match="restore the file from a copy of it, or move it out of the folder"):
                read(path)


def test_what_will_be_written_later_is_tried_before(tmp_path):
    store.check_writable(tmp_path / "new.md")
    assert not (tmp_path / "new.md").exists()
    (tmp_path / "old.md").write_text("kept")
    store.check_writable(tmp_path / "old.md")
    assert (tmp_path / "old.md").read_text() == "kept"
    with pytest.raises(StoreError, match="name another file"):
        store.check_writable(tmp_path / "nowhere" / "new.md")


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


@pytest.mark.parametrize(("harm", "said"), [
    (lambda path: path.unlink(), "can no longer be found"),
    (lambda path: path.parent.rename(path.parent.with_name("moved")), "can no longer be found"),
    (lambda path: path.write_bytes(b""), "shrank from"),
    (lambda path: path.rename(path.with_name("other")) and path.write_bytes(b"x" * 9999), "was replaced by another file"),
], ids=["removed", "moved", "emptied", "replaced"])  # fmt: skip
def test_a_vanished_or_cut_file_is_noticed_at_the_next_write(tmp_path, harm, said):
    writer = store.create(tmp_path, HEADER)
    writer.append(RECORD)
    harm(writer.path)
    with pytest.raises(WriteFailed, match=said):
        writer.append(RECORD)


def test_every_line_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    """What was synced, by its size: a kill of the machine keeps every line that `append` returned for."""
    synced: list[int] = []
    sync = store.os.fsync
    monkeypatch.setattr(store.os, "fsync", lambda file: (sync(file), synced.append(store.os.fstat(file).st_size)))
    writer = store.create(tmp_path, HEADER)
    writer.append(RECORD)
    assert writer.path.stat().st_size == synced[-1]
    writer.append(RECORD, FOOTER)
    assert writer.path.stat().st_size == synced[-1]
