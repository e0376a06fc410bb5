"""Which repository a command is about, which harness measures its revisions, and which backends they supply.

The revisions of lstm-bench are measured each by its own harness. Those of any other repository supply backends, which the
installed harness measures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import impls
from bench.processes import scratch
from bench.processes.code import ROOT, VARIABLE, RevisionBackends
from bench.regression.revisions import NotARepository, Repository, RevisionError

OPTION = "--backends-path"
WORKING_TREE = "."  # in place of a revision: the working tree as it is
HARNESS_FILES = ("bench/asv_suite/throughput.py", "impls/backends/__init__.py")  # what a checkout of lstm-bench has


class NoBackends(RevisionError):
    """No path of backends was given, or no revision has a backend there; the message says what to give."""


class InvalidBackendsPath(RevisionError):
    """A path that cannot be taken from each revision of the repository."""


def find(folder: Path | None, backends_path: str | None, revisions: bool) -> Repository:
    """The repository that is meant, with the paths of its backends where it is not one of lstm-bench.

    Args:
        folder: Any folder inside it; None for the current one.
        backends_path: What `--backends-path` says; None for what the variable LSTM_BENCH_BACKENDS says.
        revisions: Whether revisions, or the working tree, of the repository are measured. Where they are not, a folder
            outside git, or without a path of backends, is no mistake: then this program's own code is measured.

    Raises:
        NotARepository, NoBackends, InvalidBackendsPath
    """
    named, own = Repository(folder or Path.cwd()), Repository(ROOT)
    try:
        top = named.top()
    except NotARepository:
        if backends_path is not None or folder is not None:
            raise
        if not revisions or (_is_top(own) and is_lstm_bench(own)):
            return own
        raise
    if is_lstm_bench(named):
        if backends_path is not None:
            raise InvalidBackendsPath(
                f"{OPTION} is for repositories of your own; {top} is a checkout of lstm-bench, where each revision is measured "
                "by its own harness and has its own backends"
            )
        return own if named.top() == ROOT else named
    asked = backends_path if backends_path is not None else os.environ.get(VARIABLE, "")
    if not asked.strip(os.pathsep):
        if not revisions:
            return own
        raise NoBackends(
            f"{top} is no checkout of lstm-bench, so lstm-bench has to be told where its backends are: name a file or folder "
            f"of backends, relative to the repository's root, as in {OPTION} backends (or in the variable {VARIABLE}); "
            "CONTRIBUTING.md of lstm-bench says how a backend is written"
        )
    try:
        paths = _relative(top, asked)
    except InvalidBackendsPath:
        if not revisions and backends_path is None:  # as for `run`: a folder anywhere
            return own
        raise
    if not revisions and backends_path is None and not all((top / path).exists() for path in paths):
        return own
    return Repository(named.folder, paths)


def of_history(folder: Path | None) -> Repository:
    """The repository along whose commits a history is read, whichever harness measured them."""
    named, own = Repository(folder or Path.cwd()), Repository(ROOT)
    return own if folder is None and not _is_repository(named) and _is_top(own) else named


def is_lstm_bench(repository: Repository) -> bool:
    """Whether HEAD is a revision of lstm-bench."""
    return all(repository.has("HEAD", name) for name in HARNESS_FILES)


def _is_repository(repository: Repository) -> bool:
    try:
        return repository.top().is_dir()
    except NotARepository:
        return False


def _is_top(repository: Repository) -> bool:
    """Whether the repository is that of the folder itself, and not of one that the folder lies in."""
    return _is_repository(repository) and repository.top() == repository.folder


def _relative(top: Path, asked: str) -> tuple[str, ...]:
    """The paths relative to the repository's root. Raises `InvalidBackendsPath` for one outside it."""
    found = []
    for entry in filter(None, asked.split(os.pathsep)):
        path = Path(entry).expanduser()
        if path.is_absolute():
            path = Path(os.path.realpath(path.parent)) / path.name
        inside = Path(os.path.normpath(top / path))
        if not inside.is_relative_to(top):
            raise InvalidBackendsPath(
                f"{entry} lies outside of the repository {top}, so that its revisions cannot supply it; name a file or folder "
                f"inside it with {OPTION}"
            )
        found.append(inside.relative_to(top).as_posix())
    return tuple(dict.fromkeys(found))


@contextmanager
def known_backends(repository: Repository, revisions: Sequence[str]) -> Iterator[list[str]]:
    """Within the block this process knows what the backends of these revisions can run; gives their names.

    Of one name the first revision's file counts. Without paths of backends nothing changes, and there are no names.

    Raises:
        NoBackends: None of the revisions supplies a backend.
    """
    if not repository.backends:
        yield []
        return
    problems: dict[str, str] = {}
    with scratch.folder("backends") as folder:
        for revision in dict.fromkeys(revisions):
            with _only_backends(repository, revision) as tree:
                supplied = RevisionBackends(tree, repository.backends, tree)
                if (problem := supplied.problem()) is not None:
                    problems[revision] = problem
                    continue
                for name, file in supplied.files().items():
                    if not (copy := folder / f"{name}.py").exists():
                        shutil.copyfile(file, copy)
        with impls.searched([folder]):
            names = sorted(set(impls.names()) - set(impls.built_in()))
            if not names:
                raise NoBackends(_nothing_found(repository, problems))
            yield names


def _nothing_found(repository: Repository, problems: dict[str, str]) -> str:
    revision, problem = next(iter(problems.items()))
    shown = "the working tree" if revision == WORKING_TREE else f"revision {repository.short(revision)}"
    several = f"none of the {len(problems)} revisions supplies a backend; of " if len(problems) > 1 else "no backend in "
    return (
        f"{several}{shown}: {problem}. Name a file or folder of backends, relative to {repository.top()}, with {OPTION} "
        f"(or the variable {VARIABLE})"
    )


@contextmanager
def _only_backends(repository: Repository, revision: str) -> Iterator[Path]:
    """A tree that holds at least the paths of backends of a revision."""
    if revision == WORKING_TREE:
        yield repository.top()
        return
    commit = repository.resolve(revision)
    wanted = [*repository.backends, ".gitmodules"]
    there = [path for path in wanted if path == "." or repository.has(commit, path)]
    with repository.checkout(commit, "--no-checkout") as tree:
        if there:
            Repository(tree).git("checkout", "--quiet", commit, "--", *(f":(literal){path}" for path in there))
        yield tree
