"""Revisions of a repository: checkouts, environments, and git's bisection over them."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench.machine import git
from bench.machine.environment import GIT_SECONDS
from bench.processes import scratch
from bench.processes.code import ROOT, Code, RevisionBackends, link_harness
from lstm_bench.errors import ExitCode, UserError

# Git revisions: found by name, listed in order, and checked out into folders of their own beside the working tree.

INSTALL_SECONDS = 3600.0
WORKTREES = "lstm-bench-revision-"  # and the number of the process they are for
UNSHALLOW = "this clone is shallow and may lack it; fetch the rest with: git fetch --unshallow"


class RevisionError(UserError, RuntimeError):
    """A revision that cannot be had; the message says why and what to do."""


class NotARepository(RevisionError):
    """A folder outside git, or no git at all."""

    exit_code = ExitCode.NO_REPOSITORY


class UnknownRevision(RevisionError):
    """A name that no commit goes by."""

    exit_code = ExitCode.UNKNOWN_REVISION


class ShallowClone(RevisionError):
    """A name that no commit of a clone goes by that does not have all of them."""

    exit_code = ExitCode.SHALLOW_CLONE


class NoSpan(RevisionError):
    """Two ends with nothing between them."""

    exit_code = ExitCode.EMPTY_RANGE


class DoesNotRun(RevisionError):
    """A revision whose code does not even start here."""

    exit_code = ExitCode.DOES_NOT_RUN


class BuildFails(RevisionError):
    """A revision that cannot be installed."""

    exit_code = ExitCode.BUILD_FAILS


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, by any folder inside it.

    backends: the files and folders from which each revision's backends are taken, to be measured by the installed harness,
    relative to the repository's root; empty where each revision is one of lstm-bench and is measured by its own harness.
    """

    folder: Path = ROOT
    backends: tuple[str, ...] = ()

    def git(self, *arguments: str) -> str:
        """What git prints. Raises `RevisionError` with git's own complaint."""
        command = git.command(self.folder, *arguments)
        try:
            run = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                env=git.variables() | {"LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise NotARepository("git is not installed, and revisions cannot be had without it") from None
        if run.returncode:
            if "not a git repository" in run.stderr:
                raise NotARepository(
                    f"{self.folder} is not in a git repository, so it has no revisions; name one with --repository"
                )
            raise RevisionError(run.stderr.strip() or f"git {arguments[0]} exited with code {run.returncode}")
        return run.stdout.strip()

    def top(self) -> Path:
        """The root of the working tree."""
        return Path(self.git("rev-parse", "--show-toplevel"))

    def has(self, commit: str, path: str) -> bool:
        """Whether a commit holds a file or folder, by its path from the root."""
        return git.ask(self.folder, "cat-file", "-e", f"{commit}:{path}", seconds=GIT_SECONDS).failure is None

    def resolve(self, name: str) -> str:
        """The full hash of a revision, a branch or a tag."""
        self.git("rev-parse", "--git-dir")
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except RevisionError:
            if self.shallow():
                raise ShallowClone(f"no revision {name!r} in {self.folder}; {UNSHALLOW}") from None
            raise UnknownRevision(f"no revision {name!r} in {self.folder}; see them with: git log --oneline") from None

    def shallow(self) -> bool:
        """Whether the clone lacks commits."""
        return self.git("rev-parse", "--is-shallow-repository") == "true"

    def between(self, span: str) -> list[str]:
        """Hashes of a range such as v1..main, oldest first, along first parents; of a single revision only itself.

        Raises `NoSpan` where there is none.
        """
        if ".." not in span:
            return [self.resolve(span)]
        for end in filter(None, span.replace("...", "..").split("..")):
            self.resolve(end)
        found = self.git("rev-list", "--reverse", "--first-parent", span).split()
        if not found:
            raise NoSpan(f"the range {span} holds no commit; see what it names with: git log --oneline {span}")
        return found

    def order(self) -> list[str]:
        """Every commit that HEAD descends from along first parents, oldest first."""
        self.resolve("HEAD")
        return self.git("rev-list", "--reverse", "--first-parent", "HEAD").split()

    def short(self, commit: str) -> str:
        """A commit's hash as git abbreviates it."""
        return self.git("rev-parse", "--short", commit)

    @contextmanager
    def checkout(self, commit: str, *options: str) -> Iterator[Path]:
        """The commit in a worktree of its own, gone again afterwards; the working tree is not touched."""
        self._remove_orphans()
        with tempfile.TemporaryDirectory(prefix=f"{WORKTREES}{os.getpid()}-") as folder:
            worktree = Path(folder) / commit[:12]
            self.git("worktree", "add", "--detach", "--quiet", *options, str(worktree), commit)
            try:
                yield worktree
            finally:
                self.git("worktree", "remove", "--force", str(worktree))

    def _remove_orphans(self) -> None:
        """Worktrees of runs that were killed: their process is gone, their folder may not be."""
        for path in re.findall(r"^worktree (.+)$", self.git("worktree", "list", "--porcelain"), flags=re.MULTILINE):
            owner = re.fullmatch(rf"{WORKTREES}(\d+)-.*", Path(path).parent.name)
            if owner and not _lives(int(owner[1])):
                shutil.rmtree(Path(path).parent, ignore_errors=True)
        self.git("worktree", "prune")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def build(worktree: Path, folder: Path, commit: str | None = None) -> Code:
    """A fresh environment with the revision and what it needs installed by pip. Raises `BuildFails` where that fails."""
    python = str(folder / "bin" / "python")
    constraints = worktree / "constraints.txt"
    limits = ["--constraint", str(constraints)] if constraints.exists() else []
    with _failures_told(worktree):
        venv.create(folder, with_pip=True)
        _pip(python, [*limits, f"{worktree}[peers]"])
    return Code(worktree, python, commit)


def install(worktree: Path, folder: Path) -> Path:
    """What pip makes of a revision of a user's repository, in `folder`. Its dependencies are those of this environment.

    Raises `BuildFails`.
    """
    with _failures_told(worktree):
        _pip(sys.executable, ["--no-deps", "--target", str(folder), str(worktree)])
    return folder


def _pip(python: str, arguments: list[str]) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=INSTALL_SECONDS, check=True,
        env=git.variables(),
    )  # fmt: skip


