"""Which code a worker runs: this checkout, another revision's, or a revision's backends under this harness."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import subprocess
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import impls
from bench.machine import environment, git
from lstm_bench.errors import ExitCode, UserError

# Backends that a revision of a user's own repository supplies: where they lie, and what a worker needs to import them.

VARIABLE = "LSTM_BENCH_BACKENDS"
# Told to workers of a revision: its checkout, and the working tree whose modules must not stand in for the revision's.
REVISION_VARIABLE, WORKING_TREE_VARIABLE = "LSTM_BENCH_REVISION", "LSTM_BENCH_WORKING_TREE"
LISTED = 4  # files named in a message


class ForeignModule(RuntimeError):
    """A module of the working tree that was imported where a revision is measured."""


@dataclass(frozen=True, slots=True)
class RevisionBackends:
    """Where one revision's backends lie.

    tree: the revision's checkout, or the working tree itself. paths: files and folders of backends, relative to it.
    harness: a folder that holds links to the harness's packages and nothing else (see `link_harness`).
    working_tree: the user's, where `tree` is another. installed: where pip has put the revision's packages, if it was asked to.
    """

    tree: Path
    paths: tuple[str, ...]
    harness: Path
    working_tree: Path | None = None
    installed: Path | None = None

    def files(self) -> dict[str, Path]:
        """Each backend's file, by name. In a folder a backend is a module that defines `load`."""
        return dict(sorted(self._named()))

    def folders(self) -> list[Path]:
        """The folders to search for the backends."""
        places = (self.tree / path for path in self.paths)
        return list(dict.fromkeys(place if place.is_dir() else place.parent for place in places))

    def problem(self) -> str | None:
        """Why these backends cannot be measured, as a sentence on the revision; None where they can."""
        for path in self.paths:
            if reason := self._problem_of(path):
                return reason
        named = list(self._named())
        files = dict(named)
        if not files:
            where = " and ".join(self.paths)
            return f"it has no backend in {where}: no Python file there defines load(spec, params, batch)"
        if taken := sorted(files.keys() & set(impls.built_in())):
            return f"its {self._shown(files[taken[0]])} has the name of the built-in backend {taken[0]}; rename the file"
        for name, file in files.items():
            if twice := [other for its, other in named if its == name and other != file]:
                return f"it has two backends named {name}: {self._shown(twice[0])} and {self._shown(file)}"
            if not file.resolve().is_relative_to(self.tree.resolve()):
                return f"its {self._shown(file)} is a link out of the repository, to {file.resolve()}"
        return self._unreadable(files)

    def python_path(self) -> list[str]:
        """The harness first, then the revision, which may bring packages that its backends import, then the caller's."""
        roots = [self.tree, self.tree / "src"] if (self.tree / "src").is_dir() else [self.tree]
        entries = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        return [str(path) for path in (self.harness, *filter(None, [self.installed]), *roots)] + [
            str(self._of_revision(Path(entry).absolute())) for entry in entries
        ]

    def variables(self) -> dict[str, str]:
        """Environment variables of a worker, `PYTHONPATH` aside."""
        known = {VARIABLE: os.pathsep.join(map(str, self.folders()))}
        if self.working_tree is not None:
            known |= {REVISION_VARIABLE: str(self.tree), WORKING_TREE_VARIABLE: str(self.working_tree)}
        return known

    def state_hash(self, harness: str) -> str:
        """Of the harness, the revision's tree, what is not committed in it, and its backends' files."""
        found = hashlib.sha256(f"{harness} {' '.join(self.paths)}\n".encode())
        tree = git.ask(self.tree, "rev-parse", "HEAD^{tree}", seconds=environment.GIT_SECONDS)
        found.update(tree.text.encode())
        for path in [*self._changed(), *self.files().values()]:
            found.update(f"{path.relative_to(self.tree).as_posix()} ".encode())
            if path.is_file():
                found.update(f"{path.stat().st_size}\n".encode())
                found.update(path.read_bytes() if path.suffix in environment.SOURCES else b"")
        return found.hexdigest()[:16]

    def git_state(self) -> dict[str, object]:
        """The commit of the user's repository, and whether anything in it or in the backends is not committed."""
        return environment.git_state(self.tree, [path.relative_to(self.tree) for path in self.files().values()])

    def _named(self) -> Iterator[tuple[str, Path]]:
        for path in self.paths:
            place = self.tree / path
            if place.is_file():
                yield place.stem, place
            elif place.is_dir():
                yield from _in_folder(place)

    def _problem_of(self, path: str) -> str | None:
        place = self.tree / path
        if place.is_dir() or (place.suffix == ".py" and place.is_file()):
            if place.is_file() and not _defines_load(place):
                return f"its {path} is no backend: it does not define load(spec, params, batch)"
            return None
        if place.exists():
            return f"its {path} is neither a Python file nor a folder"
        inside = f" (submodules are not checked out, and {path} may lie in one)"
        return f"it has no {path}{inside if (self.tree / '.gitmodules').exists() else ''}"

    def _unreadable(self, files: dict[str, Path]) -> str | None:
        """The harness reads what a backend runs (DEVICES and the like) from its file, without importing it."""
        with impls.searched(self.folders()):
            for name, file in files.items():
                try:
                    impls.facts(name)
                except (SyntaxError, ValueError) as error:
                    return f"its {self._shown(file)} cannot be read: {type(error).__name__}: {error}"
        return None

    def _shown(self, file: Path) -> str:
        return file.relative_to(self.tree).as_posix()

    def _changed(self) -> list[Path]:
        answer = git.ask(
            self.tree, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".", *environment.NOT_CODE,
            seconds=environment.GIT_SECONDS,
        )  # fmt: skip
        return [self.tree / entry[3:] for entry in answer.text.split("\0") if entry]

    def _of_revision(self, entry: Path) -> Path:
        """The revision's own folder in place of the working tree's, where it has it."""
        if self.working_tree is None or not entry.is_relative_to(self.working_tree):
            return entry
        own = self.tree / entry.relative_to(self.working_tree)
        return own if own.exists() else entry


