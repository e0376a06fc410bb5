"""A revision is measured by its own code or not at all; what tells hosts and uncommitted changes apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.harness import plan
from bench.machine import environment
from bench.machine.environment import WORKER_PACKAGES
from bench.processes.code import Code, CodeFails, SourceInfo
from bench.regression import comparison
from bench.regression.comparison import SIDES, ComparisonSide
from bench.regression.revisions import Repository
from tests.lstm_bench.history_repository import History


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    history = History(tmp_path_factory.mktemp("repository") / "project").with_code()
    history.commit("with code")
    return history


@pytest.mark.parametrize("room", WORKER_PACKAGES)
def test_a_missing_package_is_never_taken_from_elsewhere(made: History, tmp_path: Path, room: str):
    shutil.copytree(made.folder, tmp_path / "code")
    shutil.rmtree(tmp_path / "code" / room)
    with pytest.raises(CodeFails, match=f"it has no package {room} of its own, so other code would be measured in its place"):
        Code(tmp_path / "code").describe_source(1)


def test_a_folder_of_that_name_without_code_does_not_count(made: History, tmp_path: Path):
    for room in WORKER_PACKAGES:
        (tmp_path / room).mkdir()
    with pytest.raises(CodeFails, match="it has no package impls"):
        Code(tmp_path).describe_source(1)


def test_the_reported_commit_must_be_the_requested_one(made: History):
    commit = Repository(made.folder).resolve("HEAD")
    said = Code(made.folder, commit=commit).describe_source(1)
    assert said.environment["git"]["commit"] == commit and said.environment["host"] == environment.host()
    with pytest.raises(CodeFails, match=f"it says that it is commit {commit}, and 0000"):
        Code(made.folder, commit="0" * 40).describe_source(1)


def test_asking_a_revision_leaves_no_bytecode(tmp_path: Path):
    history = History(tmp_path / "project").with_code()
    (history.folder / ".gitignore").unlink()
    history.commit("ignores nothing")
    with Repository(history.folder).checkout("HEAD") as worktree:
        assert not Code(worktree).describe_source(1).dirty
        assert not list(worktree.rglob("__pycache__"))


def test_every_change_of_the_code_and_nothing_else_is_hashed(made: History, tmp_path: Path):
    root = tmp_path / "code"
    shutil.copytree(made.folder, root)
    found = [environment.code_hash(root)]
    assert found[0] == environment.code_hash(made.folder) == Code(made.folder).describe_source(1).environment["code"]
    stray = root / "impls" / "stray.py"
    table = root / "impls" / "table.json"
    edits = (
        (root / "bench" / "run.py", "2\n"),
        (root / "bench" / "run.py", "3\n"),
        (stray, ""),
        (stray, "5\n"),
        (table, "1\n"),
    )
    for path, text in edits:
        path.write_text(text)
        found.append(environment.code_hash(root))
    assert len(set(found)) == 6
    (root / "README.md").write_text("written about it")
    for name in ("runs", "reference"):
        (root / "results" / name).mkdir(parents=True)
        (root / "results" / name / "measured.json").write_text("by it")
    assert environment.code_hash(root) == found[-1]


@pytest.mark.parametrize("changed", ["python", "packages", "host", "code"])
def test_what_was_begun_with_another_is_not_continued(changed: str):
    described = {"python": "3.12", "packages": {"numpy": "2"}, "host": "a", "code": "b"}
    other = described | {changed: {"numpy": "3"} if changed == "packages" else "other"}
    assert environment.continues(described) != environment.continues(other)
    said = [SourceInfo(1, "m", one | {"git": {"commit": "c", "dirty": True}}, []) for one in (described, other)]
    chosen = plan.make("smoke", ["numpy"], threads=1)
    keys = [comparison._key(chosen, dict.fromkeys(SIDES, ComparisonSide("HEAD", Code(), one)), {}) for one in said]
    assert keys[0] != keys[1], "and no comparison is resumed across it"


def test_hosts_of_one_model_differ_unless_a_pool_is_named(monkeypatch: pytest.MonkeyPatch):
    read = environment._read
    identity = "a" * 32
    monkeypatch.delenv(environment.HOST_VARIABLE, raising=False)
    monkeypatch.setattr(environment, "_read", lambda path: identity if path == "/etc/machine-id" else read(path))
    one = environment.host()
    identity = "b" * 32
    two = environment.host()
    assert one and two and one != two and "a" * 8 not in one
    assert environment.machine_name(environment.describe(1)) == environment.machine_name(
        environment.describe(1) | {"host": one}
    )
    monkeypatch.setenv(environment.HOST_VARIABLE, "pool")
    pool = environment.host()
    identity = "a" * 32
    assert environment.host() == pool not in (one, two)
    monkeypatch.delenv(environment.HOST_VARIABLE)
    identity = ""
    assert environment.host() is None, "a container without an identity says nothing rather than something wrong"
