"""The commit of a run is that of the repository that tracks the code, and what git does not say is unknown."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from bench.machine import environment, git
from bench.machine.environment import git_state
from bench.processes.code import Code, CodeFails
from bench.regression.revisions import Repository
from lstm_bench.commands import tracking
from tests.lstm_bench.history_repository import PACKAGES, History

GIT = shutil.which("git")


class Project(History):
    """A repository with as little code as counts."""

    def with_code(self) -> Project:
        for room in PACKAGES:
            (self.folder / room).mkdir(parents=True, exist_ok=True)
            (self.folder / room / "__init__.py").write_text(f'"""{room}"""\n')
        return self


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project").with_code()
    made.commit("code")
    return made


@pytest.fixture
def other(tmp_path: Path) -> History:
    """Somebody else's repository."""
    made = History(tmp_path / "other")
    (made.folder / "theirs.txt").write_text("theirs")
    made.commit("theirs")
    return made


def unknown(state: dict[str, object], reason: str) -> bool:
    return (state["commit"], state["committed"], state["dirty"]) == (None, None, None) and reason in str(state["reason"])


def test_a_clean_checkout_is_its_commit(project: Project):
    state = git_state(project.folder)
    assert state == {"commit": project.git("rev-parse", "HEAD"), "committed": "2026-01-01T00:00:01+00:00", "dirty": False}


@pytest.mark.parametrize("change", ["edited", "new", "staged", "deleted", "ignored", "hidden by a setting"])
def test_every_kind_of_change_makes_it_dirty(project: Project, change: str):
    mine, stray = project.folder / "bench" / "__init__.py", project.folder / "impls" / "mine.py"
    if change in ("edited", "staged"):
        mine.write_text("edited = True\n")
    if change == "staged":
        project.git("add", "--all")
    if change == "deleted":
        mine.unlink()
    if change == "ignored":
        (project.folder / ".git" / "info" / "exclude").write_text("mine.py\n")
    if change == "hidden by a setting":
        project.git("config", "status.showUntrackedFiles", "no")
        stray = stray.with_suffix(".txt")
    if change in ("new", "ignored", "hidden by a setting"):
        stray.write_text("mine = True\n")
    state = git_state(project.folder)
    assert state["commit"] == project.git("rev-parse", "HEAD") and state["dirty"] is True


def test_measured_data_are_no_change(project: Project):
    (project.folder / "results" / "runs").mkdir()
    (project.folder / "results" / "runs" / "a.jsonl").write_text("{}")
    assert git_state(project.folder)["dirty"] is False


@pytest.mark.parametrize("ignored", [False, True], ids=["untracked", "ignored"])
def test_a_copy_inside_another_repository_has_no_commit(project: Project, other: History, ignored: bool):
    copy = other.folder / "copies" / "project"
    shutil.copytree(project.folder, copy, ignore=shutil.ignore_patterns(".git"))
    if ignored:
        (other.folder / ".gitignore").write_text("copies/\n")
        other.commit("ignores it")
    assert unknown(git_state(copy), "does not track its code")


def test_nor_has_a_copy_at_the_top_of_another_repository(project: Project, other: History):
    (other.folder / ".git" / "info" / "exclude").write_text("*\n")
    shutil.copytree(project.folder, other.folder, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True)
    assert unknown(git_state(other.folder), "does not track its code")


def test_an_environment_inside_a_checkout_has_no_commit(project: Project):
    packages = project.folder / ".venv" / "lib" / "python3" / "site-packages"
    (project.folder / ".gitignore").write_text(".venv/\n")
    project.commit("ignores its environment")
    for room in PACKAGES:
        shutil.copytree(project.folder / room, packages / room)
    assert unknown(git_state(packages), "does not track its code")


def test_a_project_inside_a_repository_is_of_its_commit(project: Project, other: History):
    vendored = other.folder / "vendored"
    shutil.copytree(project.folder, vendored, ignore=shutil.ignore_patterns(".git"))
    commit = other.commit("vendors it")
    (other.folder / "theirs.txt").write_text("changed, and no matter of ours")
    assert git_state(vendored) | {"committed": ""} == {"commit": commit, "committed": "", "dirty": False}
    (vendored / "impls" / "__init__.py").write_text("edited = True\n")
    assert git_state(vendored)["dirty"] is True


def test_a_submodule_is_of_its_own_commit(project: Project, other: History):
    other.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project.folder), "inside")
    other.commit("takes it in")
    state = git_state(other.folder / "inside")
    assert (state["commit"], state["dirty"]) == (project.git("rev-parse", "HEAD"), False)