def link_harness(root: Path, folder: Path) -> Path:
    """Link the packages that a worker runs into `folder`, so that nothing else beside them comes before the user's."""
    folder.mkdir(exist_ok=True)
    for package in (*environment.WORKER_PACKAGES, "lstm_bench"):  # the latter for its base class of errors
        (folder / package).symlink_to(root / package, target_is_directory=True)
    return folder


def require_own_modules() -> None:
    """Check, in a worker, that what was imported is the revision's and not the working tree's.

    An editable installation makes Python take a user's package from the working tree, whatever revision is measured.

    Raises:
        ForeignModule: A module came from the working tree although the revision has the file or its top folder.
    """
    if WORKING_TREE_VARIABLE not in os.environ:
        return
    working_tree, revision = Path(os.environ[WORKING_TREE_VARIABLE]), Path(os.environ[REVISION_VARIABLE])
    files = ((name, getattr(module, "__file__", None)) for name, module in list(sys.modules.items()))
    inside = [(name, Path(file).relative_to(working_tree)) for name, file in files if file and _is_inside(file, working_tree)]
    foreign = [f"{name} ({working_tree / path})" for name, path in inside if (revision / path.parts[0]).exists()]
    if foreign:
        more = f" and {len(foreign) - LISTED} more" if len(foreign) > LISTED else ""
        raise ForeignModule(
            f"imported from the working tree and not from the revision: {', '.join(foreign[:LISTED])}{more}; put the folder "
            "that holds the package on PYTHONPATH (it is taken from each revision), or use --build-environments"
        )


def _is_inside(file: str, folder: Path) -> bool:
    return file.startswith(f"{folder}{os.sep}")


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    for module in pkgutil.iter_modules([str(folder)]):
        file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
        if not module.name.startswith("_") and file.is_file() and _defines_load(file):
            yield module.name, file


def _defines_load(file: Path) -> bool:
    """Whether a module's own names include `load`; True of a file that is no valid Python, so that it is not missed."""
    try:
        module = symtable.symtable(file.read_bytes(), str(file), "exec")  # type: ignore[arg-type]
    except (SyntaxError, ValueError):
        return True
    return any(
        symbol.get_name() == "load" and (symbol.is_assigned() or symbol.is_imported()) for symbol in module.get_symbols()
    )


# Which code a worker runs: this checkout by default, or that of another revision, with an interpreter of its own.

