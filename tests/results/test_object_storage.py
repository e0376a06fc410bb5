"""Copies of runs by fsspec: on a local and on an in-memory file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import object_storage
from results.store import StoreError

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'lstm-bench[fleet]'")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "2026-11-27" / "a-machine" / "120000-smoke.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"line":"run"}\n')
    return path


def test_a_run_keeps_its_place_on_a_local_file_system(run: Path, tmp_path: Path):
    url = f"file://{tmp_path}/bucket/prefix/"
    (sent,) = object_storage.send([run], tmp_path / "runs", url)
    copy = tmp_path / "bucket/prefix/2026-11-27/a-machine/120000-smoke.jsonl"
    assert copy.read_bytes() == run.read_bytes() and sent == f"file://{copy}"


def test_a_longer_run_replaces_its_copy_in_memory(run: Path, tmp_path: Path):
    system = fsspec.filesystem("memory")
    for text in ("first\n", "first\nsecond\n"):
        run.write_text(text)
        (sent,) = object_storage.send([run], tmp_path / "runs", "memory://bucket")
        assert system.cat_file(sent) == text.encode()
    assert [path.rpartition("/")[2] for path in system.find("memory://bucket")] == [run.name]
    system.rm("memory://bucket", recursive=True)


@pytest.mark.parametrize("url", ["nowhere://bucket", "s3://bucket/prefix"])
def test_an_address_that_nothing_writes_to_is_refused_before(url: str):
    if url.startswith("s3") and object_storage.importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed here")
    with pytest.raises(StoreError, match=f"cannot write to {url}: .*(not known|s3fs)"):
        object_storage.require(url)


def test_a_copy_that_fails_names_the_run_that_is_kept(run: Path, tmp_path: Path):
    (tmp_path / "bucket").write_text("a file in the way")
    with pytest.raises(StoreError, match="it is kept where it is"):
        object_storage.send([run], tmp_path / "runs", f"file://{tmp_path}/bucket/prefix")
    assert run.exists()