@contextmanager
def _failures_told(worktree: Path) -> Iterator[None]:
    """Raises `BuildFails` with the reason where an environment cannot be made or pip fails."""
    failed = f"revision {worktree.name} cannot be installed"
    try:
        yield
    except subprocess.TimeoutExpired:
        raise BuildFails(f"{failed}: pip took over {INSTALL_SECONDS:.0f} s") from None
    except subprocess.CalledProcessError as error:
        if "install" not in error.cmd:
            raise BuildFails(f"{failed}: no environment for it could be made: {error}") from error
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        raise BuildFails(f"{failed}: {(errors or lines or ['pip gave no reason'])[-1].strip()}") from error
    except OSError as error:
        raise BuildFails(f"{failed}: no environment for it could be made: {error}") from error


@contextmanager
def code_of(repository: Repository, commit: str, build_environment: bool = False) -> Iterator[Code]:
    """A commit's code checked out, and installed if asked, gone again afterwards.

    Where the repository supplies backends, these are what is checked out, and the code is the installed harness's.
    """
    with repository.checkout(commit) as worktree:
        if repository.backends:
            harness, installed = link_harness(ROOT, worktree.parent / "harness"), None
            if build_environment:
                installed = install(worktree, worktree.parent / "installed")
            supplied = RevisionBackends(worktree, repository.backends, harness, repository.top(), installed)
            yield Code(commit=commit, backends=supplied)
            return
        if not build_environment:
            yield Code(worktree, commit=commit)
            return
        with scratch.folder("environment") as folder:
            yield build(worktree, folder, commit)


@contextmanager
def working_tree(repository: Repository) -> Iterator[Code]:
    """The backends of the working tree as it is, with whatever is not committed, and the installed harness."""
    with scratch.folder("harness") as folder:
        yield Code(backends=RevisionBackends(repository.top(), repository.backends, link_harness(ROOT, folder)))


# Commits that travel to another machine, without the history that led to them.

ANY_COMMIT = "git -c uploadpack.allowAnySHA1InWant=true upload-pack"  # also what no branch points to


def packed(repository: Repository, commits: Sequence[str]) -> bytes:
    """HEAD and these commits with all of their files, as a zip archive that `unpacked` reads."""
    with scratch.folder("commits") as folder:
        copy = Repository(folder / "commits")
        copy.folder.mkdir()
        head = repository.resolve("HEAD")
        copy.git("init", "--quiet", "--template=", ".")
        copy.git(
            "fetch", "--quiet", "--depth=1", "--no-tags", f"--upload-pack={ANY_COMMIT}", str(repository.top()),
            *dict.fromkeys([*commits, head]),
        )  # fmt: skip
        copy.git("update-ref", "--no-deref", "HEAD", head)
        return Path(shutil.make_archive(str(folder / "packed"), "zip", copy.folder)).read_bytes()


def unpacked(contents: bytes, folder: Path) -> Path:
    """The repository that `packed` has packed, in `folder`."""
    folder.mkdir()
    # Not a tar archive, which Python before 3.11.4 unpacks to wherever its names lead.
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        archive.extractall(folder)
    return folder


# `git bisect` in a worktree of its own: git chooses the commit to judge, and narrows down by what is said of it.
#
# The user's checkout, and a bisection that may be going on in it, are not touched.

Word = Literal["good", "bad", "skip"]


@dataclass(frozen=True, slots=True)
class Bisection:
    """A bisection under way. `worktree` has no files; git keeps its notes there.

    Driven step by step instead of by `git bisect run`: one process keeps GOOD checked out (and installed), and git would read
    `compare`'s exit codes 2 and 3 as bad.
    """

    worktree: Repository

    def next(self) -> str | None:
        """The commit to judge; None where no judgement would narrow it down further."""
        return None if self.candidates() else self.worktree.git("rev-parse", "BISECT_HEAD")

    def judge(self, commit: str, word: Word) -> None:
        """Tell git what was found of a commit."""
        try:
            self.worktree.git("bisect", word, commit)
        except RevisionError:
            if not self.candidates():  # git also fails where only skipped commits are left
                raise

    def candidates(self) -> list[str]:
        """Once it is over: the first bad commit, or all that could be it where skipped ones lie between; in git's order."""
        log = self.worktree.git("bisect", "log")
        found = re.findall(r"^# (?:possible )?first bad commit: \[(\w+)\]", log, flags=re.MULTILINE)
        return list(dict.fromkeys(found))


@contextmanager
def bisection(repository: Repository, good: str, bad: str) -> Iterator[Bisection]:
    """Between two commits along first parents, gone again afterwards.

    Raises `NoSpan` where good does not precede bad.
    """
    along = repository.git("rev-list", "--first-parent", bad).split()
    if good not in along[1:]:
        raise NoSpan(
            f"{repository.short(good)} does not lie before {repository.short(bad)} along first parents, so there is nothing "
            "between them to search; name an ancestor as GOOD"
        )
    with repository.checkout(bad, "--no-checkout") as worktree:
        inside = replace(repository, folder=worktree)
        inside.git("bisect", "start", "--no-checkout", "--first-parent", bad, good)
        yield Bisection(inside)
