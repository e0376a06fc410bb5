"""Which code a worker runs: this checkout by default, or that of another revision, with an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import environment
from bench.regression.revision_backends import RevisionBackends

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


class CodeFails(RuntimeError):
    """Code that does not even start here; the message gives its last words."""


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

    def introduce(self, threads: int) -> Introduction:
        """What the code says of itself and of the machine, in a process of its own.

        Raises `CodeFails`, also where what would run is another's code. Which host this is and which code, by its commit and
        down to what is not committed, is found here, lest it depend on the revision.
        """
        if self.backends is not None and (problem := self.backends.problem()):
            raise CodeFails(problem)
        command = [self.python, "-P", "-c", _INTRODUCTION, str(threads), *environment.ROOMS]
        # Without bytecode, which a revision that does not ignore it would call an uncommitted change.
        variables = environment.variables() | self.variables | {"PYTHONDONTWRITEBYTECODE": "1"}
        try:
            said = subprocess.run(
                command, env=variables, capture_output=True, encoding="utf-8", errors="replace", timeout=INTRODUCTION_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise CodeFails(f"said nothing within {INTRODUCTION_SECONDS:.0f} s") from None
        if said.returncode:
            raise CodeFails((said.stderr.strip().splitlines() or [f"exited with code {said.returncode}"])[-1])
        values = json.loads(said.stdout.splitlines()[-1])
        self._check_places(values.pop("places"))
        described = values["environment"]
        described |= {"host": environment.host()} | self._identity(described)
        self._check_commit(described["git"])
        return Introduction(**values)

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
class Introduction:
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