ROOT = Path(__file__).resolve().parents[2]
INTRODUCTION_SECONDS = 120.0
_INTRODUCTION = """
import importlib, json, sys
import impls
try:
    from bench.machine import environment
except ModuleNotFoundError:  # a revision from when it lay elsewhere
    from bench import environment
places = {name: list(importlib.import_module(name).__path__)[0] for name in sys.argv[2:]}
described = environment.describe(int(sys.argv[1]))
print(json.dumps({"protocol": environment.PROTOCOL, "machine": environment.machine_name(described),
                  "environment": described, "backends": impls.names(), "places": places}))
"""


class CodeFails(UserError, RuntimeError):
    """Code that does not even start here; the message gives its last words."""

    exit_code = ExitCode.DOES_NOT_RUN


@dataclass(frozen=True, slots=True)
class Code:
    """The folder that holds `impls`, `bench` and `results`, and the interpreter to run them with.

    commit: whose code it must be, where it is a revision's. backends: where a revision supplies backends and no harness.
    """

    root: Path = ROOT
    python: str = sys.executable
    commit: str | None = None
    backends: RevisionBackends | None = None

    @property
    def python_path(self) -> str:
        """This code first, so that it wins over an installed copy and over the checkout one stands in."""
        if self.backends is not None:
            return os.pathsep.join(self.backends.python_path())
        return os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])])

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables by which a process runs this code."""
        own = {} if self.backends is None else self.backends.variables()
        return own | {"PYTHONPATH": self.python_path}

    def describe_source(self, threads: int) -> SourceInfo:
        """What the code says of itself and of the machine, in a process of its own.

        Raises `CodeFails`, also where what would run is another's code. Which host this is and which code, by its commit and
        down to what is not committed, is found here, lest it depend on the revision.
        """
        if self.backends is not None and (problem := self.backends.problem()):
            raise CodeFails(problem)
        command = [self.python, "-P", "-c", _INTRODUCTION, str(threads), *environment.WORKER_PACKAGES]
        # Without bytecode, which a revision that does not ignore it would call an uncommitted change.
        variables = git.variables() | self.variables | {"PYTHONDONTWRITEBYTECODE": "1"}
        try:
            answer = subprocess.run(
                command, env=variables, capture_output=True, encoding="utf-8", errors="replace", timeout=INTRODUCTION_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise CodeFails(f"said nothing within {INTRODUCTION_SECONDS:.0f} s") from None
        if answer.returncode:
            raise CodeFails((answer.stderr.strip().splitlines() or [f"exited with code {answer.returncode}"])[-1])
        values = json.loads(answer.stdout.splitlines()[-1])
        self._check_places(values.pop("places"))
        described = values["environment"]
        described |= {"host": environment.host()} | self._identity(described)
        self._check_commit(described["git"])
        return SourceInfo(**values)

    def _identity(self, described: dict[str, Any]) -> dict[str, Any]:
        """Which code was measured, and by which harness where that is not the same."""
        code = environment.code_hash(self.root)
        if self.backends is None:
            return {"code": code, "git": environment.git_state(self.root)}
        version = described["packages"].get("lstm-bench", "not installed")
        return {
            "code": self.backends.state_hash(code), "git": self.backends.git_state(),
            "harness": {"version": version, "code": code}, "backends_path": os.pathsep.join(self.backends.paths),
        }  # fmt: skip

    def _check_places(self, places: dict[str, str]) -> None:
        """Python takes a room that is missing here from wherever else it finds one, such as an installed copy."""
        strange = [name for name, place in places.items() if not Path(place).resolve().is_relative_to(self.root.resolve())]
        if strange:
            raise CodeFails(
                f"it has no package {' and no package '.join(strange)} of its own, so other code would be measured in its place"
            )

    def _check_commit(self, git_state: dict[str, Any]) -> None:
        commit = git_state["commit"]
        if self.commit is not None and commit != self.commit:
            because = f" ({git_state['reason']})" if commit is None else ""
            raise CodeFails(f"it says that it is commit {commit}{because}, and {self.commit} was asked for")


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The protocol this code measures by, the machine as it names it, its environment, and the backends it has."""

    protocol: int
    machine: str
    environment: dict[str, Any]
    backends: list[str]

    @property
    def dirty(self) -> bool | None:
        """Whether the code differs from its commit; None where git could not tell, or where there is no commit."""
        return self.environment["git"]["dirty"]


HERE = Code()
