"""What travels to the machines of a fleet: this code and the user's backends, as one folder, and data, as one parcel; tasks.

Ray carries both, each once to a node; a folder goes by the hash of its content, and a parcel is checked by the hash of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import environment
from bench.processes import scratch
from bench.processes.code import VARIABLE

PACKAGES = ("impls", "bench", "results", "analysis", "lstm_bench")
SUPPLIED = "supplied_backends"  # beside the packages: the folders of the user's backends, numbered
CORPUS, COMMITS = "corpus", "commits"  # names of what a parcel may hold
# One module of Ray's holds all packages, since their code finds its parts by their common folder, and its hook has a machine
# import them before any copy that is installed there. They are no working directory: Ray unpacks that anew for each node, so
# that a second node of one host would take it from under the first. An empty one keeps Ray from putting the head's own folders
# before all, and the hook leaves it.
MODULE, HOOK, NOWHERE = "lstm_bench_code", "lstm_bench_code.import_from_here", "nowhere"
_HOOK = """
import os
import sys
from pathlib import Path


def import_from_here():
    sys.path.insert(0, str(Path(__file__).parent))
    os.chdir(Path(__file__).parent)
"""
NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc", ".git", ".venv", "venv")


@contextmanager
def code_folder() -> Iterator[Path]:
    """This program's packages, without what it has measured, and the folders of `LSTM_BENCH_BACKENDS`, as one module.

    Beside it lies the working directory.
    """
    with scratch.folder("code") as folder:
        code = folder / MODULE
        (folder / NOWHERE).mkdir()
        (folder / NOWHERE / "empty").touch()
        code.mkdir()
        (code / "__init__.py").write_text(_HOOK, encoding="utf-8")
        for package in PACKAGES:
            shutil.copytree(environment.ROOT / package, code / package, ignore=_ignored)
        for number, path in enumerate(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))):
            if Path(path).is_dir():
                shutil.copytree(path, code / SUPPLIED / str(number), ignore=NOT_CODE)
        yield code


def _ignored(folder: str, names: list[str]) -> set[str]:
    measured = environment.MEASURED if Path(folder) == environment.ROOT / "results" else ()
    return {*NOT_CODE(folder, names), *measured}


def supplied() -> list[Path]:
    """The folders of the user's backends that came with this code."""
    return sorted((environment.ROOT / SUPPLIED).glob("*"), key=lambda path: int(path.name))


class Damaged(ValueError):
    """Something has become other data on its way."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Data by name, and the hash of each."""

    contents: Mapping[str, bytes]
    hashes: Mapping[str, str]

    @staticmethod
    def of(contents: Mapping[str, bytes]) -> Parcel:
        return Parcel(contents, {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})

    def open(self, name: str) -> bytes:
        """The data of this name. Raises `Damaged` where it is not what was sent, or was not sent."""
        data = self.contents.get(name)
        if data is None:
            raise Damaged(f"no {name} came with the task; head and machine are of different versions of lstm-bench")
        there = hashlib.sha256(data).hexdigest()
        if there != self.hashes[name]:
            raise Damaged(f"its {name} has the hash {there[:12]} and not {self.hashes[name][:12]}: it was damaged on the way")
        return data


NOTHING = Parcel({}, {})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task is carried out.

    runs: the folder that its runs are written to. folder: for what else it needs. parcel: the data of the fleet.
    given: what the head says to machines of this fingerprint.
    """

    runs: Path
    folder: Path
    parcel: Parcel
    given: Any


# Carries out a task, tells a `bench.harness.run.Listener` how far it is, and returns its result.
Job = Callable[[Any, Place, Any], Any]
