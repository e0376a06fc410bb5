"""Which code a worker runs: this checkout by default, or that of another revision, with an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INTRODUCTION_SECONDS = 120.0
_INTRODUCTION = """
import json, sys
import impls
from bench import environment
described = environment.describe(int(sys.argv[1]))
print(json.dumps({"protocol": environment.PROTOCOL, "machine": environment.machine_name(described),
                  "environment": described, "backends": impls.names()}))
"""


class CodeFails(RuntimeError):
    """Code that does not even start here; the message gives its last words."""


@dataclass(frozen=True, slots=True)
class Code:
    """The folder that holds `impls` and `bench`, and the interpreter to run them with."""

    root: Path = ROOT
    python: str = sys.executable

    @property
    def python_path(self) -> str:
        """This code first, so that it wins over an installed copy and over the checkout one stands in."""
        return os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])])

    def introduce(self, threads: int) -> Introduction:
        """What the code says of itself and of the machine, in a process of its own. Raises `CodeFails`."""
        command = [self.python, "-P", "-c", _INTRODUCTION, str(threads)]
        variables = os.environ | {"PYTHONPATH": self.python_path}
        try:
            said = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=INTRODUCTION_SECONDS)
        except subprocess.TimeoutExpired:
            raise CodeFails(f"said nothing within {INTRODUCTION_SECONDS:.0f} s") from None
        if said.returncode:
            raise CodeFails((said.stderr.strip().splitlines() or [f"exited with code {said.returncode}"])[-1])
        return Introduction(**json.loads(said.stdout.splitlines()[-1]))


@dataclass(frozen=True, slots=True)
class Introduction:
    """The protocol this code measures by, the machine as it names it, its environment, and the backends it has."""

    protocol: int
    machine: str
    environment: dict[str, Any]
    backends: list[str]

    @property
    def dirty(self) -> bool:
        return bool(self.environment["git"]["dirty"])


HERE = Code()
