"""The cache of compiled files: built once, rebuilt when damaged, whole under several processes."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from impls import Unavailable
from impls.cuda.runtime.compile import Artifacts, folder


def never() -> bytes:
    raise AssertionError("built again")


def test_built_once_and_named_by_all_inputs(tmp_path):
    artifacts = Artifacts(tmp_path)
    path = artifacts.get("kind", ["a", "bc"], ".bin", lambda: b"one")
    assert artifacts.get("kind", ["a", "bc"], ".bin", never) == path
    other = artifacts.get("kind", ["ab", "c"], ".bin", lambda: b"two")  # the same letters, other inputs
    assert (path.read_bytes(), other.read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("damage", [b"", b"on", b"one!", None])
def test_a_damaged_file_is_built_again(tmp_path, damage):
    path = Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"one")
    path.unlink() if damage is None else path.write_bytes(damage)
    assert Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"one").read_bytes() == b"one"


def test_a_damaged_seal_is_built_again(tmp_path):
    path = Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"one")
    path.with_name(path.name + ".sha256").write_bytes(b"\xff")
    assert Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"two").read_bytes() == b"two"


def test_a_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError, match="built again"):
        Artifacts(tmp_path).get("kind", ["a"], ".bin", never)
    assert not list(tmp_path.rglob("*.*"))


def _get(root) -> bytes:
    return Artifacts(root).get("kind", ["a"], ".bin", lambda: b"x" * 1_000_000).read_bytes()


def test_several_processes_at_once(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert set(pool.map(_get, [tmp_path] * 12)) == {b"x" * 1_000_000}
    assert len(list((tmp_path / "kind").iterdir())) == 2  # no temporary file is left


def test_the_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTM_BENCH_CACHE", str(tmp_path))
    assert folder() == tmp_path
    monkeypatch.delenv("LSTM_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert folder() == tmp_path / "lstm-bench"


def test_a_folder_that_cannot_be_used_is_named_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"kept in .*file, which cannot be used \(Not a directory\); set LSTM_BENCH_CACHE to"):
        Artifacts(tmp_path / "file").get("kind", ["a"], ".bin", lambda: b"one")

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(Unavailable, match=r"cannot be used \(Permission denied\); set LSTM_BENCH_CACHE"):
        Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"one")


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        path = Artifacts(tmp_path).get("kind", ["a"], ".bin", lambda: b"one")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o644}
