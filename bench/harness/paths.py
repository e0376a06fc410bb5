"""Paths that a study may need and no record may name: the corpus of the user, and where checkpoints are kept while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunPaths:
    """corpus: None where none was named. checkpoints: a folder of the run, gone when the run is finished; None for none."""

    corpus: Path | None = None
    checkpoints: Path | None = None

    def to_dict(self) -> dict[str, str]:
        return {name: str(path) for name, path in (("corpus", self.corpus), ("checkpoints", self.checkpoints)) if path}

    @staticmethod
    def from_dict(values: dict[str, str]) -> RunPaths:
        return RunPaths(**{name: Path(path) for name, path in values.items()})


NO_PATHS = RunPaths()
_here = NO_PATHS


def here() -> RunPaths:
    """Those of this process."""
    return _here


def settle(places: RunPaths) -> None:
    """Say once where they are: a worker does before it measures."""
    global _here
    _here = places