def test_a_linked_worktree_is_of_its_own_commit(project: Project):
    first = project.git("rev-parse", "HEAD")
    (project.folder / "bench" / "__init__.py").write_text("second = True\n")
    project.commit("second")
    with Repository(project.folder).checkout(first) as worktree:
        assert git_state(worktree)["commit"] == first and git_state(worktree)["dirty"] is False


def hooked(other: History) -> dict[str, str]:
    folder = other.folder / ".git"
    return {"GIT_DIR": str(folder), "GIT_WORK_TREE": str(other.folder), "GIT_INDEX_FILE": str(folder / "index")}


@pytest.mark.parametrize("names", [("GIT_DIR",), ("GIT_DIR", "GIT_WORK_TREE"), ("GIT_INDEX_FILE",)])
def test_variables_of_a_hook_mislead_nothing(project: Project, other: History, monkeypatch: pytest.MonkeyPatch, names):
    before, index = git_state(project.folder), (other.folder / ".git" / "index").read_bytes()
    commit = before["commit"]
    for name in names:
        monkeypatch.setenv(name, hooked(other)[name])
    assert git_state(project.folder) == before
    repository = Repository(project.folder)
    assert repository.resolve("HEAD") == commit
    with repository.checkout(str(commit)) as worktree:
        assert git_state(worktree)["commit"] == commit
    assert (other.folder / ".git" / "index").read_bytes() == index, "the index of the commit that is being made stays as it is"


def test_the_variables_are_gits_own_but_its_configuration():
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in listed if not name.startswith(("GIT_CONFIG", "GIT_NO_REPLACE"))} <= set(git.CHOOSING)
    assert not git.variables(dict.fromkeys(git.CHOOSING, "a"))
    assert git.variables({"GIT_SSH": "a", "A": "b"}) == {
        "GIT_SSH": "a", "A": "b",
    }  # fmt: skip


def test_without_git_nothing_is_known(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert unknown(git_state(project.folder), "git is not installed")


def slowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subcommand: str) -> None:
    """A git one subcommand of which takes longer than it may."""
    script = tmp_path / "bin" / "git"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nfor a in "$@"; do [ "$a" = {subcommand} ] && exec sleep 30; done\nexec {GIT} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    monkeypatch.setattr(environment, "GIT_SECONDS", 0.5)


def test_a_status_that_takes_too_long_is_unknown_and_not_clean(project: Project, tmp_path: Path, monkeypatch):
    slowed(tmp_path, monkeypatch, "status")
    state = git_state(project.folder)
    assert state["commit"] == project.git("rev-parse", "HEAD") and state["dirty"] is None
    assert state["reason"] == "git status did not answer within 0 s"


def test_a_commit_that_cannot_be_asked_for_in_time_is_unknown(project: Project, tmp_path: Path, monkeypatch):
    slowed(tmp_path, monkeypatch, "ls-files")
    assert unknown(git_state(project.folder), "git ls-files did not answer")


def test_where_git_refuses_the_folder_its_reason_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as git's own tests make it refuse
    assert unknown(git_state(project.folder), "dubious ownership")


def test_outside_of_any_repository_nothing_is_known(project: Project, tmp_path: Path):
    shutil.rmtree(project.folder / ".git")
    assert unknown(git_state(project.folder), "not a git repository")


def test_a_revision_of_unknown_cleanness_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the revision's own code says of itself: it may be older than the question."""
    made = History(tmp_path / "project").with_code()
    made.numpy_backend.parent.parent.parent.joinpath("bench", "machine", "environment.py").write_text(
        (made.folder / "bench" / "machine" / "environment.py").read_text()
        + "\ndef git_state(root=ROOT):\n    return {'commit': 'a' * 40, 'committed': None, 'dirty': False}\n"
    )
    commit = made.commit("says that it is always clean")
    assert Code(made.folder, commit=commit).describe_source(1).dirty is False
    monkeypatch.setattr(
        environment, "git_state",
        lambda root: {"commit": commit, "committed": None, "dirty": None, "reason": "git status did not answer"},
    )  # fmt: skip
    said = Code(made.folder, commit=commit).describe_source(1)
    assert said.dirty is None
    tracker = tracking.Tracker(None, tmp_path, None, Repository(made.folder))  # type: ignore[arg-type]
    found = tracker._measure(commit, Code(made.folder), said)
    assert found.result == "not as committed" and "git status did not answer" in found.reason
    assert not list(tmp_path.rglob("*.jsonl")), "nothing was measured"
    monkeypatch.setattr(environment, "git_state", lambda root: {"commit": None, "dirty": None, "reason": "git is ill"})
    with pytest.raises(CodeFails, match=r"commit None \(git is ill\), and"):
        Code(made.folder, commit=commit).describe_source(1)
